"""The kernels that quantizers are made of: one pass over a tensor each, bit widths as numbers or tensors."""

import tensorflow as tf

# 2^12 - 1 is a multiple of 2^b - 1 for 2, 3, 4 and 6 bits: zero is a code of a grid of 12 bits over any of their
# ranges, so that the gradient's kernel, which moves a range until it is, leaves the ends where they are.
_COMMON_GRID = 12


def on_grid(
    x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, bits: tf.Tensor | int, signed: bool, narrow: bool = False
) -> tf.Tensor:
    """`x` clipped to [`low`, `high`] and rounded to the grid between them that holds zero; ties to even.

    Args:
        x: float32 of any shape. low, high: float32 scalars, `low = qn * step` and `high = qp * step` of the integer
            range of `bits`. NaN where a step is not set: so is the result then.
        bits: 2 to 16, a Python int or an int32 scalar.
        signed, narrow: of the integer range, Python bools.
    """
    unset = tf.math.is_nan(high)  # the kernel refuses NaN, but makes it of infinity
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
    """What of a gradient passes `clip(x, low, high)`: `(upstream inside, its sum below, its sum above)`.

    The ends belong to the inside. Where `bits` is a tensor they are exact for unsigned ranges and for 2, 3, 4 and 6
    bits, elsewhere to 0.03% of the range.
    """
    static = bits if isinstance(bits, int) else _COMMON_GRID
    return tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
        gradients=upstream, inputs=x, min=low, max=high, num_bits=static, narrow_range=narrow
    )
