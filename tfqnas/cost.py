"""Counts the costs of an architecture: MACs, effective FLOPs, BitOPs, parameters and bytes of weights."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from tfqnas.arch import FLOAT_BITS

if TYPE_CHECKING:
    from tfqnas.arch import Arch
    from tfqnas.spaces import Block, SearchSpace

# Layers of a quantized network that are not quantized are deployed with this bit width.
_DEPLOYED_BITS = 8


N = TypeVar("N")


class Cost(NamedTuple, Generic[N]):
    """Costs of one architecture, or arrays (m,) of them.

    macs: multiply-accumulates of convolutions (also of squeeze-excite) and classifier, without BatchNorm and bias.
    effective_flops: MACs, where a MAC of m-bit weights and n-bit inputs counts m*n/64 (OQA, section 4.1). Layers that
        are not quantized, such as all layers of a float network, count in full.
    bitops: sum of m*n*MACs. Layers that are not quantized count as 8x8 in a quantized network, since they are deployed
        so, and as 32x32 in a float network. If an architecture has bit widths, 32 (not quantized) counts as 8 in all
        costs.
    params: weights, BatchNorm's gamma and beta, biases.
    weight_bytes: bits/8 bytes for a quantized weight, 1 byte for others, and a 4-byte bias for every output channel
        (BatchNorm is folded). Float networks have 4 bytes per parameter.
    """

    macs: N
    effective_flops: N
    bitops: N
    params: N
    weight_bytes: N


# All costs are linear in these numbers, which do not depend on bit widths. `vectors` counts BatchNorm's gamma and beta
# and biases; `outputs` counts the channels that have a bias when deployed.
class _Tally(NamedTuple, Generic[N]):
    quantized_macs: N
    other_macs: N
    quantized_weights: N
    other_weights: N
    vectors: N
    outputs: N


class _Layers(NamedTuple):
    """MACs and weights of every quantized convolution for every resolution, kernel size and expand ratio of its block.

    `macs` and `weights` are int64 tables of all convolutions one after another. The entry of convolution c for a code
    is at `firsts[c] + sum(code[genes[c]] * strides[c])`, where `firsts` is (c,), and `genes` (positions in a code) and
    `strides` are (c, 3). The second gene also says whether the convolution is active.
    """

    macs: np.ndarray
    weights: np.ndarray
    firsts: np.ndarray
    genes: np.ndarray
    strides: np.ndarray


class _Part(NamedTuple):
    """The tallies of the quantized convolutions in the order of computation, and of the other layers."""

    quantized: list[_Tally[int]]
    others: list[_Tally[int]]


def count(
    space: SearchSpace,
    arch: Arch,
    bits: int | tuple[int, int] | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> Cost[float]:
    """Counts the costs of `arch`.

    All convolutions but the first and those of squeeze-excite are quantized; the classifier is not (OQA). If `arch` has
    bit widths, each convolution counts with its own.

    Args:
        space: `SearchSpace` of `arch`.
        arch: `Arch`.
        bits: bit width of weights and inputs, or a pair (weights, inputs); None for a float network, or if `arch` has
            bit widths.
        num_classes: number of outputs of the classifier.
        in_channels: number of image channels.

    Returns:
        `Cost` of numbers.

    Raises:
        ValueError: `arch` is not of `space`, an argument is out of range, or both `arch` and `bits` give bit widths.
    """
    bits = _check_arguments(space, bits, num_classes, in_channels)
    blocks = space.blocks(arch)
    parts = (*map(_block, blocks), _ends(space, blocks, num_classes, in_channels))
    tally = _total([convolution for part in parts for convolution in part.quantized + part.others])
    if arch.bits is None:
        return _cost(tally, bits)
    widths = _deployed(np.array(arch.bits)).tolist()
    quantized = [convolution for part in parts for convolution in part.quantized]
    return _quantized_cost(
        tally,
        sum(m * n * convolution.quantized_macs for (m, n), convolution in zip(widths, quantized, strict=True)),
        sum(m * convolution.quantized_weights for (m, _), convolution in zip(widths, quantized, strict=True)),
    )


def count_codes(
    space: SearchSpace,
    codes: np.ndarray,
    bits: int | tuple[int, int] | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> Cost[np.ndarray]:
    """Counts the costs of many architectures at once.

    Args:
        space: `SearchSpace`.
        codes: int (m, n), from `space.encode`; genes of blocks beyond the depth are ignored.
        bits, num_classes, in_channels: as for `count`.

    Returns:
        `Cost` of arrays (m,).

    Raises:
        ValueError: `codes` are not codes of `space`, or an argument is wrong as for `count`.
    """
    bits = _check_arguments(space, bits, num_classes, in_channels)
    constant, elastic, layers = _tables(space, num_classes, in_channels)
    tally = _Tally(*sums_over_blocks(space, constant, elastic, codes).T)
    if not space.mixed:
        return _cost(tally, bits)
    return _quantized_cost(tally, *_sums_over_layers(space, layers, np.asarray(codes)))


def sums_over_blocks(
    space: SearchSpace, constant: np.ndarray, elastic: Iterable[tuple[int, np.ndarray]], codes: np.ndarray
) -> np.ndarray:
    """Sums k quantities over the blocks of many architectures, where a block's part depends on its own choices alone.

    Args:
        space: `SearchSpace`.
        constant: (resolutions, k), the part that all architectures have.
        elastic: for each searched block the position of its kernel gene, and its table (resolutions, kernels, expands,
            k).
        codes: int (m, n), from `space.encode`; genes of blocks beyond the depth are ignored.

    Returns:
        (m, k), with the dtype of `constant`.

    Raises:
        ValueError: `codes` are not codes of `space`.
    """
    codes = space.check_codes(codes, ndim=2)
    active = space.active(codes)
    total = constant[codes[:, 0]]
    for position, table in elastic:
        kernel, expand = codes[:, position], codes[:, position + 1]
        total += table[codes[:, 0], kernel, expand] * active[:, position, None]
    return total


def _sums_over_layers(space: SearchSpace, layers: _Layers, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the quantized convolutions of many architectures of a mixed space, from codes, int (m, n).

    Returns:
        int64 (m,), int64 (m,): sums of m*n*MACs and of bits of weights.
    """
    widths = _deployed(space.bits_of_codes(codes))
    of_weights, of_inputs = widths[..., 0], widths[..., 1]
    places = layers.firsts + (codes[:, layers.genes] * layers.strides).sum(axis=-1)
    of_weights = of_weights * space.active(codes)[:, layers.genes[:, 1]]
    return (of_weights * of_inputs * layers.macs[places]).sum(axis=1), (of_weights * layers.weights[places]).sum(axis=1)


