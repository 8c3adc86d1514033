"""A schedule is a tuple of stages, made from the settings of a run by a pure function."""

import dataclasses

from tfqnas.arch import Arch


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training run of one supernet.

    Attributes:
        name: also the name of its checkpoint directory.
        bits: of weights and inputs, None for floating point.
        epochs, learning_rate: length and peak learning rate.
        sampling: "largest" (one subnet a step), "sandwich" (largest, smallest and random ones) or "subnet"
            (the one architecture of a finetuning).
        soft_labels: None, "in_place" (of the largest subnet of the same step), or the name of the stage whose
            supernet is the teacher.
        init: None, or the name of the stage whose weights it starts from.
        arch: the `Arch` of "subnet".
        soft_weight: share of the loss that comes from a teacher's soft labels; None: that of the settings.
        integer_aware: of "subnet": with the 8-bit quantizers of the exported model, and BatchNorm as it is folded.
    """

    name: str
    bits: int | None
    epochs: float
    learning_rate: float
    sampling: str
    soft_labels: str | None = None
    init: str | None = None
    arch: Arch | None = None
    soft_weight: float | None = None
    integer_aware: bool = False


def schedule(config):
    """The stages of a run (OQA, appendix A.2): float, largest, then one supernet for each bit width.

    With `schedule="direct"` every bit width starts from floating point and has a stage of its own for the
    largest network. Stages of zero epochs are left out, except the last supernet that hands its weights on.
    A float supernet comes last: nothing starts from it, so that it can be added to what is trained.

    Args:
        config: `RunConfig`.

    Returns:
        A tuple of `Stage`.
    """
    stages = []
    start = None
    if config.float_epochs or config.float_weights:
        stages.append(Stage("float", None, config.float_epochs, config.float_learning_rate, "largest"))
        start = "float"
    previous = None
    for bits in config.bits:
        inherits = config.schedule == "inherit" and previous is not None
        init = previous if inherits else start
        if not inherits and config.largest_epochs:
            name = f"largest_b{bits}"
            rate = config.largest_learning_rate
            stages.append(Stage(name, bits, config.largest_epochs, rate, "largest", None, init))
            init = name
        soft = {"auto": previous if inherits else "in_place", "none": None, "in_place": "in_place",
                "teacher": previous if inherits else "in_place"}[config.distillation]  # fmt: skip
        stages.append(
            Stage(
                f"supernet_b{bits}", bits, config.for_bits("supernet_epochs", bits),
                config.for_bits("supernet_learning_rate", bits), "sandwich", soft, init,
            )
        )  # fmt: skip
        previous = stages[-1].name
    if config.float_supernet_epochs:
        soft = None if config.distillation == "none" else "in_place"
        rate = config.float_supernet_learning_rate
        stages.append(Stage("supernet_float", None, config.float_supernet_epochs, rate, "sandwich", soft, start))
    return tuple(stages)


def finetuning(bits, arch, epochs, learning_rate, integer_aware=False, distilled=True):
    """The stage that trains one subnet of a supernet further (OQA, appendix A.2: 25 epochs at 0.0016).

    Args:
        distilled: with the soft labels of the supernet's largest network, which are half of the loss by default.
    """
    name, init = f"finetune_b{bits}_{arch.key}{'_integer' * integer_aware}", f"supernet_b{bits}"
    soft = init if distilled else None
    return Stage(name, bits, epochs, learning_rate, "subnet", soft, init, arch, integer_aware=integer_aware)
