import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.runs import latency_pieces
from tfqnas.search.file_size import file_kb

TINY, MBV3 = spaces.get("tiny"), spaces.get("mbv3")


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 2])
def test_the_size_is_that_of_an_exported_file(bits):
    """0.5%: what class names and an architecture's text in the metadata may differ by."""
    from tflite_export.writer import write

    archs = [TINY.smallest(), TINY.sample(np.random.default_rng(2)), TINY.largest()]
    predicted = file_kb(TINY, 10, 1, np.array([TINY.encode(arch) for arch in archs]))
    for arch, kb in zip(archs, predicted, strict=True):
        bare = len(write(latency_pieces.lowered(TINY, arch, bits, 10, 1))) / 1000
        assert kb == pytest.approx(bare + 0.85, rel=0.005)  # extracted models say 0.85 kB of themselves


def test_the_sizes_of_the_readmes_quickstart():
    archs = [TINY.smallest(), Arch("tiny", 32, (2, 2, 2), (5, 5, 5, 3, 5, 5), (3, 6, 6, 4, 6, 4)), TINY.largest()]
    predicted = file_kb(TINY, 10, 1, np.array([TINY.encode(arch) for arch in archs]))
    np.testing.assert_allclose(predicted, [135.3, 307.8, 376.7], rtol=0.002)


@pytest.mark.parametrize("space", [TINY, MBV3], ids=lambda space: space.name)
def test_weights_are_a_byte_each_and_the_rest_is_additive(space, rng):
    """Another expand ratio in one block changes the size by as much whatever the other blocks are."""
    codes = rng.integers(0, space.choice_counts, (40, len(space.genes)))
    kernel, position = (space.gene_index(kind, space.searched[0], 0) for kind in ("kernel", "expand"))
    codes[:, kernel] = 0
    differences = []
    for choice in (0, 1):
        codes[:, position] = choice
        differences.append(file_kb(space, 10, 3, codes))
    np.testing.assert_allclose(np.diff(differences, axis=0), differences[1][0] - differences[0][0])
    low, high = (file_kb(space, 10, 3, space.encode(arch)[None]) for arch in (space.smallest(), space.largest()))
    assert low < differences[0].min() and high > differences[1].max()
