"""Everything that decides a run, as one frozen record. `tools/train.py` has a flag for each field."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from tfqnas.data.data_config import DataConfig
from tfqnas.errors import UserError, did_you_mean
from tfqnas.settings import as_flag, first_difference, plain, setting


@dataclasses.dataclass(frozen=True)
class RunConfig(DataConfig):
    """The settings of a run. One value in a tuple of the stages stands for all of them."""

    run_dir: str = setting("", "directory of the run: checkpoints, logs, search, models", fixed=False)
    space: str = setting("tiny", "search space: a name or a JSON file")
    bits: tuple[int, ...] = setting((4, 3, 2), "bit widths, falling, one supernet each")
    schedule: str = setting("inherit", "inherit: each bit width from the one above; direct: each from float")
    seed: int = setting(0, "of everything random; the same seed gives the same run")
    batch_size: int = setting(64, "images a step, over all replicas")
    held_out: int = setting(200, "training images held out for the search")
    recalibration_images: int = setting(4096, "training images that BatchNorm statistics are estimated on")
    float_weights: str = setting("", "weights of a float supernet to start from: a checkpoint or .weights.h5")
    float_epochs: float = setting(0.0, "epochs of the largest network in floating point")
    float_learning_rate: float = setting(0.05, "peak learning rate of the float stage")
    largest_epochs: float = setting(10.0, "epochs of the largest network with quantization, before its supernet")
    largest_learning_rate: float = setting(0.04, "peak learning rate of that stage")
    supernet_epochs: tuple[float, ...] = setting((10.0,), "epochs of each bit width's supernet")
    supernet_learning_rate: tuple[float, ...] = setting((0.02,), "peak learning rate of each supernet")
    mixed_epochs: tuple[float, float] = setting(
        (10.0, 10.0),
        "spaces with several bit widths (mbv3_qfa, tiny_qfa): epochs of the supernet's two phases, with "
        "32 bits (floating point) among the choices, then without",
    )
    mixed_learning_rate: tuple[float, float] = setting((0.02, 0.02), "peak learning rates of these two phases")
    mixed_inputs: str = setting(
        "batch_quant", "quantizer of the inputs in such spaces: batch_quant (QFA), or lsq to compare with"
    )
    sample_one_precision: float = setting(0.0, "share of the random subnets with one bit width for all (QFA)")
    float_supernet_epochs: float = setting(
        0.0,
        "epochs of a float supernet, for tools/analyze.py to compare with; trained last, also in a finished run",
        fixed=False,
    )
    float_supernet_learning_rate: float = setting(0.05, "peak learning rate of the float supernet", fixed=False)
    warmup_epochs: float = setting(0.5, "epochs of linear warm-up in each stage, before the cosine")
    momentum: float = setting(0.9, "Nesterov momentum of SGD")
    weight_decay: float = setting(3e-5, "L2 decay of kernels; spares BatchNorm, biases and steps")
    label_smoothing: float = setting(0.1, "share of a label's probability spread over all classes")
    dropout: float = setting(0.1, "rate before the classifier")
    random_subnets: int = setting(2, "random subnets a step, beside the largest and the smallest")
    distillation: str = setting(
        "auto",
        "none; in_place: from the largest subnet; teacher: from the next higher bit width; "
        "auto: teacher after inheritance, else in_place",
    )
    distillation_weight: float = setting(0.5, "share of the loss that comes from the teacher's soft labels, 0 to 1")
    distillation_temperature: float = setting(1.0, "temperature of the soft labels")
    teacher_arch: str = setting("largest", "the teacher's subnet: largest, or same (as the student's)")
    crop_area: float = setting(1.0, "augmentation: smallest share of the area in the random resized crop; 1: none")
    shift: float = setting(0.0, "augmentation: largest shift, as a share of the image")
    zoom: float = setting(0.0, "augmentation: largest relative change of size")
    rotation: float = setting(0.0, "augmentation: largest angle in degrees")
    flip: bool = setting(False, "augmentation: mirror half of the images")
    brightness: float = setting(0.0, "augmentation: largest relative change of all pixels")
    saturation: float = setting(0.0, "augmentation: largest relative change of the distance to grey")
    narrow_range: bool = setting(False, "symmetric integer range of the weights, without the lowest code")
    shared_steps: bool = setting(True, "one LSQ step a layer (OQAT); false: one for each kernel size and width")
    kernel_transform: bool = setting(False, "learn the map from larger to smaller kernels, as once-for-all does")
    evaluation_epochs: float = setting(
        0.0, "epochs between looks at the held-out accuracy while training; 0: at the end of a stage only", fixed=False
    )
    checkpoint_steps: int = setting(200, "steps between checkpoints; each stage ends with one", fixed=False)
    cache_gb: float = setting(
        4.0, "memory for decoded evaluation images; what does not fit is decoded again", fixed=False
    )
    distribution: str = setting("none", "none, mirrored (all devices) or multiworker (TF_CONFIG)", fixed=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                hint = did_you_mean(value, choices)
                raise UserError(f"--{name}: expected one of {choices}, received {value!r}{hint}")
        bits = self.bits
        if not bits or any(not 2 <= b <= 16 for b in bits) or list(bits) != sorted(set(bits), reverse=True):
            raise UserError(f"--bits: expected falling bit widths from 16 to 2, received {as_flag(bits)}")
        for name in ("mixed_epochs", "mixed_learning_rate"):
            if len(getattr(self, name)) != 2:
                raise UserError(f"--{name}: expected 2 values, one a phase, received {as_flag(getattr(self, name))}")
        for name in ("supernet_epochs", "supernet_learning_rate"):
            values = getattr(self, name)
            if len(values) not in (1, len(bits)):
                raise UserError(
                    f"--{name}: expected 1 value or one for each of --bits={as_flag(bits)}, "
                    f"received {len(values)}: {as_flag(values)}"
                )
        for name in ("batch_size", "held_out", "recalibration_images", "checkpoint_steps", "seed", "random_subnets"):
            lowest = 0 if name in ("seed", "random_subnets") else 1
            if getattr(self, name) < lowest:
                raise UserError(f"--{name}: expected at least {lowest}, received {getattr(self, name)}")
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not all(least <= v <= most for v in (value if isinstance(value, tuple) else (value,))):
                raise UserError(f"--{name}: expected {least} to {most:g}, received {as_flag(value)}")
        if self.schedule == "direct" and self.distillation == "teacher":
            raise UserError("--distillation=teacher: with --schedule=direct no bit width has a teacher")

    def for_bits(self, name: str, bits: int) -> float:
        """The value of a field that holds one value for all bit widths, or one for each."""
        values = getattr(self, name)
        return values[0] if len(values) == 1 else values[self.bits.index(bits)]

    def to_json(self) -> str:
        return json.dumps(plain(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings that `to_json` wrote, in this version or an earlier one.

        Raises:
            UserError: for a setting that this version does not have, unless it had no effect.
        """
        fields = {name: value for name, value in json.loads(text).items() if (name, value) not in _GONE}
        for name in fields.keys() - {field.name for field in dataclasses.fields(cls)}:
            raise UserError(
                f"--{name}={as_flag(fields[name])}: this version of tfqnas does not have this setting; go on with the "
                "version that made the run"
            )
        return cls(**fields)

    def refuse_if_different(self, other: Mapping[str, Any], where: str) -> None:
        """Raises a `UserError` naming the first field of `other`, JSON data, that would give another result."""
        difference = first_difference(self, other)
        if difference:
            name, ours, theirs = difference
            raise UserError(
                f"{where} was made with --{name}={theirs}, this command has --{name}={ours}: "
                "give the same value, or another --run_dir"
            )


