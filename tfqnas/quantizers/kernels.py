"""The kernels of quantizers. Each passes over a tensor once, and its bit width is a number or a tensor."""

import tensorflow as tf

# 2^12 - 1 is a multiple of 2^b - 1 for 2, 3, 4 and 6 bits, so zero is a code of a 12-bit grid over any of their ranges.
# The gradient's kernel, which moves a range until zero is a code, then leaves the ends where they are.
_COMMON_GRID = 12


def on_grid(
    x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, bits: tf.Tensor | int, signed: bool, narrow: bool = False
) -> tf.Tensor:
    """`x` clipped to [`low`, `high`] and rounded to the grid between them that has zero; ties go to even.

    Args:
        x: float32 of any shape.
        low, high: float32 scalars, `low = qn * step` and `high = qp * step` for the integer range of `bits`. They are
            NaN, as is the result, if a step is not set.
        bits: 2 to 16, a Python int or an int32 scalar.
        signed, narrow: Python bools of the integer range.
    """
    unset = tf.math.is_nan(high)  # the kernel refuses NaN, but returns NaN for infinity
    low, high = (tf.where(unset, end, value) for end, value in ((-float("inf"), low), (float("inf"), high)))
    return tf.raw_ops.QuantizeAndDequantizeV3(
        input=x,
        input_min=low,
        input_max=high,
        num_bits=bits,
        signed_input=signed,
        range_given=True,
        narrow_range=narrow,
    )


def passed(
    upstream: tf.Tensor, x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, bits: tf.Tensor | int, narrow: bool = False
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The parts of a gradient through `clip(x, low, high)`, as `(upstream inside, its sum below, its sum above)`.

    The ends belong to the inside. If `bits` is a tensor, they are exact for unsigned ranges and for 2, 3, 4 and 6 bits,
    and otherwise to 0.03% of the range.
    """
    static = bits if isinstance(bits, int) else _COMMON_GRID
    return tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
        gradients=upstream, inputs=x, min=low, max=high, num_bits=static, narrow_range=narrow
    )
