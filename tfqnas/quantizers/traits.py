"""A record of what a quantization method can do, which every quantizer has."""

import dataclasses

# The uses of a quantizer.
ROLES = ("weights", "inputs")
# The bit widths of a role that a method does not have.
NONE = range(0)


@dataclasses.dataclass(frozen=True)
class Traits:
    """Properties of a method that layers, searches and the exporter need.

    They are the attribute `traits` of a class, or of an object if they depend on its arguments.

    Args:
        weights, inputs: bit widths at which the method exists for this role, or `NONE` if it does not have the role.
        uniform: whether the levels are integers times a step, as integer models need.
        extra_weight_bits: number of bits that the integers of weights need beyond the bit width.
        clips_at_zero: whether a quantizer of inputs clips negative values.
        elementwise: whether quantizing a part of a tensor gives that part of the quantized tensor, since all values
            share one set of parameters.
        per_channel: whether it has a scale for each output channel of the kernel that it was initialised with.
        whole: whether an elastic layer quantizes its whole kernel before it cuts out that of a subnet.
        observes: whether its range comes from statistics of batches, which a supernet receives as arguments.
        combines: whether it consists of other quantizers.
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
        """The same traits with this role alone."""
        weights, inputs = (getattr(self, own) if own == role else NONE for own in ROLES)
        return dataclasses.replace(self, weights=weights, inputs=inputs)

    def supports(self, bits: int, role: str) -> bool:
        """Whether the method exists with `bits` bits for a role, "weights" or "inputs"."""
        return role in ROLES and bits in getattr(self, role)

    def code_bits(self, bits: int, role: str) -> int:
        """The bit width of integers that hold the codes."""
        return bits + self.extra_weight_bits * (role == "weights")

    def deployable(self, bits: int, role: str) -> bool:
        """Whether an 8-bit integer model computes the method exactly with `bits` bits for a role."""
        return self.uniform and self.supports(bits, role) and self.code_bits(bits, role) <= 8

    def check(self, name: str, bits: int, role: str) -> None:
        """Raises ValueError with the `name` of the method if it does not support this use."""
        if role not in self.roles:
            expected = " or ".join(f'"{known}"' for known in self.roles)
            raise ValueError(f"{name}: role: expected {expected}, received {role!r}")
        if not self.supports(bits, role):
            lowest, *_, highest = getattr(self, role)
            raise ValueError(
                f"{name} of {role}: bits: expected a whole number from {lowest} to {highest}, received {bits!r}"
            )
