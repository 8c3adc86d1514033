"""The base class of quantizers that quantize weights in one way and inputs in another."""

from typing import Any

from tfqnas.quantizers.base import Quantizer


class OfRole(Quantizer):
    """A quantizer with an argument `role`, which decides the sign of the codes.

    Args:
        bits: a bit width in the method's `traits`.
        role: "weights" for signed codes, "inputs" for unsigned codes.
        narrow_range: whether weights drop the lowest code.
    """

    def __init__(self, bits: int, role: str, narrow_range: bool = False, **kwargs: Any) -> None:
        self.traits.check(type(self).__name__, bits, role)
        kwargs.pop("signed", None)  # known from the role
        super().__init__(bits, role == "weights", narrow_range, **kwargs)
        self.role = role
        self.traits = self.traits.only(role)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("signed")
        return {**config, "role": self.role}
