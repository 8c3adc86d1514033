"""The numpy reference against LiteRT (XNNPACK), integer by integer, one operation at a time."""

import numpy as np
import pytest

from tflite_export import reference
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.runtime import Runtime
from tflite_export.writer import write

N = 40


def scale(rng, low=0.01, high=0.1, size=1):
    return rng.uniform(low, high, size).astype(np.float32)


def activation(name, shape, scale, zero_point=0, bits=8):
    return IntTensor(name, shape, scale, zero_point, bits=bits)


def graph_of(tensors, kind, inputs, **options):
    return IntGraph({t.name: t for t in tensors}, (IntOp(kind, inputs, ("y",), options),), "x", "y")


def codes(rng, tensor, n=N):
    return rng.integers(-128, 128, (n, *tensor.shape)).astype(np.int8)


def assert_equal_to_litert(graph, x):
    computed, expected = reference.run(graph, x), Runtime(write(graph)).run(x)
    assert len(np.unique(expected)) > 3  # not saturated everywhere
    np.testing.assert_array_equal(computed, expected)


def convolution(rng, kind, shape, filters, size, weight_bits, bits, per_channel=True, **options):
    depthwise = kind == "depthwise_conv_2d"
    channels = shape[-1]
    kernel_shape = (1, size, size, channels) if depthwise else (filters, size, size, channels)
    filters = channels if depthwise else filters
    if kind == "fully_connected":
        kernel_shape = (filters, channels)
    top = 2 ** (weight_bits - 1)
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
        bits=weight_bits,
    )
    bias = rng.integers(-2000, 2000, filters).astype(np.int32)
    b = IntTensor("b", (filters,), x.scale * w_scale, 0, "int32", bias, axis=0 if per_channel else None)
    stride = options.get("strides", (1, 1))
    padding = options.get("padding", "same")
    if kind == "fully_connected":
        out_shape, options = (filters,), {k: v for k, v in options.items() if k == "activation"}
    else:
        height, width = (reference.margins(n, size, s, padding)[2] for n, s in zip(shape[:2], stride, strict=True))
        out_shape, options = (height, width, filters), {"strides": stride, "padding": padding, **options}
    spread = np.median(x.scale * w_scale) * np.sqrt(np.prod(kernel_shape[1:])) * 74 * top / np.sqrt(3)
    highest = 2**bits - 1
    y = activation("y", out_shape, np.float32([spread / highest * 1.3]), 127 - highest, bits)
    return graph_of([x, w, b, y], kind, ("x", "w", "b"), **options)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("fused", ["none", "relu"])
@pytest.mark.parametrize(
    ("kind", "shape", "filters", "size", "options"),
    [
        ("conv_2d", (9, 9, 5), 12, 3, {}),
        ("conv_2d", (9, 8, 1), 12, 3, {"strides": (2, 2)}),
        ("conv_2d", (5, 5, 40), 24, 1, {}),
        ("conv_2d", (1, 1, 33), 7, 1, {}),
        ("conv_2d", (7, 7, 3), 6, 5, {"padding": "valid"}),
        ("depthwise_conv_2d", (9, 7, 12), 0, 3, {}),
        ("depthwise_conv_2d", (9, 9, 17), 0, 5, {"strides": (2, 2)}),
        ("depthwise_conv_2d", (5, 5, 8), 0, 7, {}),
        ("fully_connected", (48,), 10, 1, {}),
        ("fully_connected", (1, 1, 48), 10, 1, {}),
    ],
)
def test_convolutions(kind, shape, filters, size, options, fused, bits, rng):
    graph = convolution(rng, kind, shape, filters, size, min(bits, 8), bits, activation=fused, **options)
    assert_equal_to_litert(graph, codes(rng, graph.tensors["x"]))


def test_one_scale_for_all_channels(rng):
    graph = convolution(rng, "conv_2d", (5, 5, 8), 6, 3, 8, 8, per_channel=False)
    assert_equal_to_litert(graph, codes(rng, graph.tensors["x"]))


def test_relu6_ends_at_six(rng):
    graph = convolution(rng, "conv_2d", (6, 6, 4), 6, 3, 8, 8, activation="relu6")
    y = graph.tensors["y"]
    graph = IntGraph({**graph.tensors, "y": activation("y", y.shape, np.float32([0.0471]), -128)}, graph.ops, "x", "y")
    x = codes(rng, graph.tensors["x"])
    assert reference.run(graph, x).max() == -128 + 127 or reference.run(graph, x).max() < 0
    assert_equal_to_litert(graph, x)


