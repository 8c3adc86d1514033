"""The training stages of a run, which pure functions derive from its settings."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Literal

from tfqnas.arch import Arch
from tfqnas.errors import SettingError
from tfqnas.train.run_config import RunConfig

# Stands for the bit width of a supernet with several bit widths (QFA).
MIXED: Literal["mixed"] = "mixed"
# Identifies a supernet of a run: its bit width, `MIXED`, or None for floating point.
Bits = int | Literal["mixed"] | None
# Most systems allow file names of 255 bytes.
_LONGEST_KEY = 150


@dataclasses.dataclass(frozen=True)
class TrainingStage:
    """The training of one network of a run.

    Attributes:
        name: name of the stage and of its checkpoint directory.
        bits: bit width of weights and inputs, None for floating point, `MIXED` for several.
        epochs: length of the stage.
        learning_rate: peak learning rate.
        sampling: "largest" (one subnet per step), "sandwich" (largest, smallest and random subnets) or "subnet" (the
            architecture of a finetuning).
        soft_labels: None, "in_place" (from the largest subnet of the same step), or the name of the stage whose network
            is the teacher.
        init: name of the stage from whose weights it starts, or None.
        arch: the `Arch` to finetune, for sampling "subnet".
        soft_weight: fraction of the loss from a teacher's soft labels; None for that of the settings.
        integer_aware: for "subnet", whether it has the 8-bit quantizers of the exported model and fixed BatchNorm.
        with_float: for `MIXED`, whether 32 bits (no quantization) are among the choices.
    """

    name: str
    bits: Bits
    epochs: float
    learning_rate: float
    sampling: str
    soft_labels: str | None = None
    init: str | None = None
    arch: Arch | None = None
    soft_weight: float | None = None
    integer_aware: bool = False
    with_float: bool = False


def label(bits: Bits) -> str:
    """A short name of a bit width for files, such as "b4", "mixed" or "float"."""
    return "float" if bits is None else bits if bits == MIXED else f"b{bits}"


def supernet_stage(bits: Bits) -> str:
    """The name of the stage that ends with the supernet of a bit width."""
    return f"supernet_{label(bits)}"


def schedule(config: RunConfig, mixed: bool = False) -> tuple[TrainingStage, ...]:
    """The stages of a run (OQA, appendix A.2): float, largest, then one supernet for each bit width.

    With `schedule="direct"` every bit width starts from floating point and has a stage for the largest network. Stages
    of zero epochs are left out, except supernets of bit widths. A float supernet comes last. Since no stage starts from
    it, it can be added to a trained run.

    Args:
        config: `RunConfig`.
        mixed: whether the space has bit widths to choose, which gives the stages of QFA.
    """
    if mixed:
        return _mixed_schedule(config)
    stages = []
    start = None
    if config.float_epochs or config.float_weights:
        stages.append(TrainingStage("float", None, config.float_epochs, config.float_learning_rate, "largest"))
        start = "float"
    previous = None
    for bits in config.bits:
        inherits = config.schedule == "inherit" and previous is not None
        init = previous if inherits else start
        if not inherits and config.largest_epochs:
            name = f"largest_b{bits}"
            rate = config.largest_learning_rate
            stages.append(TrainingStage(name, bits, config.largest_epochs, rate, "largest", None, init))
            init = name
        soft = {
            "auto": previous if inherits else "in_place",
            "none": None,
            "in_place": "in_place",
            "teacher": previous if inherits else "in_place",
        }[config.distillation]
        stages.append(
            TrainingStage(
                f"supernet_b{bits}",
                bits,
                config.for_bits("supernet_epochs", bits),
                config.for_bits("supernet_learning_rate", bits),
                "sandwich",
                soft,
                init,
            )
        )
        previous = stages[-1].name
    if config.float_supernet_epochs:
        soft = None if config.distillation == "none" else "in_place"
        rate = config.float_supernet_learning_rate
        stages.append(
            TrainingStage("supernet_float", None, config.float_supernet_epochs, rate, "sandwich", soft, start)
        )
    return tuple(stages)


def _mixed_schedule(config: RunConfig) -> tuple[TrainingStage, ...]:
    """The stages of QFA: the largest float network, which then teaches one supernet in two phases.

    Only in the first phase tensors may also stay in floating point.
    """
    if not (config.float_epochs or config.float_weights):
        raise SettingError(
            "float_epochs",
            "a positive number, or `float_weights`, with a space of several bit widths, whose teacher is the largest "
            "network in floating point",
            config.float_epochs,
        )
    soft = {"none": None, "in_place": "in_place"}.get(config.distillation, "float")
    stages = [TrainingStage("float", None, config.float_epochs, config.float_learning_rate, "largest")]
    phases = (("supernet_mixed_float", True), (supernet_stage(MIXED), False))
    for (name, with_float), epochs, rate in zip(phases, config.mixed_epochs, config.mixed_learning_rate, strict=True):
        if epochs or not with_float:
            before = stages[-1].name
            stages.append(TrainingStage(name, MIXED, epochs, rate, "sandwich", soft, before, with_float=with_float))
    return tuple(stages)


def finetuning(
    bits: Bits, arch: Arch, epochs: float, learning_rate: float, integer_aware: bool = False, distilled: bool = True
) -> TrainingStage:
    """The stage that finetunes one subnet of a supernet (OQA, appendix A.2: 25 epochs at 0.0016).

    Args:
        bits: bit width of the supernet.
        arch: `Arch` of the subnet.
        epochs, learning_rate: length and peak learning rate.
        integer_aware: as in `TrainingStage`.
        distilled: learn also from the soft labels of the supernet's largest network, by default for half of the loss.
    """
    key = arch.key
    if len(key) > _LONGEST_KEY:
        key = f"{key[:_LONGEST_KEY]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    name, init = f"finetune_{label(bits)}_{key}{'_integer' * integer_aware}", supernet_stage(bits)
    soft = init if distilled else None
    return TrainingStage(name, bits, epochs, learning_rate, "subnet", soft, init, arch, integer_aware=integer_aware)
