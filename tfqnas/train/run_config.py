"""All settings that decide a run, as one frozen record. `tfqnas train` has a flag for each field."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

from tfqnas import spaces
from tfqnas.data.data_config import DataConfig
from tfqnas.errors import SettingError, UserError, as_text
from tfqnas.files import warn
from tfqnas.records import restored
from tfqnas.settings import COUNT, first_difference, read_back, setting, share, written

# A number of epochs, or of gigabytes.
_amount = functools.partial(setting, at_least=0, at_most=1e9)
# Descriptions of a space.
ONE, MANY = "a space without bit widths", "a space of several bit widths"


def space_of(name: str) -> spaces.SearchSpace:
    """The search space that a setting names.

    Raises:
        UserError: for an unknown name, or a file without a space.
    """
    try:
        return spaces.get(name)
    except OSError as error:
        raise UserError(f"`space`: {name} cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise UserError(f"`space`: {error}") from None


@dataclasses.dataclass(frozen=True)
class RunConfig(DataConfig):
    """The settings of a run. One value in a tuple of the stages stands for all of them."""

    run_dir: str = setting("", "directory of the run: checkpoints, logs, search, models", fixed=False)
    space: str = setting("tiny", "search space: a name or a JSON file")
    bits: tuple[int, ...] = setting(
        (4, 3, 2), "falling bit widths, with one supernet for each", at_least=2, at_most=16, only={"precision": (ONE,)}
    )
    schedule: str = setting(
        "inherit",
        "inherit: each bit width from the one above; direct: each from float",
        choices=("inherit", "direct"),
        only={"precision": (ONE,)},
    )
    seed: int = setting(0, "seed of everything random; the same seed gives the same run", at_least=0)
    batch_size: int = setting(64, "images a step, over all replicas", at_least=1)
    held_out: int = setting(200, "training images held out for the search", at_least=1)
    recalibration_images: int = setting(4096, "training images that estimate BatchNorm statistics", at_least=1)
    float_weights: str = setting("", "weights of a float supernet to start from: a checkpoint or .weights.h5")
    float_epochs: float = _amount(0.0, "epochs of the largest network in floating point")
    float_learning_rate: float = setting(
        0.05, "peak learning rate of the float stage", at_least=0, only={"float_epochs": ()}
    )
    largest_epochs: float = _amount(10.0, "epochs of the largest network with quantization, before its supernet")
    largest_learning_rate: float = setting(
        0.04, "peak learning rate of the largest network's stage", at_least=0, only={"largest_epochs": ()}
    )
    supernet_epochs: tuple[float, ...] = _amount(
        (10.0,), "epochs of each bit width's supernet", only={"precision": (ONE,)}
    )
    supernet_learning_rate: tuple[float, ...] = setting(
        (0.02,), "peak learning rate of each supernet", at_least=0, only={"precision": (ONE,)}
    )
    mixed_epochs: tuple[float, float] = _amount(
        (10.0, 10.0),
        "epochs of the supernet's two phases in a space with several bit widths (mbv3_qfa, tiny_qfa), first with "
        "32 bits (floating point) among the choices, then without",
        only={"precision": (MANY,)},
    )
    mixed_learning_rate: tuple[float, float] = setting(
        (0.02, 0.02), "peak learning rates of these two phases", at_least=0, only={"precision": (MANY,)}
    )
    mixed_inputs: str = setting(
        "batch_quant",
        "quantizer of inputs in a space with several bit widths: batch_quant (QFA), or lsq for comparison",
        choices=("batch_quant", "lsq"),
        only={"precision": (MANY,)},
    )
    sample_one_precision: float = share(
        0.0, "share of the random subnets with one bit width for all (QFA)", only={"precision": (MANY,)}
    )
    float_supernet_epochs: float = _amount(
        0.0,
        "epochs of a float supernet for comparison in tfqnas analyze; trained last, also in a finished run",
        fixed=False,
        only={"precision": (ONE,)},
    )
    float_supernet_learning_rate: float = setting(
        0.05,
        "peak learning rate of the float supernet",
        fixed=False,
        at_least=0,
        only={"precision": (ONE,), "float_supernet_epochs": ()},
    )
    warmup_epochs: float = _amount(0.5, "epochs of linear warm-up in each stage, before the cosine")
    momentum: float = share(0.9, "Nesterov momentum of SGD")
    weight_decay: float = setting(
        3e-5, "L2 decay of kernels, but not of BatchNorm, biases and steps", at_least=0, at_most=1e3
    )
    label_smoothing: float = setting(
        0.1, "share of a label's probability spread over all classes", at_least=0, at_most=0.99
    )
    dropout: float = setting(0.1, "dropout rate before the classifier", at_least=0, at_most=0.99)
    random_subnets: int = setting(2, "random subnets in each step, beside the largest and the smallest", at_least=0)
    distillation: str = setting(
        "auto",
        "none; in_place: from the largest subnet; teacher: from the next higher bit width; "
        "auto: teacher after inheritance, else in_place",
        choices=("auto", "none", "in_place", "teacher"),
    )
    distillation_weight: float = share(
        0.5,
        "share of the loss that comes from the teacher's soft labels, 0 to 1",
        only={"distillation": ("auto", "in_place", "teacher")},
    )
    distillation_temperature: float = setting(
        1.0,
        "temperature of the soft labels",
        at_least=1e-3,
        at_most=1e3,
        only={"distillation": ("auto", "in_place", "teacher")},
    )
    teacher_arch: str = setting(
        "largest",
        "the teacher's subnet: largest, or same (as the student's)",
        choices=("largest", "same"),
        only={"distillation": ("auto", "teacher")},
    )
    crop_area: float = setting(
        1.0, "augmentation: smallest share of the area in the random resized crop; 1: none", at_least=0.001, at_most=1
    )
    shift: float = share(0.0, "augmentation: largest shift, as a share of the image")
    zoom: float = setting(0.0, "augmentation: largest relative change of size", at_least=0, at_most=0.99)
    rotation: float = setting(0.0, "augmentation: largest angle in degrees", at_least=0, at_most=360)
    flip: bool = setting(False, "augmentation: mirror half of the images")
    brightness: float = share(0.0, "augmentation: largest relative change of all pixels")
    saturation: float = share(0.0, "augmentation: largest relative change of the distance to grey")
    narrow_range: bool = setting(False, "symmetric integer range of the weights, without the lowest code")
    shared_steps: bool = setting(
        True, "one LSQ step in each layer (OQAT); false: one for each kernel size and width", only={"precision": (ONE,)}
    )
    kernel_transform: bool = setting(False, "learn the map from larger to smaller kernels, as once-for-all does")
    evaluation_epochs: float = _amount(
        0.0, "epochs between evaluations on held-out images while training; 0: only at the end of a stage", fixed=False
    )
    checkpoint_steps: int = setting(200, "steps between checkpoints; each stage ends with one", fixed=False, at_least=1)
    cache_gb: float = _amount(
        4.0, "memory for decoded evaluation images in GB; others are decoded again each time", fixed=False
    )
    distribution: str = setting(
        "none",
        "none, mirrored (all devices) or multiworker (TF_CONFIG)",
        fixed=False,
        choices=("none", "mirrored", "multiworker"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        bits = self.bits
        if not bits or list(bits) != sorted(set(bits), reverse=True):
            raise SettingError("bits", "falling bit widths from 16 to 2", bits)
        for name in ("supernet_epochs", "supernet_learning_rate"):
            if len(values := getattr(self, name)) not in (1, len(bits)):
                raise SettingError(name, f"1 value or one for each of `bits={as_text(bits)}`", values)
        if self.schedule == "direct" and self.distillation == "teacher":
            expected = "another one with `schedule=direct`, where no bit width has a teacher"
            raise SettingError("distillation", expected, self.distillation)

    @property
    def precision(self) -> str:
        """The description of the space, `ONE` or `MANY`."""
        return MANY if space_of(self.space).mixed else ONE

    def for_bits(self, name: str, bits: int) -> float:
        """The value for a bit width of a field that has one value for all bit widths or one for each."""
        values = getattr(self, name)
        return values[0] if len(values) == 1 else values[self.bits.index(bits)]

    def to_json(self) -> str:
        return json.dumps(written(self), indent=1)

    @classmethod
    def from_json(
        cls, source: str | bytes | dict[str, Any], where: str = "settings", say: Callable[[str], object] = warn
    ) -> Self:
        """The settings that `to_json` wrote, in this version or an earlier one.

        Args:
            source: the text, or the dictionary parsed from it.
            where: name of the source, for messages.
            say: called with a line if settings that were added later take their defaults.

        Raises:
            UserError: for a setting that this version does not have, unless it had no effect; for one that is missing
                though it was written; for a value that it cannot have.
        """
        kept = restored(source, dict[str, Any], where)
        known = {field.name for field in dataclasses.fields(cls)}
        for name, value in kept.items():
            if name not in (*known, COUNT) and (name, value) not in _GONE:
                raise UserError(
                    f"{where}: `{name}={as_text(value)}`: this version of tfqnas does not have this setting; go on "
                    "with the version that made the run"
                )
        return read_back(cls, kept, where, say, _GONE)

    def refuse_if_different(self, other: Mapping[str, Any], where: str) -> None:
        """Raises a `UserError` with the first field of `other`, JSON data, that would give another result."""
        difference = first_difference(self, other)
        if difference:
            name, ours, theirs = difference
            raise UserError(
                f"{where} was made with `{name}={theirs}`, this command has `{name}={ours}`: give the same value, or "
                "another `run_dir`"
            )


# Settings of earlier versions, each with the value that had no effect.
_GONE = (("sample_full_depth", 0.0), ("sample_full_resolution", 0.0))
