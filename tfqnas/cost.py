"""What an architecture costs: MACs, effective FLOPs, BitOPs, parameters and bytes of weights."""

import functools
from typing import NamedTuple

import numpy as np


class Cost(NamedTuple):
    """Costs of one architecture, or arrays (m,) of them.

    macs: multiply-accumulates of convolutions (squeeze-excite too) and classifier; no BatchNorm, no bias.
    effective_flops: MACs where those of a layer with m-bit weights and n-bit inputs count m*n/64 (OQA,
        section 4.1); layers that are not quantized, and so all of a float network, count in full.
    bitops: sum of m*n*MACs. Layers that are not quantized are counted as 8x8 in a quantized network, as which
        they are deployed, and as 32x32 in a float network.
    params: weights, BatchNorm's gamma and beta, biases.
    weight_bytes: quantized weights at bits/8 bytes each, the others at 1; a 4-byte bias for every output
        channel (BatchNorm folded). Float networks: 4 bytes a parameter.
    """

    macs: int
    effective_flops: float
    bitops: int
    params: int
    weight_bytes: int


# All costs are linear in these numbers, which know no bit width. `vectors`: what is neither convolution's nor
# classifier's kernel: BatchNorm's gamma and beta, biases. `outputs`: channels that have a bias once deployed.
class _Tally(NamedTuple):
    quantized_macs: int
    other_macs: int
    quantized_weights: int
    other_weights: int
    vectors: int
    outputs: int


def count(space, arch, bits=None, num_classes=1000, in_channels=3):
    """Costs of `arch`.

    Quantized are all convolutions but the first and those of squeeze-excite; the classifier is not (OQA).

    Args:
        space: `SearchSpace` of `arch`.
        arch: `Arch`.
        bits: bit width of weights and inputs, or a pair (weights, inputs), or None for a float network.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.

    Returns:
        `Cost` of numbers.

    Raises:
        ValueError: `arch` is not of `space`, or `bits`, `num_classes` or `in_channels` make no sense.
    """
    bits = _check_arguments(bits, num_classes, in_channels)
    blocks = space.blocks(arch)
    tallies = _ends(space, blocks, num_classes, in_channels)
    for block in blocks:
        tallies += _block(block)
    return _cost(_total(tallies), bits)


def count_codes(space, codes, bits=None, num_classes=1000, in_channels=3):
    """Costs of many architectures at once; the other arguments are those of `count`.

    Args:
        space: `SearchSpace`.
        codes: int (m, n), from `space.encode`; genes of blocks beyond the depth are ignored.

    Returns:
        `Cost` of arrays (m,).

    Raises:
        ValueError: as `count`, or `codes` are no codes of `space`.
    """
    bits = _check_arguments(bits, num_classes, in_channels)
    sums = sums_over_blocks(space, *_tables(space, num_classes, in_channels), codes)
    return _cost(_Tally(*sums.T), bits)


def sums_over_blocks(space, constant, elastic, codes):
    """Sums of numbers that a resolution and the choices of one block decide, for many architectures.

    Args:
        space: `SearchSpace`.
        constant: (resolutions, k), of what every architecture has.
        elastic: for each searched block the position of its kernel gene and (resolutions, kernels, expands, k).
        codes: int (m, n), from `space.encode`; genes of blocks beyond the depth are ignored.

    Returns:
        (m, k), of the type of `constant`.

    Raises:
        ValueError: `codes` are no codes of `space`.
    """
    codes = space.check_codes(codes, ndim=2)
    active = space.active(codes)
    total = constant[codes[:, 0]]
    for position, table in elastic:
        kernel, expand = codes[:, position], codes[:, position + 1]
        total += table[codes[:, 0], kernel, expand] * active[:, position, None]
    return total


def _convolution(size, kernel, in_channels, out_channels, quantized=True, norm=True, bias=False):
    """Tally of a convolution with output of `size` x `size`; a depthwise one has 1 input channel."""
    weights = kernel * kernel * in_channels * out_channels
    macs = size * size * weights
    vectors = out_channels * (2 * norm + bias)
    if quantized:
        return _Tally(macs, 0, weights, 0, vectors, out_channels)
    return _Tally(0, macs, 0, weights, vectors, out_channels)