# Settings of earlier versions with the values that had no effect.
_GONE = (("sample_full_depth", 0.0), ("sample_full_resolution", 0.0))
# The largest float32: rates that diverge are for whoever asks for them.
_HIGHEST = 3.4e38
_RANGES = (
    ("crop_area", 0.001, 1),
    ("shift", 0, 1),
    ("zoom", 0, 0.99),
    ("rotation", 0, 360),
    ("brightness", 0, 1),
    ("saturation", 0, 1),
    ("distillation_weight", 0, 1),
    ("dropout", 0, 0.99),
    ("label_smoothing", 0, 0.99),
    ("evaluation_epochs", 0, 1e9),
    ("cache_gb", 0, 1e9),
    ("float_epochs", 0, 1e9),
    ("largest_epochs", 0, 1e9),
    ("supernet_epochs", 0, 1e9),
    ("mixed_epochs", 0, 1e9),
    ("float_supernet_epochs", 0, 1e9),
    ("warmup_epochs", 0, 1e9),
    ("float_learning_rate", 0, _HIGHEST),
    ("largest_learning_rate", 0, _HIGHEST),
    ("supernet_learning_rate", 0, _HIGHEST),
    ("mixed_learning_rate", 0, _HIGHEST),
    ("float_supernet_learning_rate", 0, _HIGHEST),
    ("weight_decay", 0, 1e3),
    ("momentum", 0, 1),
    ("distillation_temperature", 1e-3, 1e3),
    ("sample_one_precision", 0, 1),
)
_CHOICES = {
    "schedule": ("inherit", "direct"),
    "distillation": ("auto", "none", "in_place", "teacher"),
    "teacher_arch": ("largest", "same"),
    "mixed_inputs": ("batch_quant", "lsq"),
    "distribution": ("none", "mirrored", "multiworker"),
}
