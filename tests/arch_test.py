import json
import subprocess
import sys

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.arch import NAME, Arch

ARCH = Arch("tiny", 24, (2, 1), (3, 5, 3), (3, 4, 6))
MIXED = Arch("own", 24, (1,), (3,), (3,), ((4, 2), (3, 2), (32, 2), (4, 2)))


def test_lists_numpy_values_and_whole_floats_give_the_same_architecture():
    other = Arch("tiny", np.int64(24), [np.int32(2), 1], np.array([3, 5, 3]), [3.0, 4, np.float32(6)])
    assert other == ARCH and hash(other) == hash(ARCH)
    assert other.to_json() == ARCH.to_json() and other.key == ARCH.key


def test_json_is_stable_and_restores_the_architecture():
    assert ARCH.to_json() == (
        '{"space": "tiny", "resolution": 24, "depths": [2, 1], "kernels": [3, 5, 3], "expands": [3, 4, 6]}'
    )
    for arch in (ARCH, Arch("my-net", 32, (1,), (3,), (3.5,)), Arch("fixed", 32, (), (), ())):
        assert Arch.from_json(arch.to_json()) == arch
        assert Arch.from_json(json.loads(arch.to_json())) == arch


def test_bits_are_pairs_of_ints_and_none_without_them():
    other = Arch("own", 24, [1], [3], [3], [[4, 2.0], np.array([3, 2]), (np.int64(32), 2), [4, 2]])
    assert other == MIXED and hash(other) == hash(MIXED) and other.bits == ((4, 2), (3, 2), (32, 2), (4, 2))
    assert ARCH.bits is None and Arch("own", 24, (1,), (3,), (3,)) != MIXED


def test_json_has_bits_only_where_there_are_some():
    assert "bits" not in ARCH.to_json() and Arch.from_json(ARCH.to_json()).bits is None
    assert Arch.from_json({**json.loads(ARCH.to_json()), "bits": None}) == ARCH
    assert MIXED.to_json().endswith('"expands": [3], "bits": [[4, 2], [3, 2], [32, 2], [4, 2]]}')
    assert Arch.from_json(MIXED.to_json()) == MIXED == Arch.from_json(json.loads(MIXED.to_json()))


def test_key_is_readable():
    assert ARCH.key == "tiny-r24-d2.1-k3.5.3-e3.4.6"
    assert MIXED.key == "own-r24-d1-k3-e3-w43f4-a2"


def test_longest_key_of_mbv3_qfa_is_a_file_name():
    space = spaces.get("mbv3_qfa").with_float()
    codes = np.random.default_rng(0).integers(0, space.choice_counts, (100, len(space.genes)))
    depths = [i for i, gene in enumerate(space.genes) if gene.kind == "depth"]
    codes[:, depths] = space.choice_counts[depths] - 1
    keys = {space.decode(code).key for code in codes}
    assert len(keys) == len(codes) and {len(key) for key in keys} == {238}
    assert all(NAME.fullmatch(key) for key in keys)


def test_key_tells_architectures_apart():
    archs = [
        ARCH,
        Arch("tiny", 28, (2, 1), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (1, 2), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (3,), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (2, 1), (3, 3, 3), (3, 4, 6)),
        Arch("tiny", 24, (2, 1), (3, 5, 3), (3, 4, 4)),
        Arch("tiny", 24, (1, 1), (3, 5), (3.5, 4)),
        Arch("tiny", 24, (1, 1), (3, 5), (3, 5.4)),
        Arch("tiny-r24", 24, (2, 1), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (), (), ()),
        *(
            Arch("tiny", 24, (1,), (3,), (3,), bits)
            for bits in (
                [(4, 4)] * 4,
                [(4, 3)] * 4,
                [(3, 4)] * 4,
                [(3, 4), (4, 4), (4, 4), (4, 4)],
                [(4, 3), (4, 4), (4, 4), (4, 4)],
                [(32, 4)] * 4,
                None,
            )
        ),
    ]
    assert len({arch.key for arch in archs}) == len(archs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernels": (3, 5)}, r"kernels: expected 3 values, one for each block of depths \(2, 1\), received 2"),
        ({"expands": (3, 4, 6, 6)}, "expands: expected 3 values, .* received 4"),
        ({"kernels": "353"}, "kernels: expected a list of numbers, received '353'"),
        ({"kernels": (3, 5, 3.5)}, "kernels: expected a whole number, received 3.5"),
        ({"depths": 3}, "depths: expected a list of numbers, received 3"),
        ({"depths": (4, -1)}, "depths: expected a positive number, received -1"),
        ({"expands": (3, 4, float("nan"))}, "expands: expected a positive number, received nan"),
        ({"resolution": True}, "resolution: expected a positive number, received True"),
        ({"space": "a/b"}, "space: expected letters, digits, .* received 'a/b'"),
        ({"bits": 4}, r"bits: expected None or pairs \(weights, inputs\) .* 2 to 8 or 32, received 4"),
        ({"bits": [4, 4]}, "bits: expected None or pairs .* received 4 for convolution 1"),
        ({"bits": [(4, 4), (4, 4, 4)]}, r"bits: .* received \(4, 4, 4\) for convolution 2"),
        ({"bits": [(4, 1)]}, r"bits: .* received \(4, 1\) for convolution 1"),
        ({"bits": [(9, 4)]}, r"bits: .* received \(9, 4\) for convolution 1"),
        ({"bits": [(2.5, 4)]}, r"bits: .* received \(2.5, 4\) for convolution 1"),
        ({"bits": [(4, True)]}, "bits: convolution 1: expected a positive number, received True"),
        ({"bits": ()}, r"bits: expected None or pairs .* received \(\)"),
    ],
)
def test_constructor_says_what_is_wrong(fields, message):
    right = {"space": "tiny", "resolution": 24, "depths": (2, 1), "kernels": (3, 5, 3), "expands": (3, 4, 6)}
    with pytest.raises(ValueError, match=message):
        Arch(**{**right, **fields})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"space": "tiny"}', "architecture: missing field resolution, depths, kernels, expands"),
        ({**json.loads(ARCH.to_json()), "width": 1}, "architecture: unknown field width; known are space, .*"),
        ("[1]", "architecture: expected an object, received a list"),
        ("{", "architecture: not valid JSON"),
    ],
)
def test_from_json_says_what_is_wrong(source, message):
    with pytest.raises(ValueError, match=message):
        Arch.from_json(source)


@pytest.mark.parametrize("module", ["arch", "spaces", "cost", "search"])
def test_imports_without_tensorflow(module):
    program = (
        f"import sys, tfqnas.{module}; "
        "assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules), sorted(sys.modules)"
    )
    path = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    result = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
