"""SPACE_TO_DEPTH: blocks of pixels as channels."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "space_to_depth"


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 5])
def test_litert_computes_the_same_integers(channels, size, rng):
    x = activation("x", (2 * size, 3 * size, channels), scale(rng), int(rng.integers(-128, 128)))
    assert_computes(rng, [x, like(x, (2, 3, channels * size**2))], KIND, block_size=size)
