"""Uniform quantization by a few scalars, for one quantizer and, in a single pass, for a mixture of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfqnas.quantizers.kernels import on_grid, passed


class UniformGrid(NamedTuple):
    """The levels `k * step - shift` from `low - shift` to `high - shift`, as float32 scalars.

    A quantizer computes them from its parameters, whose gradients pass through these scalars. Rounding is
    straight-through. With the result `q`, the gradient to `x` is 1 inside the range, that to `low` 1 below it, that to
    `high` 1 above it, that to `step` `(q - x) / step` inside, and that to `shift` -1 outside.

    Args:
        bits: 2 to 16.
        signed, narrow: properties of the integer range.
        low, high: the ends before the shift; `low` is 0 for unsigned codes, unless `whole`.
        step: None if no gradient comes from rounding.
        shift: None if zero is a level.
        whole: whether unsigned codes have zero among them, with `low` at most 0. They are rounded by `fake_quant`, with
            halves upwards.
        learned: whether the scalars need gradients.
    """

    bits: int
    low: tf.Tensor
    high: tf.Tensor
    signed: bool
    narrow: bool = False
    step: tf.Tensor | None = None
    shift: tf.Tensor | None = None
    whole: bool = False
    learned: bool = True

    @property
    def scalars(self) -> dict[str, tf.Tensor]:
        """The scalars with gradients, by name."""
        named = {name: getattr(self, name) for name in ("low", "high", "step", "shift")} if self.learned else {}
        return {name: value for name, value in named.items() if value is not None}


@tf.custom_gradient
def gradient_times(value: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    """`value` with its gradient multiplied by `factor`."""
    return tf.identity(value), lambda upstream: (upstream * factor, None)


def rounded(x: tf.Tensor, grid: UniformGrid) -> tf.Tensor:
    """`x` on a `UniformGrid`, float32 of the same shape, with the gradients of that class."""

    @tf.custom_gradient
    def forward(x: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        moved = _moved(x, grid)
        y = _levels(moved, grid)
        y = y if grid.shift is None else y - grid.shift

        def gradient(upstream: tf.Tensor) -> Any:
            moved = _moved(x, grid)
            dx, below, above = _passed(upstream, moved, grid)
            if not grid.learned:
                return dx
            return dx, *_to_scalars(grid, dx, y - x, below, above)

        return y, gradient

    return forward(x, *grid.scalars.values())


def mixture(
    x: tf.Tensor, grids: Sequence[UniformGrid], coefficients: Sequence[tf.Tensor], constant: bool = False
) -> tf.Tensor:
    """`sum_i a_i * rounded(x, grid_i)` as one function that keeps only `x` for its gradients.

    Gradients compute every result again. Keeping the results would multiply the memory of training by their number.

    Args:
        x: float32 of any shape.
        grids: list of `UniformGrid`.
        coefficients: list of float32 scalars.
        constant: whether gradients to coefficients include their common part, `sum(upstream * x)`. It has no effect if
            the coefficients are a softmax of all candidates.
    """
    names = [tuple(grid.scalars) for grid in grids]
    scalars = [value for grid in grids for value in grid.scalars.values()]

    @tf.custom_gradient
    def forward(x: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        y = _sum([a * _levels(_moved(x, grid), grid) for a, grid in zip(coefficients, grids, strict=True)])
        shifts = [a * grid.shift for a, grid in zip(coefficients, grids, strict=True) if grid.shift is not None]

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # Without this dependency, graph optimisation would merge these results with the forward pass and keep them.
            with tf.control_dependencies([upstream]):
                kept = tf.identity(x)
            common = tf.reduce_sum(upstream * kept) if constant else 0.0
            to_x, to_coefficients, to_scalars = [], [], []
            for a, grid, own in zip(coefficients, grids, names, strict=True):
                moved = _moved(kept, grid)
                error = _levels(moved, grid) - moved
                to_coefficients.append(tf.reduce_sum(upstream * error) + common)
                dx, below, above = _passed(upstream, moved, grid)
                to_x.append(a * dx)
                if own:
                    to_scalars += [a * slope for slope in _to_scalars(grid, dx, error, below, above)]
            return _sum(to_x), *to_coefficients, *to_scalars

        return (y - tf.add_n(shifts) if shifts else y), gradient

    return forward(x, *coefficients, *scalars)


def _sum(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)


def _moved(x: tf.Tensor, grid: UniformGrid) -> tf.Tensor:
    return x if grid.shift is None else x + grid.shift


def _levels(moved: tf.Tensor, grid: UniformGrid) -> tf.Tensor:
    if grid.whole:
        return tf.quantization.fake_quant_with_min_max_vars(moved, grid.low, grid.high, grid.bits)
    return on_grid(moved, grid.low, grid.high, grid.bits, grid.signed, grid.narrow)


def _passed(
    upstream: tf.Tensor, moved: tf.Tensor, grid: UniformGrid
) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
    """The result of `passed`, with the sums only if they are needed."""
    if grid.learned:
        return passed(upstream, moved, grid.low, grid.high, grid.bits, grid.narrow)
    to_x, _, _ = tf.raw_ops.QuantizeAndDequantizeV4Grad(
        gradients=upstream, input=moved, input_min=grid.low, input_max=grid.high
    )
    return to_x, None, None


def _to_scalars(
    grid: UniformGrid, dx: tf.Tensor, error: tf.Tensor, below: tf.Tensor, above: tf.Tensor
) -> list[tf.Tensor]:
    """The gradients to `grid.scalars`, given the `error`, which is the result minus `x`."""
    slopes = {"low": lambda: below, "high": lambda: above, "shift": lambda: -(below + above)}
    slopes["step"] = lambda: tf.reduce_sum(dx * error) / grid.step
    return [slopes[name]() for name in grid.scalars]