def _deployed(widths: np.ndarray) -> np.ndarray:
    """The bit widths with which convolutions are deployed, from the chosen ones."""
    return np.where(widths == FLOAT_BITS, _DEPLOYED_BITS, widths)


def _convolution(
    size: int,
    kernel: int,
    in_channels: int,
    out_channels: int,
    quantized: bool = True,
    norm: bool = True,
    bias: bool = False,
) -> _Tally[int]:
    """Tally of a convolution with an output of `size` x `size`; a depthwise convolution has 1 input channel."""
    weights = kernel * kernel * in_channels * out_channels
    macs = size * size * weights
    vectors = out_channels * (2 * norm + bias)
    if quantized:
        return _Tally(macs, 0, weights, 0, vectors, out_channels)
    return _Tally(0, macs, 0, weights, vectors, out_channels)


def _block(block: Block) -> _Part:
    """`_Part` of an inverted residual block."""
    size = -(-block.size // block.stride)
    hidden, squeezed = block.hidden, block.se_channels
    quantized = [_convolution(block.size, 1, block.in_channels, hidden)] if block.has_expansion else []
    quantized.append(_convolution(size, block.kernel, 1, hidden))
    quantized.append(_convolution(size, 1, hidden, block.out_channels))
    others = []
    if squeezed:
        others.append(_convolution(1, 1, hidden, squeezed, quantized=False, norm=False, bias=True))
        others.append(_convolution(1, 1, squeezed, hidden, quantized=False, norm=False, bias=True))
    return _Part(quantized, others)


def _ends(space: SearchSpace, blocks: Sequence[Block], num_classes: int, in_channels: int) -> _Part:
    """`_Part` of the layers before and after the blocks."""
    first, last = blocks[0], blocks[-1]
    features = space.head_channels
    size = -(-last.size // last.stride)
    others = [_convolution(first.size, space.stem_kernel, in_channels, space.stem_channels, quantized=False)]
    quantized = [_convolution(size, 1, last.out_channels, features)]
    if space.feature_channels:
        quantized.append(_convolution(1, 1, features, space.feature_channels, norm=False))
        features = space.feature_channels
    others.append(_convolution(1, 1, features, num_classes, quantized=False, norm=False, bias=True))
    return _Part(quantized, others)


def _total(tallies: Iterable[_Tally[int]]) -> _Tally[int]:
    return _Tally(*map(sum, zip(*tallies, strict=True)))


def _cost(tally: _Tally[Any], bits: tuple[int, int] | None) -> Cost[Any]:
    """`Cost` of a tally of ints or int64 arrays; `bits` is a pair for all quantized layers, or None."""
    if bits is not None:
        return _quantized_cost(tally, bits[0] * bits[1] * tally.quantized_macs, bits[0] * tally.quantized_weights)
    macs = tally.quantized_macs + tally.other_macs
    params = tally.quantized_weights + tally.other_weights + tally.vectors
    return Cost(macs, 1.0 * macs, 32 * 32 * macs, params, 4 * params)


def _quantized_cost(tally: _Tally[Any], products: Any, weight_bits: Any) -> Cost[Any]:
    """`Cost` of a tally whose quantized layers have `products` (sum of m*n*MACs) and `weight_bits` in total."""
    weight_bits = weight_bits + _DEPLOYED_BITS * tally.other_weights
    return Cost(
        macs=tally.quantized_macs + tally.other_macs,
        effective_flops=products / 64 + tally.other_macs,
        bitops=products + _DEPLOYED_BITS**2 * tally.other_macs,
        params=tally.quantized_weights + tally.other_weights + tally.vectors,
        weight_bytes=-(-weight_bits // 8) + 4 * tally.outputs,
    )


def _check_arguments(
    space: SearchSpace, bits: int | tuple[int, int] | None, num_classes: int, in_channels: int
) -> tuple[int, int] | None:
    """Returns `bits` as None or a pair."""
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{what}: expected a positive integer, received {value!r}")
    if bits is None:
        return None
    if space.mixed:
        raise ValueError(
            f"bits: expected None, for architectures of space {space.name} have bit widths of their own, "
            f"received {bits!r}"
        )
    pair = tuple(bits) if isinstance(bits, (tuple, list)) else (bits, bits)
    ok = len(pair) == 2 and all(isinstance(b, (int, np.integer)) and not isinstance(b, bool) for b in pair)
    if not ok or not all(1 <= b <= 32 for b in pair):
        raise ValueError(f"bits: expected None, an integer from 1 to 32 or a pair (weights, inputs), received {bits!r}")
    return int(pair[0]), int(pair[1])


@functools.lru_cache(maxsize=16)
def _tables(
    space: SearchSpace, num_classes: int, in_channels: int
) -> tuple[np.ndarray, tuple[tuple[int, np.ndarray], ...], _Layers]:
    """Tallies of all choices, as int64 arrays.

    Strides belong to stages, and channels between blocks are not searched. The resolution alone therefore determines
    the size of a block's input, and a block's tally depends only on the resolution and its own two genes.

    Returns:
        `(constant, elastic)` for `sums_over_blocks` with k = 6, and `_Layers`.
    """
    counts = space.choice_counts
    is_kernel = np.array([gene.kind == "kernel" for gene in space.genes])
    is_expand = np.array([gene.kind == "expand" for gene in space.genes])
    positions = np.flatnonzero(is_kernel).tolist()
    constant = np.zeros((len(space.resolutions), len(_Tally._fields)), np.int64)
    elastic = {i: np.zeros((len(constant), counts[i], counts[i + 1], constant.shape[1]), np.int64) for i in positions}
    layers = _empty_layers(space)
    # At full depth every block occurs, and all blocks take their k-th kernel size and e-th expand ratio at once.
    most_kernels, most_expands = (np.max(counts[genes], initial=1) for genes in (is_kernel, is_expand))
    for r, k, e in np.ndindex(len(constant), most_kernels, most_expands):
        code = np.where(is_kernel, np.minimum(k, counts - 1), counts - 1)
        code = np.where(is_expand, np.minimum(e, counts - 1), code)
        code[0] = r
        blocks = space.blocks(space.decode(code))
        ends = _ends(space, blocks, num_classes, in_channels)
        always = ends.quantized + ends.others
        quantized: list[_Tally[int]] = []
        for block in blocks:
            part = _block(block)
            quantized += part.quantized
            if block.stage in space.searched:
                i = space.gene_index("kernel", block.stage, block.index)
                elastic[i][r, code[i], code[i + 1]] = _total(part.quantized + part.others)
            else:
                always += part.quantized + part.others
        constant[r] = _total(always)
        counted = np.array([convolution[:] for convolution in quantized + ends.quantized], np.int64)
        places = layers.firsts + (code[layers.genes] * layers.strides).sum(axis=-1)
        layers.macs[places] = counted[:, _Tally._fields.index("quantized_macs")]
        layers.weights[places] = counted[:, _Tally._fields.index("quantized_weights")]
    return constant, tuple(elastic.items()), layers


def _empty_layers(space: SearchSpace) -> _Layers:
    """`_Layers` of `space`, with zeros."""
    rows: list[tuple[int, int, int]] = []
    counts: list[list[int]] = []
    for stage, block, _ in space.convolutions():
        # A convolution outside searched blocks has only the resolution's gene.
        kernel = space.gene_index("kernel", stage, block) if stage in space.searched else None
        rows.append((0, 0, 0) if kernel is None else (0, kernel, kernel + 1))
        counts.append([1 if kernel is None and axis else space.choice_counts[i] for axis, i in enumerate(rows[-1])])
    genes, shapes = np.array(rows), np.array(counts)
    strides = np.stack((shapes[:, 1] * shapes[:, 2], shapes[:, 2], np.ones_like(shapes[:, 2])), axis=1)
    strides[shapes == 1] = 0
    ends = shapes.prod(axis=1).cumsum()
    macs, weights = np.zeros((2, ends[-1]), np.int64)
    return _Layers(macs, weights, ends - shapes.prod(axis=1), genes, strides)
