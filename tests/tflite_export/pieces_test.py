"""Graphs in pieces: together they are the whole, alone they are exact; and graphs for other sizes of image."""

import dataclasses

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tflite_export import pieces, reference
from tflite_export.int_graph import IntGraph, IntOp, IntTensor, pixels_of
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KINDS = [("hswish", 4), ("hswish", 8), ("relu-rgb", 2)]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}", scope="module")
def graph(request, subnets):
    from tflite_export.lower import lower

    kind, bits = request.param
    model = subnets(bits, relu=kind != "hswish", channels=1 if kind == "hswish" else 3)
    return lower(model, images(model.input_shape[1:]))


@pytest.fixture(scope="module")
def layers(micro):
    """What the beginning and the blocks of the largest subnet end with."""
    return ["stem"] + [
        f"stage{b.stage + 1}_block{b.index + 1}_{'add' if b.residual else 'project'}"
        for b in micro.blocks(micro.largest())
    ]


@pytest.fixture
def parts(graph, layers):
    return pieces.cut(graph, layers)


def integers(graph, n=5, seed=0):
    """Random integers that the graph's input may hold."""
    tensor = graph.tensors[graph.input]
    low = tensor.range[0] if tensor.bits == 8 else tensor.range[1] - 2**tensor.bits + 1
    return np.random.default_rng(seed).integers(low, 128, (n, *tensor.shape), np.int8)


def assert_exact(graph):
    x = integers(graph)
    expected = reference.run(graph, x)
    np.testing.assert_array_equal(Runtime(write(graph)).run(x), expected)
    assert expected.shape[1:] == graph.tensors[graph.output].shape
    assert len(np.unique(expected)) > 3


def test_every_operation_is_in_one_piece(graph, parts, layers):
    assert len(parts) == len(layers) + 1 == 7
    assert [op for part in parts for op in part.ops] == list(graph.ops)
    for part in parts:
        used = {name for op in part.ops for name in (*op.inputs, *op.outputs)}
        assert used == set(part.tensors)


def test_the_chain_of_pieces_computes_what_the_whole_computes(graph, parts):
    x = pixels_of(graph, images(graph.tensors[graph.input].shape))
    expected = reference.run(graph, x)
    for part in parts:
        x = reference.run(part, x)
    np.testing.assert_array_equal(x, expected)


def test_pieces_are_exact_alone(parts):
    for part in parts:
        assert_exact(part)


def test_pieces_of_another_size_are_exact(parts):
    for part in parts:
        height, width, _ = part.tensors[part.input].shape
        assert_exact(pieces.resized(part, (height + 3, width + 1)))


def test_what_brings_a_block_to_its_quantizer_counts_for_its_reader(parts, layers):
    for part, layer in zip(parts[1:], layers, strict=True):
        readers = {op.kind for op in part.ops if part.input in op.inputs}
        if (
            part.tensors[part.input].bits == 8 and "add" in readers
        ):  # else the block before wrote on the quantizer's grid
            assert "mul" in readers and part.ops[0].source == layer
    summed = [any(op.kind == "add" and part.input in op.inputs for op in part.ops) for part in parts[1:]]
    assert summed == [layer.endswith("_add") for layer in (*layers[1:], "end")]


@pytest.mark.parametrize("bits", [4, 8])
def test_resized_shapes_are_those_of_a_network_lowered_at_that_resolution(bits, micro, make_supernet, cut):
    from tflite_export.lower import lower

    supernet = make_supernet(micro, bits=bits)
    small, large = (
        lower(model, images(model.input_shape[1:]))
        for model in (
            cut(supernet, dataclasses.replace(micro.largest(), resolution=resolution))[0]
            for resolution in micro.resolutions
        )
    )
    found = pieces.resized(small, (12, 12))
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {
        name: tensor.shape for name, tensor in large.tensors.items()
    }
    assert [(op.kind, op.inputs, op.options) for op in found.ops] == [
        (op.kind, op.inputs, op.options) for op in large.ops
    ]


OPERATIONS = [
    ("conv_2d", (5, 3, 2, 4), (5,), {"strides": (2, 1), "padding": "valid"}),
    ("conv_2d", (5, 3, 2, 4), (5,), {"strides": (2, 2), "padding": "same"}),
    ("depthwise_conv_2d", (1, 5, 3, 4), (4,), {"strides": (2, 2), "padding": "same"}),
    ("max_pool_2d", None, (4,), {"size": (3, 2), "strides": (2, 2), "padding": "valid"}),
    ("average_pool_2d", None, (4,), {"size": (2, 2), "strides": (2, 2), "padding": "same"}),
    ("pad", None, (4,), {"paddings": ((1, 2), (0, 3), (0, 0))}),
    ("depth_to_space", None, (1,), {"block_size": 2}),
    ("mean", None, (4,), {}),
    ("hard_swish", None, (4,), {}),
]


def one_operation(kind, weights, outputs, options):
    one = np.float32([0.5])
    tensors, names = [IntTensor("x", (6, 6, 4), one)], ["x"]
    if weights:
        data = np.random.default_rng(0).integers(-9, 9, weights).astype(np.int8)
        bias = np.zeros(outputs[-1], np.int32)
        tensors += [
            IntTensor("w", weights, np.float32([0.01]), data=data),
            IntTensor("b", bias.shape, np.float32([0.005]), dtype="int32", data=bias),
        ]
        names += ["w", "b"]
    tensors.append(IntTensor("y", (1, 1, *outputs), one))
    op = IntOp(kind, tuple(names), ("y",), options, "layer")
    return IntGraph({tensor.name: tensor for tensor in tensors}, (op,), ("x",), ("y",))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation[0])
@pytest.mark.parametrize("size", [(6, 6), (7, 9)])
def test_shapes_are_those_that_the_reference_computes(operation, size):
    graph = pieces.resized(one_operation(*operation), size)
    assert graph.tensors["x"].shape == (*size, 4)
    assert reference.run(graph, integers(graph)).shape[1:] == graph.tensors["y"].shape


def test_what_knows_one_size_only_is_refused():
    graph = one_operation("reshape", None, (144,), {})
    assert pieces.resized(graph, (6, 6)).tensors["x"].shape == (6, 6, 4)
    with pytest.raises(ValueError, match=r"layer: its reshape reads \(6, 6, 4\), and cannot read \(8, 6, 4\)"):
        pieces.resized(graph, (8, 6))


def test_cuts_that_are_none_are_refused(graph):
    with pytest.raises(ValueError, match="layer nowhere: no operation of the graph computes it"):
        pieces.cut(graph, ["nowhere"])
    with pytest.raises(ValueError, match=f"{graph.output} is computed from .*, expected .* alone"):
        pieces.cut(graph, ["stage2_block2_depthwise"])  # the residual goes past it


def test_nothing_is_a_network_too():
    assert_same = np.testing.assert_array_equal
    graph = pieces.nothing()
    x = np.arange(-128, 128, dtype=np.int8).reshape(-1, 1, 1, 1)
    assert_same(reference.run(graph, x), x)
    assert_same(Runtime(write(graph)).run(x), x)
