"""Settings of a search for quantization strategies."""

import dataclasses
from typing import TypeVar

from tfqnas.errors import SettingError
from tfqnas.settings import Settings, setting, share

Kind = TypeVar("Kind", bound="SearchSettings")
# What there is to choose from, in words.
ONE, SEVERAL = "a single strategy", "several strategies"
LOSSES = ("kl", "mse", "luma", "cosine", "features")


@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    """Which quantizers each layer may get, and how the mixture becomes one of them."""

    bits: int = setting(
        4, "bit width of weights and inputs; the first and last layers have `end_bits`", at_least=2, at_most=16
    )
    end_bits: int = setting(
        8, "bit width of the first and the last layers; 0: as all others", at_least=2, at_most=16, or_zero=True
    )
    weights: tuple[str, ...] = setting(
        (),
        "strategies of weights to choose from, with _per_channel for a scale each output channel; by default a few "
        "that measurements recommend; a single one: nothing is searched",
    )
    inputs: tuple[str, ...] = setting((), "the same of inputs")
    deployable: bool = setting(False, "only strategies that an integer model computes exactly")
    integer_aware: bool = setting(
        False,
        "round to 8 bits where an integer model does besides (residual stream, pooling, output), so that what "
        "is searched and evaluated is what is exported",
    )
    batch_size: int = setting(32, "images a step", at_least=1)
    temperature_start: float = setting(
        1.0, "of the softmax of the coefficients, at the start", above=0, only={"choice": (SEVERAL,)}
    )
    temperature_end: float = setting(
        0.1, "at the end of the search: the lower, the nearer to one strategy", above=0, only={"choice": (SEVERAL,)}
    )
    entropy: float = setting(
        0.5,
        "weight at the end of the search of the coefficients' entropy, as a share of the loss: pushes to one-hot",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    noise: float = setting(
        1.0,
        "Gumbel noise on the coefficients, times this: each step then sees other mixtures, near single "
        "candidates, while in their mean the errors of each average out (Jang et al., 2017)",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    coefficient_rate: float = setting(
        0.05,
        "learning rate (Adam) of the coefficients; where one strategy begins ahead, twice `opening` over the "
        "steps of the search at least, so that any other can overtake it",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    opening: float = setting(
        3.0,
        "how far the logit of the strategy that the search begins with is above the others: of the best single "
        "one after training, see `guard`, and of that of the warm-up in training",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    seed: int = setting(0, "of the order of the images, and of the noise", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bits", "end_bits"):
            if self.deployable and getattr(self, name) > 8:
                raise SettingError(name, "at most 8 with `deployable`, as integer models have", getattr(self, name))

    @property
    def choice(self) -> str:
        """Whether there is something to choose, in words."""
        return ONE if len(self.weights) == len(self.inputs) == 1 else SEVERAL

    def rate_of_coefficients(self, steps: int) -> float:
        """Learning rate of coefficients in a search of so many steps where one candidate is ahead by `opening`."""
        return max(self.coefficient_rate, 2 * self.opening / max(1, steps))  # a step of Adam is a rate long at most


@dataclasses.dataclass(frozen=True)
class PostTrainingSettings(SearchSettings):
    """Post-training search: coefficients and quantizers are learned, weights and BatchNorm stay."""

    loss: str = setting(
        "",
        "against the float model's outputs: kl, mse, luma (mse of Y of RGB images), cosine, or "
        "features (mse of the tensors in between); by default kl of classifiers, luma of models "
        "that make RGB images, and mse of others",
        choices=LOSSES,
    )
    steps: int = setting(300, "of the search", at_least=0)
    tune_steps: int = setting(100, "after it, of the parameters of the quantizers that were chosen", at_least=0)
    range_rate: float = setting(
        0.01, "learning rate (Adam) of the quantizers' parameters, relative to their size", at_least=0
    )
    choice_share: float = setting(
        0.25,
        "share of the calibration images that nothing is learned on: what is kept is chosen by the loss on them",
        above=0,
        below=1,
    )
    refine: bool = setting(
        True, "try the other strategies layer by layer, and keep what lowers the loss", only={"choice": (SEVERAL,)}
    )
    refine_images: int = setting(
        256, "calibration images for that", at_least=1, only={"choice": (SEVERAL,), "refine": ()}
    )
    guard: int = setting(
        2,
        "how many single strategies, the most promising ones, are tuned beside the usual ones, before all else; the "
        "search begins with the best, which is kept, and named, if its loss is the lowest in the end; 0: none at all",
        at_least=0,
        only={"choice": (SEVERAL,)},
    )
    recalibrate: bool = setting(False, "estimate BatchNorm statistics anew, with quantized layers")

    @property
    def learned_steps(self) -> int:
        """Steps in which the parameters of a candidate learn on the way through a search, all parts together."""
        once = self.steps + self.tune_steps
        return once * (2 if self.guard else 1) + self.tune_steps * self.refine

    def alone(self, weights: str, inputs: str) -> "PostTrainingSettings":
        """The same with a single strategy, in `learned_steps`."""
        steps = self.learned_steps - self.tune_steps
        return dataclasses.replace(self, weights=(weights,), inputs=(inputs,), steps=steps)


@dataclasses.dataclass(frozen=True)
class TrainingSettings(SearchSettings):
    """Quantization-aware search: coefficients and weights are learned together, then the chosen ones go on."""

    train_steps: int = setting(2000, "in all", at_least=1)
    warm_up_share: float = share(
        0.4,
        "share of the steps before the search, in which all tensors have one strategy (LSQ+, or LSQ, if it is a "
        "candidate, else the first one), so that strategies are compared on trained weights",
        only={"choice": (SEVERAL,)},
    )
    search_share: float = share(
        0.1, "share of the steps in which coefficients and weights are learned together", only={"choice": (SEVERAL,)}
    )
    refine_in_training: bool = setting(
        False,
        "try other strategies layer by layer when the search is done; what helps then need not help at the end",
        only={"choice": (SEVERAL,)},
    )
    learning_rate: float = setting(0.01, "of the weights (SGD with Nesterov momentum), at its peak; cosine", at_least=0)
    weight_decay: float = setting(1e-4, "of kernels", at_least=0)
    training_range_rate: float = setting(
        0.002, "learning rate (Adam) of quantizers, relative to their size", at_least=0
    )
    distill: float = share(0.5, "weight of the float model's outputs in the loss, beside the labels; 0: labels alone")
    norm_images: int = setting(
        1024,
        "training images that estimate BatchNorm statistics anew at the end, since at low bit widths moving "
        "averages lag behind (Nagel et al., 2022); 0: those stay",
        at_least=0,
    )
    flip: bool = setting(False, "mirror half of the training images")
    shift: float = share(0.0, "largest shift of training images, as a share")
    checkpoint_steps: int = setting(200, "steps between two checkpoints", fixed=False, at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_up_share + self.search_share >= 1:
            expected = f"a share that leaves steps to train beside `warm_up_share={self.warm_up_share}`"
            raise SettingError("search_share", expected, self.search_share)


@dataclasses.dataclass(frozen=True)
class QuantizeSettings(PostTrainingSettings, TrainingSettings):
    """All of them, for a tool that does either."""


def part_of(config: SearchSettings, settings_class: type[Kind]) -> Kind:
    """The settings of one class among those of another that has them all."""
    return settings_class(**{field.name: getattr(config, field.name) for field in dataclasses.fields(settings_class)})
