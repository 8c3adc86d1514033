"""ADD: a scale and a zero point for each input, rounded once."""

import dataclasses

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "add"


def to_itself(x, y, options):
    return graph_of([x, y], KIND, ("x", "x"), **options)


def to_another(x, y, options):
    largest = activation("m", x.shape, x.scale, x.zero_point)
    pool = IntOp("max_pool_2d", ("x",), ("m",), {"size": (3, 3), "strides": (1, 1), "padding": "same"})
    return IntGraph(
        {t.name: t for t in (x, largest, y)}, (pool, IntOp(KIND, ("x", "m"), ("y",), options)), ("x",), ("y",)
    )


@pytest.mark.parametrize("build", [to_itself, to_another])
@pytest.mark.parametrize("fused", ["none", "relu", "relu6"])
@pytest.mark.parametrize("zero", [5, -128, 127])
def test_litert_computes_the_same_integers(zero, fused, build, rng):
    if zero == 127 and fused != "none":
        zero = 60  # a RELU would leave nothing
    scale = contract.scale(rng)
    x, y = (activation(name, (6, 6, 8), scale, zero) for name in ("x", "y"))
    contract.assert_litert_agrees(build(x, y, {"activation": fused}), contract.codes(rng, x))


@pytest.mark.parametrize("kind", ["add", "sub"])
def test_inputs_on_other_grids_than_the_output(kind, rng):
    """Also constants and tensors that are broadcast, with scales that differ by a factor of up to 500."""
    for _ in range(12):
        scales = np.exp(rng.uniform(-4, 2, 3)).astype(np.float32)
        x, p, y = (
            activation(name, (3, 4, 8), s[None], int(rng.integers(-128, 128)))
            for name, s in zip("xpy", scales, strict=True)
        )
        gate = IntOp("mean", ("x",), ("p",), {})
        constant = IntTensor("p", (1, 1, 8), p.scale, 3, data=rng.integers(-128, 128, (1, 1, 8)).astype(np.int8))
        for second, before in ((dataclasses.replace(p, shape=(1, 1, 8)), (gate,)), (constant, ())):
            ops = (*before, IntOp(kind, ("x", "p"), ("y",)))
            graph = IntGraph({t.name: t for t in (x, second, y)}, ops, ("x",), ("y",))
            integers = contract.codes(rng, x)
            np.testing.assert_array_equal(reference.run(graph, integers), Runtime(write(graph)).run(integers))


def of_the_image(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)]))


def of_unequal_branches(layers, x):
    """One grid for all of them would keep 3 dB of a branch that is ten times smaller than the sum."""
    small = layers.Conv2D(4, 1, kernel_initializer="random_normal")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([layers.MaxPooling2D(3, 1, "same")(x), small, x]))


def constants(layers, x):
    return layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x) + 0.5)


def with_relu(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.ReLU()(layers.Add()([y, layers.Conv2D(4, 3, padding="same")(y)]))
    return layers.GlobalAveragePooling2D()(y)


@pytest.mark.parametrize("build", [of_the_image, of_unequal_branches, constants, with_relu])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def test_what_it_cannot_compute_is_refused(assert_refused):
    def a_vector(layers, x):
        return layers.Add(name="a")([x, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x))])

    assert_refused(r"layer a \(Add\).*\(6, 6, 4\) and \(4,\), expected equally many axes", a_vector)


@pytest.mark.parametrize("build", [of_unequal_branches, constants])
def test_forms_that_networks_rarely_have_are_exact(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
