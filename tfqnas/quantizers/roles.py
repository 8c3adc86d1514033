"""What quantizers share that quantize weights in one way and inputs in another."""

from typing import Any

from tfqnas.quantizers.base import Quantizer


class OfRole(Quantizer):
    """A quantizer with an argument `role`, from which the sign of the codes follows.

    Args:
        bits: a bit width at which the method exists, see `traits`.
        role: "weights": signed codes around zero; "inputs": unsigned ones.
        narrow_range: of weights: drop the lowest code.
    """

    def __init__(self, bits: int, role: str, narrow_range: bool = False, **kwargs: Any) -> None:
        self.traits.check(type(self).__name__, bits, role)
        kwargs.pop("signed", None)  # follows from the role
        super().__init__(bits, role == "weights", narrow_range, **kwargs)
        self.role = role
        self.traits = self.traits.only(role)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("signed")
        return {**config, "role": self.role}
