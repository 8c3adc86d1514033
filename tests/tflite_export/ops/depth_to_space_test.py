"""DEPTH_TO_SPACE: the upscaling of super-resolution networks."""

import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of, super_resolution

KIND = "depth_to_space"


@pytest.mark.parametrize(("shape", "size"), [((5, 4, 12), 2), ((3, 3, 9), 3), ((1, 2, 32), 4), ((2, 1, 4), 2)])
def test_litert_computes_the_same_integers(shape, size, rng):
    x = activation("x", shape, contract.scale(rng), int(rng.integers(-128, 128)))
    large = (shape[0] * size, shape[1] * size, shape[2] // size**2)
    graph = graph_of([x, activation("y", large, x.scale, x.zero_point)], KIND, ("x",), block_size=size)
    contract.assert_litert_agrees(graph, contract.codes(rng, x))


def of_pixels(layers, x):
    from tfqnas.layers import DepthToSpace

    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(DepthToSpace(2)(x)))


@pytest.mark.parametrize("build", [super_resolution, of_pixels])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("size", "message"),
    [(3, "inner: expected a multiple of 9 channels, received 4"), (1, "block_size: expected a whole number from 2 on")],
)
def test_what_it_cannot_compute_is_refused(size, message):
    """The Keras layer itself refuses it."""
    from tfqnas.layers import DepthToSpace

    with pytest.raises(ValueError, match=message):
        DepthToSpace(size, name="inner").build((None, 6, 6, 4))
