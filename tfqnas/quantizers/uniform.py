"""Uniform quantization by scalars alone: of one quantizer, and of a mixture of many in one pass each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfqnas.quantizers.kernels import on_grid, passed


class UniformGrid(NamedTuple):
    """The levels `k * step - shift` from `low - shift` to `high - shift`, as float32 scalars.

    What a quantizer computes of its parameters; gradients reach them through these scalars, straight-through for
    rounding alone: with `q` the result and `u = x + shift`, to `x` 1 inside of the range; to `low` and `high` 1 below
    and above; to `step` `(q - x) / step` inside; to `shift` -1 outside.

    Args:
        bits: 2 to 16. signed, narrow: of the codes.
        low, high: the ends; `low` 0 where the codes are unsigned, unless `whole`.
        step: None where no gradient comes from rounding.
        shift: None: zero is a level.
        whole: unsigned codes with zero among them, `low` at most 0: rounded by `fake_quant`, halves upwards.
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
        """Those that have gradients, by name."""
        named = {name: getattr(self, name) for name in ("low", "high", "step", "shift")} if self.learned else {}
        return {name: value for name, value in named.items() if value is not None}


@tf.custom_gradient
def gradient_times(value: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    """`value`, whose gradient is multiplied by `factor`."""
    return tf.identity(value), lambda upstream: (upstream * factor, None)


def rounded(x: tf.Tensor, grid: UniformGrid) -> tf.Tensor:
    """`x` on a `UniformGrid`, float32 of its shape, with the gradients that are described there."""

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
    """`sum_i a_i * rounded(x, grid_i)` as one function: nothing but `x` is kept for its gradients.

    Gradients need every result again. Kept, they would take as many times the memory of training as there are grids.

    Args:
        x: float32 of any shape. grids: list of `UniformGrid`. coefficients: list of float32 scalars.
        constant: of the gradients to coefficients that sum to one by a softmax a part that all have in common,
            `sum(upstream * x)`, has no effect, and is left out unless this is True.
    """
    names = [tuple(grid.scalars) for grid in grids]
    scalars = [value for grid in grids for value in grid.scalars.values()]

    @tf.custom_gradient
    def forward(x: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        y = _sum([a * _levels(_moved(x, grid), grid) for a, grid in zip(coefficients, grids, strict=True)])
        shifts = [a * grid.shift for a, grid in zip(coefficients, grids, strict=True) if grid.shift is not None]

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # Without the dependency graph optimisation would merge these results with the forward pass, and keep them.
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
    """`passed`, the sums only where they are needed."""
    if grid.learned:
        return passed(upstream, moved, grid.low, grid.high, grid.bits, grid.narrow)
    to_x, _, _ = tf.raw_ops.QuantizeAndDequantizeV4Grad(
        gradients=upstream, input=moved, input_min=grid.low, input_max=grid.high
    )
    return to_x, None, None


def _to_scalars(
    grid: UniformGrid, dx: tf.Tensor, error: tf.Tensor, below: tf.Tensor, above: tf.Tensor
) -> list[tf.Tensor]:
    """The gradients to `grid.scalars`. `error`: the result less `x`."""
    slopes = {"low": lambda: below, "high": lambda: above, "shift": lambda: -(below + above)}
    slopes["step"] = lambda: tf.reduce_sum(dx * error) / grid.step
    return [slopes[name]() for name in grid.scalars]
