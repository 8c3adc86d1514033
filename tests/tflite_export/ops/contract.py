"""What the test of every operation asserts, on graphs of that operation alone.

The file of an operation has at least the three tests named in `operations_test.CONTRACT`. The first needs no
TensorFlow; Keras models are lowered by the fixtures of conftest.py.
"""

import numpy as np

from tflite_export import reference, ties
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.ops import common
from tflite_export.runtime import Runtime
from tflite_export.writer import write

N = 40


def scale(rng, low=0.01, high=0.1, size=1):
    return rng.uniform(low, high, size).astype(np.float32)


def activation(name, shape, scale, zero_point=0, bits=8):
    return IntTensor(name, shape, scale, zero_point, bits=bits)


def constant(rng, name, shape, scale, zero_point=0):
    return IntTensor(name, shape, scale, zero_point, data=rng.integers(-128, 128, shape).astype(np.int8))


def like(x, shape=None, name="y"):
    """A tensor on the grid of `x`."""
    return activation(name, x.shape if shape is None else tuple(shape), x.scale, x.zero_point)


def graph_of(tensors, kind, names, **options):
    """A graph of one operation on tensors of these names; all but constants and "y" are inputs of the graph."""
    inputs = tuple(t.name for t in tensors if t.data is None and t.name != "y")
    op, pixels = IntOp(kind, names, ("y",), options), ((128.0, 128.0),) * len(inputs)
    return IntGraph({t.name: t for t in tensors}, (op,), inputs, ("y",), pixels)


def codes(rng, tensor, n=N):
    return rng.integers(-128, 128, (n, *tensor.shape)).astype(np.int8)


def assert_computes(rng, tensors, kind, names=("x",), **options):
    """The numpy reference and LiteRT compute the same integers of random ones, with several inputs or one."""
    graph = graph_of(tensors, kind, names, **options)
    values = [codes(rng, graph.tensors[name]) for name in graph.inputs]
    assert_litert_agrees(graph, values if len(values) > 1 else values[0])


def assert_litert_agrees(graph, x):
    """The numpy reference and LiteRT (XNNPACK) compute the same integers."""
    computed, expected = reference.run(graph, x), Runtime(write(graph)).run(x)
    assert len(np.unique(expected)) > 3  # not saturated everywhere
    np.testing.assert_array_equal(computed, expected)


def convolution(rng, kind, shape, filters, size, bits, per_channel=True, **options):
    """A graph of one convolution or dense layer with random weights and an output that does not always saturate."""
    depthwise = kind == "depthwise_conv_2d"
    channels = shape[-1]
    kernel_shape = (1, size, size, channels) if depthwise else (filters, size, size, channels)
    filters = channels if depthwise else filters
    if kind == "fully_connected":
        kernel_shape = (filters, channels)
    top = 2 ** (bits - 1)
    x = activation("x", shape, scale(rng), int(rng.integers(-128, 128)))
    w_scale = scale(rng, 0.001, 0.02, filters if per_channel else 1)
    w = IntTensor(
        "w",
        kernel_shape,
        w_scale,
        0,
        "int8",
        rng.integers(-top, top, kernel_shape).astype(np.int8),
        axis=(3 if depthwise else 0) if per_channel else None,
        bits=bits,
    )
    bias = rng.integers(-2000, 2000, filters).astype(np.int32)
    b = IntTensor("b", (filters,), x.scale * w_scale, 0, "int32", bias, axis=0 if per_channel else None)
    stride = options.get("strides", (1, 1))
    padding = options.get("padding", "same")
    if kind == "fully_connected":
        out_shape, options = (filters,), {k: v for k, v in options.items() if k == "activation"}
    else:
        height, width = (common.margins(n, size, s, padding)[2] for n, s in zip(shape[:2], stride, strict=True))
        out_shape, options = (height, width, filters), {"strides": stride, "padding": padding, **options}
    spread = np.median(x.scale * w_scale) * np.sqrt(np.prod(kernel_shape[1:])) * 74 * top / np.sqrt(3)
    highest = 2**bits - 1
    y = activation("y", out_shape, np.float32([spread / highest * 1.3]), 127 - highest, bits)
    return graph_of([x, w, b, y], kind, ("x", "w", "b"), **options)


def assert_factors_are_rounded_in_xnnpacks_order(kind, rng):
    """On accumulators next to a half, where another order of the same roundings gives another integer."""
    seen = 0
    while seen < 24:
        x_scale, other = np.float32(rng.uniform(0.01, 0.1, 2))
        by = np.float32(rng.choice([2, 4, 8, 6, 10]) * (1 + rng.integers(-3, 4) * 2.0**-24))
        out = np.float32(x_scale * other * by)
        orders = [x_scale * other / out, x_scale * (other / out), x_scale / out * other]
        sums = np.arange(-1000, 1000)
        steps = [np.rint(sums.astype(np.float32) * factor) for factor in orders]
        telling = (np.ptp(steps, axis=0) > 0) & (np.abs(steps[0]) < 120)
        for total in sums[telling][:4]:
            seen += 1
            graph, pixels = one_accumulator(kind, int(total), x_scale, other, out)
            np.testing.assert_array_equal(reference.run(graph, pixels), Runtime(write(graph)).run(pixels))


def one_accumulator(kind, total, x_scale, other, out):
    """A graph and an input whose only accumulator is `total`."""
    y = activation("y", (1,) if kind == "fully_connected" else (1, 1, 1), np.float32([out]))
    x = activation("x", (1, 1, 1), np.float32([x_scale]))
    if kind == "mul":
        factor = next(n for n in range(127, 0, -1) if (total % n == 0 and abs(total // n) < 128) or n == 1)
        w = IntTensor("w", (1,), np.float32([other]), data=np.array([np.clip(total // factor, -127, 127)], np.int8))
        return graph_of([x, w, y], "mul", ("x", "w")), np.full((1, 1, 1, 1), factor, np.int8)
    shape = (1, 1) if kind == "fully_connected" else (1, 1, 1, 1)
    w = IntTensor("w", shape, np.float32([other]), data=np.ones(shape, np.int8), axis=0)
    b = IntTensor("b", (1,), x.scale * other, dtype="int32", data=np.array([total], np.int32), axis=0)
    options = {} if kind == "fully_connected" else {"strides": (1, 1), "padding": "same"}
    return graph_of([x, w, b, y], kind, ("x", "w", "b"), **options), np.zeros((1, 1, 1, 1), np.int8)


def assert_table(rng, kind, fixed=None, lowest_zero=False, **options):
    """All 256 inputs at random scales, after what may be a tie has been moved; `fixed`: scale and zero point out."""
    for _ in range(20):
        zero = -128 if lowest_zero else int(rng.integers(-128, 128))
        x = activation("x", (256,), scale(rng, 0.005, 0.1), zero)
        out = fixed or (scale(rng, 0.005, 0.05)[0], int(rng.integers(-128, 100)))
        graph = ties.without(
            graph_of([x, activation("y", (256,), np.float32(out[:1]), out[1])], kind, ("x",), **options)
        )
        assert_litert_agrees(graph, np.arange(-128, 128, dtype=np.int8)[None])


# Models that files of other tests lower as well.


def super_resolution(layers, x):
    from tfqnas.layers import DepthToSpace

    y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    y = DepthToSpace(2)(layers.Conv2D(16, 3, padding="same")(y))
    return layers.Add()([y, layers.Resizing(12, 12, interpolation="nearest")(x)])


def bilinear(layers, x):
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(4, 3, padding="same")(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, padding="same")(x))