@pytest.mark.parametrize("other", [(6, 6, 8), (1, 1, 8), "constant"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_products(bits, other, rng):
    x = activation("x", (6, 6, 8), scale(rng), int(rng.integers(-128, 128)))
    highest = 2**bits - 1
    y = activation("y", (6, 6, 8), x.scale * np.float32(90.7 / highest), 127 - highest, bits)
    if other == "constant":
        c = IntTensor("c", (1,), np.float32([1 / 64]), 0, "int8", np.array([64], np.int8))
        graph = graph_of([x, c, y], "mul", ("x", "c"), activation="relu")
        return assert_equal_to_litert(graph, codes(rng, x))
    if other == (6, 6, 8):  # itself
        y = activation("y", x.shape, x.scale * x.scale * np.float32(8100 / highest), 127 - highest, bits)
        return assert_equal_to_litert(graph_of([x, y], "mul", ("x", "x"), activation="relu"), codes(rng, x))
    pooled = activation("g", other, x.scale * np.float32(0.37), 3)
    y = activation("y", x.shape, x.scale * pooled.scale * np.float32(810 / highest), 127 - highest, bits)
    ops = (IntOp("mean", ("x",), ("g",)), IntOp("mul", ("x", "g"), ("y",), {"activation": "relu"}))
    assert_equal_to_litert(IntGraph({t.name: t for t in (x, pooled, y)}, ops, "x", "y"), codes(rng, x))


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (7, 7), (14, 14), (1, 1)])
def test_means(size, rng):
    for _ in range(4):
        x = activation("x", (*size, 19), scale(rng), int(rng.integers(-20, 20)))
        y = activation("y", (1, 1, 19), x.scale * np.float32(rng.uniform(0.1, 0.9)), int(rng.integers(-20, 20)))
        assert_equal_to_litert(graph_of([x, y], "mean", ("x",)), codes(rng, x))


def test_sums_of_one_scale(rng):
    s = scale(rng)
    x, y = (activation(name, (6, 6, 8), s, zero) for name, zero in (("x", 5), ("y", 5)))
    assert_equal_to_litert(graph_of([x, y], "add", ("x", "x")), codes(rng, x))


def test_hard_swish_is_the_kernels_table(rng):
    for _ in range(60):
        x = activation("x", (256,), scale(rng, 0.005, 0.2), int(rng.integers(-128, 128)))
        y = activation("y", (256,), scale(rng, 0.02, 0.5), int(rng.integers(-128, 128)))
        graph = graph_of([x, y], "hard_swish", ("x",))
        table = np.arange(-128, 128, dtype=np.int8)[None]
        np.testing.assert_array_equal(reference.run(graph, table), Runtime(write(graph)).run(table))


def test_bytes_in_and_floats_out(rng):
    x = IntTensor("x", (3, 3, 2), np.float32([1 / 128]), 128, "uint8")
    shifted = activation("s", (3, 3, 2), np.float32([1 / 128]), 0)
    y = IntTensor("y", (3, 3, 2), np.zeros(0, np.float32), 0, "float32")
    graph = IntGraph(
        {t.name: t for t in (x, shifted, y)},
        (IntOp("quantize", ("x",), ("s",)), IntOp("dequantize", ("s",), ("y",))),
        "x",
        "y",
    )
    pixels = rng.integers(0, 256, (5, 3, 3, 2)).astype(np.uint8)
    expected = Runtime(write(graph)).run(pixels)
    np.testing.assert_array_equal(reference.run(graph, pixels), expected)
    np.testing.assert_array_equal(expected, (pixels.astype(np.float32) - 128) / 128)


def test_means_next_to_a_half(rng):
    """Sums where multiplying with or without the zero point, and other orders, give other integers."""
    for size in ((2, 2), (3, 5), (7, 7)):
        pixels = size[0] * size[1]
        sums = np.arange(-128 * pixels, 127 * pixels + 1)
        for _ in range(12):
            by = np.float32(rng.choice([0.25, 0.5, 0.75, 1.0, 0.3]) * (1 + rng.integers(-3, 4) * 2.0**-24))
            x = activation("x", (*size, 1), scale(rng), int(rng.integers(-128, 128)))
            y = activation("y", (1, 1, 1), x.scale * by, int(rng.integers(-60, 60)))
            graph = graph_of([x, y], "mean", ("x",))
            exact = (sums - pixels * x.zero_point) / (float(by) * pixels)
            near = sums[(np.abs(exact - np.floor(exact) - 0.5) < 1e-4) & (np.abs(exact) < 120)][:60]
            codes = near[:, None] // pixels + (np.arange(pixels) < (near % pixels)[:, None])
            codes = codes.reshape(-1, *size, 1).astype(np.int8)
            if len(near):
                np.testing.assert_array_equal(reference.run(graph, codes), Runtime(write(graph)).run(codes))


@pytest.mark.parametrize("kind", ["conv_2d", "depthwise_conv_2d", "fully_connected", "mul"])
def test_factors_are_rounded_in_xnnpacks_order(kind, rng):
    """Accumulators next to a half, where another order of the same roundings gives another integer."""
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
