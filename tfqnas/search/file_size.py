"""Computes the size of the int8 `.tflite` file of a subnet from its architecture.

A weight takes one byte. A channel of a convolution or classifier takes 28 bytes: a 4-byte bias, and a 4-byte scale and
an 8-byte zero point each for weights and bias. An operator takes some hundred bytes of tables and names, and a file
has its metadata. The constants were fitted to exports of 6 subnets of `tiny`, 3 of `mbv3`, 2 of `mbv2` and 1 of
`mbv3_relu`; they give all twelve sizes to within 0.2% (2026-11-26, `tests/search/file_size_test.py`). Class names and
packed storage are not counted.
"""

import functools

import numpy as np

from tfqnas.cost import sums_over_blocks
from tfqnas.spaces import Block, SearchSpace

_CHANNEL = 4 + 2 * (4 + 8)
_OPERATOR, _FILE = 340, 2350


def file_kb(space: SearchSpace, num_classes: int, channels: int, codes: np.ndarray) -> np.ndarray:
    """Sizes of the files of many architectures in kB (1,000 bytes), float64 (m,). They hold for all bit widths up to 8.

    Args:
        space: `SearchSpace`.
        num_classes: number of outputs of the classifier.
        channels: number of image channels.
        codes: int (m, n), from `space.encode`; genes of blocks beyond the depth are ignored.
    """
    return sums_over_blocks(space, *_tables(space, num_classes, channels), codes)[:, 0] / 1e3


def _convolution(kernel: int, in_channels: int, out_channels: int, activation: str = "relu") -> int:
    """Bytes of a convolution; a depthwise convolution has 1 input channel. h-swish is another operator."""
    weights = kernel * kernel * in_channels * out_channels
    return weights + _CHANNEL * out_channels + _OPERATOR * (2 if activation == "hswish" else 1)


def _block(block: Block, first_residual: bool) -> int:
    """Bytes of an inverted residual block.

    A sum is stored at its own scale and requantized for each convolution that reads it. These are the input of every
    residual block, and the output of a stage with residual blocks, which is counted with the first of them.
    """
    hidden, squeezed = block.hidden, block.se_channels
    total = _convolution(block.kernel, 1, hidden, block.activation) + _convolution(1, hidden, block.out_channels)
    if block.has_expansion:
        total += _convolution(1, block.in_channels, hidden, block.activation)
    if squeezed:  # also a mean and a product
        total += _convolution(1, hidden, squeezed) + _convolution(1, squeezed, hidden) + 2 * _OPERATOR
    if block.residual:
        total += _OPERATOR * (3 if first_residual else 2)
    return total


def _ends(space: SearchSpace, last: Block, num_classes: int, channels: int) -> int:
    """Bytes of the layers before and after the blocks, and of the file itself."""
    features = space.head_channels
    total = _convolution(space.stem_kernel, channels, space.stem_channels, space.stem_activation)
    total += _convolution(1, last.out_channels, features, space.head_activation)
    if space.feature_channels:
        total += _convolution(1, features, space.feature_channels, space.head_activation)
        features = space.feature_channels
    # The two other operators are the mean, and the product that requantizes it.
    return total + _convolution(1, features, num_classes) + 2 * _OPERATOR + _FILE


@functools.lru_cache(maxsize=16)
def _tables(
    space: SearchSpace, num_classes: int, channels: int
) -> tuple[np.ndarray, tuple[tuple[int, np.ndarray], ...]]:
    """`(constant, elastic)` for `sums_over_blocks`. Bytes do not depend on the resolution."""
    blocks, seen = space.blocks(space.largest()), set()
    constant, elastic = _ends(space, blocks[-1], num_classes, channels), []
    for block in blocks:
        stage, first = space.stages[block.stage], block.residual and block.stage not in seen
        seen |= {block.stage} if block.residual else set()
        sizes = np.array(
            [
                [
                    _block(
                        block._replace(kernel=kernel, hidden=hidden, se_channels=se, has_expansion=expand != 1), first
                    )
                    for expand, hidden, se in zip(
                        stage.expands,
                        space.hidden_choices(block.stage, block.index),
                        space.se_choices(block.stage, block.index),
                        strict=True,
                    )
                ]
                for kernel in stage.kernels
            ],
            np.int64,
        )
        if stage.fixed:
            constant += sizes.item()
        else:
            position = space.gene_index("kernel", block.stage, block.index)
            elastic.append((position, np.broadcast_to(sizes[..., None], (len(space.resolutions), *sizes.shape, 1))))
    return np.full((len(space.resolutions), 1), constant, np.int64), tuple(elastic)
