"""What quantizers share that quantize weights in one way and inputs in another."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfqnas.quantizers.base import Quantizer

    _Base = Quantizer
else:
    _Base = object  # it stands before the quantizer that it is mixed into


class OfRole(_Base):
    """Puts before `Quantizer` an argument `role`, from which the sign of the codes follows.

    Args:
        bits: a bit width at which the method exists, see `BITS`.
        role: "weights": signed codes around zero; "inputs": unsigned ones.
        narrow_range: of weights: drop the lowest code.
    """

    def __init__(self, bits: int, role: str, narrow_range: bool = False, **kwargs: Any) -> None:
        self.check_use(bits, role)
        kwargs.pop("signed", None)  # follows from the role
        super().__init__(bits, role == "weights", narrow_range, **kwargs)
        self.role = role

    @property
    def roles(self) -> tuple[str, ...]:
        return (self.role,)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("signed")
        return {**config, "role": self.role}
