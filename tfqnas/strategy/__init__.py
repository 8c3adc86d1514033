"""Differentiable quantization strategy search (DQSS): mixtures of quantizers become the best of them."""

from tfqnas.strategy.freezing import freeze

__all__ = ["freeze"]
