"""Settings of a search for quantization strategies."""

import dataclasses
from typing import TypeVar

from tfqnas.errors import UserError
from tfqnas.settings import setting

Settings = TypeVar("Settings", bound="SearchSettings")
LOSSES = ("kl", "mse", "luma", "cosine", "features")


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """Which quantizers each layer may get, and how the mixture becomes one of them."""

    bits: int = setting(4, "bit width of weights and inputs; the first and last layers have --end_bits")
    end_bits: int = setting(8, "bit width of the first and the last layers; 0: as all others")
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
    batch_size: int = setting(32, "images a step")
    temperature_start: float = setting(1.0, "of the softmax of the coefficients, at the start")
    temperature_end: float = setting(0.1, "at the end of the search: the lower, the nearer to one strategy")
    entropy: float = setting(
        0.5, "weight at the end of the search of the coefficients' entropy, as a share of the loss: pushes to one-hot"
    )
    noise: float = setting(
        1.0,
        "Gumbel noise on the coefficients, times this: each step then sees other mixtures, near single "
        "candidates, while in their mean the errors of each average out (Jang et al., 2017)",
    )
    coefficient_rate: float = setting(
        0.05,
        "learning rate (Adam) of the coefficients; where one strategy begins ahead, twice --opening over the "
        "steps of the search at least, so that any other can overtake it",
    )
    opening: float = setting(
        3.0,
        "how far the logit of the strategy that the search begins with is above the others: of the best single "
        "one after training, see --guard, and of that of the warm-up in training",
    )
    seed: int = setting(0, "of the order of the images, and of the noise")

    def check(self) -> None:
        """Raises UserError where a setting makes no sense by itself."""
        self._expect(2 <= self.bits <= 16, "bits", "a whole number from 2 to 16")
        self._expect(self.end_bits == 0 or 2 <= self.end_bits <= 16, "end_bits", "0 or a whole number from 2 to 16")
        for name in ("bits", "end_bits") if self.deployable else ():
            self._expect(getattr(self, name) <= 8, name, "at most 8 bits with --deployable, those of integer models")
        self._expect(self.batch_size >= 1, "batch_size", "a number from 1 on")
        for name in ("temperature_start", "temperature_end"):
            self._expect(getattr(self, name) > 0, name, "a number above 0")
        for name in ("entropy", "noise", "coefficient_rate", "opening"):
            self._expect(getattr(self, name) >= 0, name, "a number from 0 on")

    def rate_of_coefficients(self, steps: int) -> float:
        """Learning rate of coefficients in a search of so many steps where one candidate is ahead by `opening`."""
        return max(self.coefficient_rate, 2 * self.opening / max(1, steps))  # a step of Adam is a rate long at most

    def _expect(self, ok: object, name: str, expected: str) -> None:
        if not ok:
            raise UserError(f"--{name}: expected {expected}, received {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class PostTrainingSettings(SearchSettings):
    """Post-training search: coefficients and quantizers are learned, weights and BatchNorm stay."""

    loss: str = setting(
        "",
        "against the float model's outputs: kl, mse, luma (mse of Y of RGB images), cosine, or "
        "features (mse of the tensors in between); by default kl of classifiers, luma of models "
        "that make RGB images, and mse of others",
    )
    steps: int = setting(300, "of the search")
    tune_steps: int = setting(100, "after it, of the parameters of the quantizers that were chosen")
    range_rate: float = setting(0.01, "learning rate (Adam) of the quantizers' parameters, relative to their size")
    choice_share: float = setting(
        0.25, "share of the calibration images that nothing is learned on: what is kept is chosen by the loss on them"
    )
    refine: bool = setting(True, "try the other strategies layer by layer, and keep what lowers the loss")
    refine_images: int = setting(256, "calibration images for that")
    guard: int = setting(
        2,
        "how many single strategies, the most promising ones, are tuned beside the usual ones, before all else; the "
        "search begins with the best, which is kept, and named, if its loss is the lowest in the end; 0: none at all",
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

    def check(self) -> None:
        super().check()
        self._expect(self.loss in ("", *LOSSES), "loss", f"one of {', '.join(LOSSES)}")
        for name in ("steps", "tune_steps", "guard"):
            self._expect(getattr(self, name) >= 0, name, "a number from 0 on")
        self._expect(0 < self.choice_share < 1, "choice_share", "a share between 0 and 1")
        self._expect(self.refine_images >= 1, "refine_images", "a number from 1 on")
        self._expect(self.range_rate >= 0, "range_rate", "a number from 0 on")


@dataclasses.dataclass(frozen=True)
class TrainingSettings(SearchSettings):
    """Quantization-aware search: coefficients and weights are learned together, then the chosen ones go on."""

    train_steps: int = setting(2000, "in all")
    warm_up_share: float = setting(
        0.4,
        "share of the steps before the search, in which all tensors have one strategy (LSQ+, or LSQ, if it is a "
        "candidate, else the first one), so that strategies are compared on trained weights",
    )
    search_share: float = setting(0.1, "share of the steps in which coefficients and weights are learned together")
    refine_in_training: bool = setting(
        False, "try other strategies layer by layer when the search is done; what helps then need not help at the end"
    )
    learning_rate: float = setting(0.01, "of the weights (SGD with Nesterov momentum), at its peak; cosine")
    weight_decay: float = setting(1e-4, "of kernels")
    training_range_rate: float = setting(0.002, "learning rate (Adam) of quantizers, relative to their size")
    distill: float = setting(0.5, "weight of the float model's outputs in the loss, beside the labels; 0: labels alone")
    norm_images: int = setting(
        1024,
        "training images that estimate BatchNorm statistics anew at the end, since at low bit widths moving "
        "averages lag behind (Nagel et al., 2022); 0: those stay",
    )
    flip: bool = setting(False, "mirror half of the training images")
    shift: float = setting(0.0, "largest shift of training images, as a share")
    checkpoint_steps: int = setting(200, "steps between two checkpoints", fixed=False)

    def check(self) -> None:
        super().check()
        for name in ("warm_up_share", "search_share"):
            self._expect(0 <= getattr(self, name) <= 1, name, "a share from 0 to 1")
        self._expect(
            self.warm_up_share + self.search_share < 1,
            "search_share",
            f"that it and --warm_up_share={self.warm_up_share} leave steps to train",
        )
        self._expect(0 <= self.distill <= 1, "distill", "a share from 0 to 1")
        for name in ("train_steps", "checkpoint_steps"):
            self._expect(getattr(self, name) >= 1, name, "a number from 1 on")
        self._expect(0 <= self.shift <= 1, "shift", "a share from 0 to 1")
        rates = ("learning_rate", "weight_decay", "training_range_rate")
        for name in (*rates, "norm_images"):
            self._expect(getattr(self, name) >= 0, name, "a number from 0 on")


@dataclasses.dataclass(frozen=True)
class QuantizeSettings(PostTrainingSettings, TrainingSettings):
    """All of them, for a tool that does either."""


def part_of(config: SearchSettings, settings_class: type[Settings]) -> Settings:
    """The settings of one class among those of another that has them all."""
    return settings_class(**{field.name: getattr(config, field.name) for field in dataclasses.fields(settings_class)})