def _block(block):
    """Tallies of the convolutions of an inverted residual block."""
    size = -(-block.size // block.stride)
    hidden, squeezed = block.hidden, block.se_channels
    tallies = [
        _convolution(size, block.kernel, 1, hidden),
        _convolution(size, 1, hidden, block.out_channels),
    ]
    if block.has_expansion:
        tallies.append(_convolution(block.size, 1, block.in_channels, hidden))
    if squeezed:
        tallies.append(_convolution(1, 1, hidden, squeezed, quantized=False, norm=False, bias=True))
        tallies.append(_convolution(1, 1, squeezed, hidden, quantized=False, norm=False, bias=True))
    return tallies


def _ends(space, blocks, num_classes, in_channels):
    """Tallies of what is before and after the blocks."""
    first, last = blocks[0], blocks[-1]
    features = space.head_channels
    size = -(-last.size // last.stride)
    tallies = [
        _convolution(first.size, space.stem_kernel, in_channels, space.stem_channels, quantized=False),
        _convolution(size, 1, last.out_channels, features),
    ]
    if space.mix_channels:
        tallies.append(_convolution(1, 1, features, space.mix_channels, norm=False))
        features = space.mix_channels
    tallies.append(_convolution(1, 1, features, num_classes, quantized=False, norm=False, bias=True))
    return tallies


def _total(tallies):
    return _Tally(*map(sum, zip(*tallies, strict=True)))


def _cost(tally, bits):
    """`Cost` of a tally of ints or of int64 arrays."""
    macs = tally.quantized_macs + tally.other_macs
    params = tally.quantized_weights + tally.other_weights + tally.vectors
    if bits is None:
        return Cost(macs, 1.0 * macs, 32 * 32 * macs, params, 4 * params)
    products = bits[0] * bits[1] * tally.quantized_macs
    weight_bits = bits[0] * tally.quantized_weights + 8 * tally.other_weights
    return Cost(
        macs=macs,
        effective_flops=products / 64 + tally.other_macs,
        bitops=products + 8 * 8 * tally.other_macs,
        params=params,
        weight_bytes=-(-weight_bits // 8) + 4 * tally.outputs,
    )


def _check_arguments(bits, num_classes, in_channels):
    """Returns `bits` as None or a pair."""
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{what}: expected a positive integer, received {value!r}")
    if bits is None:
        return None
    pair = tuple(bits) if isinstance(bits, (tuple, list)) else (bits, bits)
    ok = len(pair) == 2 and all(isinstance(b, (int, np.integer)) and not isinstance(b, bool) for b in pair)
    if not ok or not all(1 <= b <= 32 for b in pair):
        raise ValueError(
            f"bits: expected None, an integer from 1 to 32 or a pair (weights, inputs), received {bits!r}"
        )
    return int(pair[0]), int(pair[1])


@functools.lru_cache(maxsize=16)
def _tables(space, num_classes, in_channels):
    """Tallies of everything that a code can choose, as int64 arrays.

    Strides belong to stages, and channels between blocks are no choice: so the resolution alone determines
    the size of a block's input, and a block's tally depends on the resolution and its own two genes only.

    Returns:
        (resolutions, 6) of all that is always there, and for each searched block the position of its kernel
        gene and (resolutions, kernels, expands, 6).
    """
    counts = space.choice_counts
    is_kernel = np.array([gene.kind == "kernel" for gene in space.genes])
    is_expand = np.array([gene.kind == "expand" for gene in space.genes])
    positions = np.flatnonzero(is_kernel).tolist()
    constant = np.zeros((len(space.resolutions), len(_Tally._fields)), np.int64)
    elastic = {
        i: np.zeros((len(constant), counts[i], counts[i + 1], constant.shape[1]), np.int64) for i in positions
    }
    # With full depth every block occurs; all take their k-th kernel size and e-th expand ratio at once.
    most_kernels, most_expands = (np.max(counts[genes], initial=1) for genes in (is_kernel, is_expand))
    for r, k, e in np.ndindex(len(constant), most_kernels, most_expands):
        code = np.where(is_kernel, np.minimum(k, counts - 1), counts - 1)
        code = np.where(is_expand, np.minimum(e, counts - 1), code)
        code[0] = r
        blocks = space.blocks(space.decode(code))
        always = _ends(space, blocks, num_classes, in_channels)
        for block in blocks:
            if block.stage in space.searched:
                i = space.gene_index("kernel", block.stage, block.index)
                elastic[i][r, code[i], code[i + 1]] = _total(_block(block))
            else:
                always += _block(block)
        constant[r] = _total(always)
    return constant, tuple(elastic.items())
