"""Settings of a search for quantization strategies."""

import dataclasses
from typing import TypeVar

from tfqnas.errors import SettingError
from tfqnas.settings import Settings, setting, share

Kind = TypeVar("Kind", bound="SearchSettings")
# Descriptions of the candidates.
ONE, SEVERAL = "a single strategy", "several strategies"
LOSSES = ("kl", "mse", "luma", "cosine", "features")


@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    """The candidate quantizers of each layer, and the choice of one of them."""

    bits: int = setting(
        4, "bit width of weights and inputs; the first and last layers have `end_bits`", at_least=2, at_most=16
    )
    end_bits: int = setting(
        8, "bit width of the first and the last layers; 0: that of all others", at_least=2, at_most=16, or_zero=True
    )
    weights: tuple[str, ...] = setting(
        (),
        "candidate strategies of weights, those with a scale for each output channel end in _per_channel; by default "
        "a few that measurements recommend; a single one is not searched",
    )
    inputs: tuple[str, ...] = setting((), "candidate strategies of inputs, as for weights")
    deployable: bool = setting(False, "allow only strategies that an integer model computes exactly")
    integer_aware: bool = setting(
        False,
        "also round the other 8-bit tensors of an integer model (residual stream, pooling, output), so that search and "
        "evaluation match the exported model",
    )
    batch_size: int = setting(32, "images a step", at_least=1)
    temperature_start: float = setting(
        1.0, "temperature of the coefficients' softmax at the start of the search", above=0, only={"choice": (SEVERAL,)}
    )
    temperature_end: float = setting(
        0.1,
        "temperature at the end of the search; lower is nearer to one strategy",
        above=0,
        only={"choice": (SEVERAL,)},
    )
    entropy: float = setting(
        0.5,
        "weight of the coefficients' entropy at the end of the search, as a share of the loss; makes them one-hot",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    noise: float = setting(
        1.0,
        "factor of Gumbel noise on the coefficients; with it steps see mixtures near single candidates, so that "
        "errors of candidates do not average out (Jang et al., 2017)",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    coefficient_rate: float = setting(
        0.05,
        "learning rate (Adam) of the coefficients; if one strategy begins ahead, at least twice `opening` divided by "
        "the steps of the search, so that any other can overtake it",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    opening: float = setting(
        3.0,
        "lead of the logit of the first strategy over the others; post-training begins with the best single strategy "
        "(see `guard`), training with that of the warm-up",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    seed: int = setting(0, "seed of the order of the images and of the noise", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bits", "end_bits"):
            if self.deployable and getattr(self, name) > 8:
                raise SettingError(name, "at most 8 with `deployable`, as integer models have", getattr(self, name))

    @property
    def choice(self) -> str:
        """The description of the candidates, `ONE` or `SEVERAL`."""
        return ONE if len(self.weights) == len(self.inputs) == 1 else SEVERAL

    def rate_of_coefficients(self, steps: int) -> float:
        """Learning rate of coefficients in a search with `steps` steps where one candidate is ahead by `opening`."""
        return max(self.coefficient_rate, 2 * self.opening / max(1, steps))  # a step of Adam is at most the rate


@dataclasses.dataclass(frozen=True)
class PostTrainingSettings(SearchSettings):
    """Post-training search, which learns coefficients and quantizers but not weights and BatchNorm."""

    loss: str = setting(
        "",
        "loss against the float model's outputs: kl, mse, luma (mse of Y of RGB images), cosine, or "
        "features (mse of intermediate tensors); by default kl for classifiers, luma for models "
        "that make RGB images, and mse for others",
        choices=LOSSES,
    )
    steps: int = setting(300, "steps of the search", at_least=0)
    tune_steps: int = setting(100, "steps after the search that tune the chosen quantizers", at_least=0)
    range_rate: float = setting(
        0.01, "learning rate (Adam) of the quantizers' parameters, relative to their size", at_least=0
    )
    choice_share: float = setting(
        0.25,
        "share of the calibration images that are not used for learning; the loss on them chooses the result",
        above=0,
        below=1,
    )
    refine: bool = setting(
        True, "try the other strategies layer by layer, and keep those that lower the loss", only={"choice": (SEVERAL,)}
    )
    refine_images: int = setting(
        256, "calibration images for `refine`", at_least=1, only={"choice": (SEVERAL,), "refine": ()}
    )
    guard: int = setting(
        2,
        "number of most promising single strategies that are tuned first, beside the usual ones; the search begins "
        "with the best one, which is the result if its loss is the lowest in the end; 0: tune none",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    recalibrate: bool = setting(False, "estimate BatchNorm statistics again with quantized layers")

    @property
    def learned_steps(self) -> int:
        """Number of steps in all parts of a search together in which the parameters of a candidate learn."""
        once = self.steps + self.tune_steps
        return once * (2 if self.guard else 1) + self.tune_steps * self.refine

    def alone(self, weights: str, inputs: str) -> "PostTrainingSettings":
        """The same settings for a single strategy, with `learned_steps` steps."""
        steps = self.learned_steps - self.tune_steps
        return dataclasses.replace(self, weights=(weights,), inputs=(inputs,), steps=steps)


@dataclasses.dataclass(frozen=True)
class TrainingSettings(SearchSettings):
    """Quantization-aware search, which learns coefficients and weights together, then trains the chosen quantizers."""

    train_steps: int = setting(2000, "steps of the whole training", at_least=1)
    warm_up_share: float = share(
        0.4,
        "share of the steps before the search; in these all tensors have one strategy (LSQ+ or LSQ if it is a "
        "candidate, else the first one), so that strategies are compared on trained weights",
        only={"choice": (SEVERAL,)},
    )
    search_share: float = share(
        0.1, "share of the steps in which coefficients and weights are learned together", only={"choice": (SEVERAL,)}
    )
    refine_in_training: bool = setting(
        False,
        "try other strategies layer by layer after the search; a gain at this point may not last to the end",
        only={"choice": (SEVERAL,)},
    )
    learning_rate: float = setting(
        0.01, "peak learning rate of the weights (SGD with Nesterov momentum, cosine decay)", at_least=0
    )
    weight_decay: float = setting(1e-4, "L2 decay of kernels", at_least=0)
    training_range_rate: float = setting(
        0.002, "learning rate (Adam) of quantizers, relative to their size", at_least=0
    )
    distill: float = share(0.5, "weight of the float model's outputs in the loss beside the labels; 0: labels only")
    norm_images: int = setting(
        1024,
        "training images that estimate BatchNorm statistics again at the end, since at low bit widths moving "
        "averages are inaccurate (Nagel et al., 2022); 0: keep the moving averages",
        at_least=0,
    )
    flip: bool = setting(False, "mirror half of the training images")
    shift: float = share(0.0, "largest shift of training images, as a share of the image")
    checkpoint_steps: int = setting(200, "steps between two checkpoints", fixed=False, at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_up_share + self.search_share >= 1:
            expected = f"a share that leaves steps to train beside `warm_up_share={self.warm_up_share}`"
            raise SettingError("search_share", expected, self.search_share)


@dataclasses.dataclass(frozen=True)
class QuantizeSettings(PostTrainingSettings, TrainingSettings):
    """The settings of both searches, for a command that does either."""


def part_of(config: SearchSettings, settings_class: type[Kind]) -> Kind:
    """Settings of `settings_class`, with the values of `config`, which has all its fields."""
    return settings_class(**{field.name: getattr(config, field.name) for field in dataclasses.fields(settings_class)})
