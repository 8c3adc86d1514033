"""What a quantization method can do: one record that every quantizer has."""

import dataclasses

# What a quantizer may be used for.
ROLES = ("weights", "inputs")
# The bit widths of a role that a method is not for.
NONE = range(0)


@dataclasses.dataclass(frozen=True)
class Traits:
    """Facts about a method that layers, searches and the exporter ask for.

    A class has them as `traits`. An object has its own where they follow from its arguments.

    Args:
        weights, inputs: the bit widths at which the method exists for this role; `NONE`: it is not for this role.
        uniform: its levels are integers times one step, which is what integer models compute.
        extra_weight_bits: how many bits more than its bit width the integers of weights take.
        clips_at_zero: as a quantizer of inputs it loses all values below zero.
        elementwise: a part of a quantized tensor is the quantized part, since all values share one set of parameters.
        per_channel: it keeps a scale for each output channel of the one kernel that it was initialised with.
        whole: an elastic layer quantizes its whole kernel before it cuts out a subnet's.
        observes: its range follows from statistics of batches, which a supernet gets as arguments.
        combines: it is made of other quantizers.
    """

    weights: range = range(2, 17)
    inputs: range = range(2, 17)
    uniform: bool = True
    extra_weight_bits: int = 0
    clips_at_zero: bool = False
    elementwise: bool = False
    per_channel: bool = False
    whole: bool = False
    observes: bool = False
    combines: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that the method can have."""
        return tuple(role for role in ROLES if getattr(self, role))

    def only(self, role: str) -> "Traits":
        """The same with this role alone."""
        weights, inputs = (getattr(self, own) if own == role else NONE for own in ROLES)
        return dataclasses.replace(self, weights=weights, inputs=inputs)

    def supports(self, bits: int, role: str) -> bool:
        """Whether the method exists with `bits` bits for a role, "weights" or "inputs"."""
        return role in ROLES and bits in getattr(self, role)

    def code_bits(self, bits: int, role: str) -> int:
        """The bit width of integers that hold the codes."""
        return bits + self.extra_weight_bits * (role == "weights")

    def deployable(self, bits: int, role: str) -> bool:
        """Whether an 8-bit integer model computes exactly what the method does with `bits` bits for a role."""
        return self.uniform and self.supports(bits, role) and self.code_bits(bits, role) <= 8

    def check(self, name: str, bits: int, role: str) -> None:
        """Raises ValueError where `supports` says no, in the `name` of the method."""
        if role not in self.roles:
            expected = " or ".join(f'"{known}"' for known in self.roles)
            raise ValueError(f"{name}: role: expected {expected}, received {role!r}")
        if not self.supports(bits, role):
            lowest, *_, highest = getattr(self, role)
            raise ValueError(
                f"{name} of {role}: bits: expected a whole number from {lowest} to {highest}, received {bits!r}"
            )
