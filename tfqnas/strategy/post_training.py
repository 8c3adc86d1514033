"""Post-training search: the strategy of each tensor from unlabelled images alone (DQSS)."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.conversion import quantize
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.layers import Quantize
from tfqnas.quantizers import ROLES, Calibrated, Quantizer, get
from tfqnas.sites import sites_of
from tfqnas.strategy import recalibration
from tfqnas.strategy.adopting import adopt
from tfqnas.strategy.candidates import (
    SINGLES,
    UNSIGNED,
    mixture_for,
    names_for,
    refuse_unsigned,
    signed_inputs,
    within_int8,
)
from tfqnas.strategy.config import PostTrainingSettings, SearchSettings
from tfqnas.strategy.freezing import freeze
from tfqnas.strategy.images import checked
from tfqnas.strategy.learner import Learner, Targets, batches_of, cosine_decay
from tfqnas.strategy.refining import in_words, ranked_pairs, refined
from tfqnas.strategy.result import Result, Searched, choices_of, quantized_tensors, searched_of
from tfqnas.supernet import initialize

# Images for the initialisation of the quantizers, and how often the coefficients are recorded.
INITIAL_IMAGES = 256
RECORDS = 50
# How often a tuning looks whether the loss on the images for choices has become smaller.
LOOKS = 6


def gives_probabilities(model: keras.Model) -> bool:
    """Whether a model ends with a softmax."""
    last = getattr(model.layers[-1], "activation", None)
    return type(model.layers[-1]).__name__ == "Softmax" or getattr(last, "__name__", "") == "softmax"


def loss_of(config: PostTrainingSettings, model: keras.Model) -> str:
    """The loss that a search takes for a model: as set, else by its output.

    Raises:
        UserError: for the luma of what is no RGB image.
    """
    shape = model.output_shape
    rgb = len(shape) == 4 and shape[-1] == 3
    if config.loss == "luma" and not rgb:
        raise UserError(f"--loss=luma: expected a model that makes RGB images, {model.name} makes {shape[1:]}")
    return config.loss or ("kl" if len(shape) == 2 else "luma" if rgb else "mse")


def quantized(model: keras.Model, config: SearchSettings, images: np.ndarray) -> keras.Model:
    """The model with the candidates of `config` in every layer, initialised; at the ends those that exist, or LSQ.

    Raises:
        UserError: see `refuse_unsigned`.
    """
    signed = signed_inputs(model)
    refuse_unsigned(config, signed)
    ends, left_out = _ends(model, config), set(UNSIGNED) & set(names_for(config, "inputs"))
    groups: dict[tuple[bool, bool], list[str]] = {}
    for name in _quantizable(model):
        groups.setdefault((name in ends, bool(left_out) and name in signed), []).append(name)
    waiting, mixed = [name for names in groups.values() for name in names], model
    for (at_end, below_zero), names in groups.items():
        own = [mixture_for(config, role, left_out if below_zero else ()) for role in ROLES]
        if at_end:
            own = [_at(one, config.end_bits or config.bits, role) for one, role in zip(own, ROLES, strict=True)]
        weights = within_int8(own[0]) if config.deployable else own[0]
        waiting = [name for name in waiting if name not in names]
        # Layers that have quantizers are left alone.
        mixed = quantize(mixed, weights, own[1], skip=waiting, end_bits=None)
    if config.integer_aware:
        if len(model.output_shape) == 4:  # an image, `(x - 128) / 128`: its grid is known
            pixels = Quantize(Calibrated(bits=8, fixed=(-1.0, 127 / 128)), name="pixels")
            mixed = keras.Model(mixed.inputs[0], pixels(mixed.outputs[0]), name=mixed.name)
        mixed = quantize(mixed, integer_aware=True)
    initialize(mixed, images[:INITIAL_IMAGES])
    return mixed


def _quantizable(model: keras.Model) -> list[str]:
    """The names of the layers that get quantizers."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return [site.layer.name for site in sites_of(model) if type(site.layer) in kinds]


def _at(prototype: Quantizer, bits: int, role: str) -> Quantizer:
    """A prototype with another bit width; LSQ where the method does not exist at that."""
    try:
        return prototype.with_bits(bits)
    except ValueError:
        return get("lsq", bits, role)


def _ends(model: keras.Model, config: SearchSettings) -> list[str]:
    """The names of the layers that have `end_bits`."""
    if config.end_bits in (0, config.bits):
        return []
    probe = quantize(model, get("lsq", config.bits, "weights"), end_bits=config.end_bits)
    return [name for name, role, q in quantized_tensors(probe) if role == "weights" and q.bits == config.end_bits]


def search_post_training(
    model: keras.Model,
    images: np.ndarray,
    config: PostTrainingSettings,
    on_step: Callable[[str, float, str], object] | None = None,
) -> Result:
    """Finds the strategies of a trained model's layers, without labels.

    The mixture of each tensor's candidates learns its coefficients and the candidates' own parameters against the
    outputs of the float model; weights and BatchNorm stay. The coefficients' temperature falls and an entropy term
    grows, so that they end near one-hot. What has the largest coefficients is tuned. With `guard` the usual and the
    most promising single strategies are tuned as well, each from its own initialisation and with as many steps as by
    itself, so that each is what a search among it alone would give; with `refine` the best so far is the start of a
    descent: other strategies are tried layer by layer, and what comes out is tuned. What has the smallest loss is
    frozen and handed over, and `Result.kept` says if it is a single strategy. With one candidate for weights and one
    for inputs nothing is searched, and its parameters are tuned in as many steps.

    A part of the images, `choice_share`, is never learned on: of a tuning its best moment, and which of all these is
    handed over, are chosen by the loss on that part alone.

    Args:
        model: float functional or Sequential `keras.Model`. images: float32 (n, height, width, channels), normalised,
            two batches at least.
        config: `PostTrainingSettings`.
        on_step: called with (part, share of it done, text): parts are "search", "tune", "guard", "refine" and
            "final".

    Returns:
        `Result`.

    Raises:
        UserError: for images that the model does not take, a layer that has no integer form, candidates that do not
            exist.
    """
    config.check()
    images = checked(images, model, config.batch_size, 2)
    return _PostTraining(model, images, config, on_step or (lambda *_: None)).run()


def parts_of(count: int, batch_size: int, choice_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`(numbers to learn on, numbers to choose with)` of `count` images, int arrays; a batch of each at least."""
    order = np.random.default_rng((seed, 4)).permutation(count)
    choice = min(max(round(choice_share * count), batch_size), count - batch_size)
    return order[choice:], order[:choice]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """One choice of all tensors' strategies, tuned: its loss, and where it is.

    Args:
        places: in the mixtures. state: of all quantizers, as `Learner.state`. learner: of the model that this is in.
        single: None, or in words which single strategy it is; the model is then one of its own, without mixtures.
    """

    places: list[int]
    state: list[np.ndarray]
    loss: float
    learner: Learner
    single: str | None = None


class _PostTraining:
    def __init__(
        self,
        model: keras.Model,
        images: np.ndarray,
        config: PostTrainingSettings,
        on_step: Callable[[str, float, str], object],
    ) -> None:
        self.images, self.config, self.on_step = images, config, on_step
        self.teacher = quantize(model)  # a plain copy, with layers in the place of operations
        self.loss = loss_of(config, model)
        self.probabilities = gives_probabilities(self.teacher)
        self.learned, self.choice = parts_of(len(images), config.batch_size, config.choice_share, config.seed)
        self.history: list[dict[str, Any]] = []
        self.losses: dict[str, float] = {}
        self._kept: np.ndarray | None = None

    def run(self) -> Result:
        config = self.config
        mixed = quantized(self.teacher, config, self.images[self.learned])
        self.learner = self._learner(mixed)
        searched, coefficients = searched_of(mixed), []
        if searched:
            start = self.learner.state()
            self._search()
            coefficients = self.learner.distributions()
            found = self._chosen(searched, start)
        else:
            found = self._tuned_alone(self.learner, "tune")
            self.losses["single"] = found.loss
        found.learner.choose(found.places)
        found.learner.restore(found.state)
        model = freeze(found.learner.model)
        self.losses["final"] = found.loss
        if config.recalibrate:
            model = recalibration.recalibrated(model, self.images[self.learned], config.batch_size)
            self.losses["final"] = self._learner(model).loss(self.choice, config.batch_size)
        return Result(model, choices_of(model, searched, coefficients), self.history, searched, self.losses,
                      found.single)  # fmt: skip

    def _chosen(self, searched: Sequence[Searched], start: list[np.ndarray]) -> _Candidate:
        """The best that coefficients, single strategies and the descent give: a `_Candidate`."""
        config, state = self.config, self.learner.state()
        best = self._tuned(self.learner, self.learner.largest(), state, config.tune_steps, "tune")
        self.losses["largest coefficients"] = best.loss
        if config.guard:
            single = self._best_single(searched, [start, state])
            self.losses["single"] = single.loss
            best = min(best, single, key=_loss)
        if config.refine:
            finer = self._refined(best, state)
            self.losses["refined"] = finer.loss
            best = min(best, finer, key=_loss)
        return best

    def _best_single(self, searched: Sequence[Searched], states: Sequence[list[np.ndarray]]) -> _Candidate:
        """Tunes the usual and the most promising single strategies, each by itself: the best `_Candidate`.

        Args:
            states: of the mixtures, as initialised and as searched; those are promising whose loss is small in either.
        """
        config, found = self.config, []
        for state in states:
            self.learner.restore(state)
            found += ranked_pairs(searched, self._loss_at, config, signed_inputs(self.teacher))
        ranked = dict.fromkeys(pair for _, pair, _ in sorted(found, key=_first))
        # What learns its steps may be poor before it has, so the usual ones are tuned in any case.
        usual = [pair for pair in SINGLES.values() if pair in ranked]
        tried = dict.fromkeys([*itertools.islice(ranked, config.guard), *usual])

        def tuned(number: int, pair: tuple[str, str]) -> _Candidate:
            alone = dataclasses.replace(config, weights=(pair[0],), inputs=(pair[1],))
            learner = self._learner(quantized(self.teacher, alone, self.images[self.learned]))
            one = self._tuned_alone(learner, "guard", (number / len(tried), (number + 1) / len(tried)))
            one = dataclasses.replace(one, single=in_words(pair))
            self.losses[f"single: {one.single}"] = one.loss
            return one

        # One by one: a model that is not the best can go.
        return min((tuned(number, pair) for number, pair in enumerate(tried)), key=_loss)

    def _tuned_alone(self, learner: Learner, part: str, within: tuple[float, float] = (0.0, 1.0)) -> _Candidate:
        """A model of one strategy, tuned in all steps: a `_Candidate`."""
        steps = self.config.steps + self.config.tune_steps
        return self._tuned(learner, [], learner.state(), steps, part, within)

    def _adopted(self, single: _Candidate) -> tuple[list[int], list[np.ndarray]]:
        """Places and state of the mixtures that are, where they have its candidates, as a single strategy's model."""
        single.learner.restore(single.state)
        places = adopt(self.learner.model, single.learner.model)
        self.learner.ranges.read()
        return places, self.learner.state()

    def _refined(self, best: _Candidate, state: list[np.ndarray]) -> _Candidate:
        """Other strategies layer by layer, by the loss on images that are learned on, and tuned.

        Args:
            state: of the mixtures as searched: that of the others where `best` is a single strategy.
        """
        learner, config = self.learner, self.config
        some = self.learned[: max(config.refine_images, config.batch_size)]
        learner.restore(state if best.single else best.state)
        start, state = self._adopted(best) if best.single else (best.places, best.state)

        def loss_at(places: Sequence[int], bound: float = np.inf) -> float:
            learner.choose(places)
            return learner.loss(some, config.batch_size, bound)

        order = [list(np.argsort(a)[::-1]) for a in self.history[-1]["coefficients"]] if self.history else [
            list(range(len(mixed.candidates))) for mixed in learner.mixtures]  # fmt: skip
        places, _ = refined(start, loss_at(start), order, loss_at, lambda done: self.on_step("refine", done, ""))
        return self._tuned(learner, places, state, config.tune_steps, "final")

    def _learner(self, model: keras.Model) -> Learner:
        targets = Targets(self.teacher, model, self.loss, self.images, self.config.batch_size, self._kept)
        self._kept = targets.kept
        return Learner(model, targets, self.loss, self.probabilities, self.config.seed)

    def _loss_at(self, places: Sequence[int]) -> float:
        """Of the candidates at these places, on the images for choices."""
        self.learner.choose(places)
        return self.learner.loss(self.choice, self.config.batch_size)

    def _search(self) -> None:
        """Steps of coefficients and parameters, at a temperature that falls; records the coefficients."""
        config, learner = self.config, self.learner
        stride = max(1, config.steps // RECORDS)
        ratio = config.temperature_end / config.temperature_start
        for step, share, numbers in self._batches(config.steps):
            learner.set_temperature(config.temperature_start * ratio**share)
            loss = learner.step(
                numbers, entropy=config.entropy * share, coefficient_rate=config.coefficient_rate,
                range_rate=config.range_rate * cosine_decay(share), noise=config.noise,
            )  # fmt: skip
            _check_finite(loss, "search", step)
            if step % stride == 0 or step == config.steps - 1:
                self.history.append({"step": step, "loss": float(loss), "coefficients": learner.distributions()})
            self.on_step("search", (step + 1) / config.steps, f"loss {float(loss):.4g}")

    def _tuned(
        self,
        learner: Learner,
        places: Sequence[int],
        state: list[np.ndarray],
        steps: int,
        part: str,
        within: tuple[float, float] = (0.0, 1.0),
    ) -> _Candidate:
        """Tunes the parameters of these places' candidates, from a state on: a `_Candidate`, the best moment.

        Args:
            within: from which share of the progress of `part` to which.
        """
        config = self.config
        learner.choose(places)
        learner.restore(state)
        best = learner.loss(self.choice, config.batch_size), state
        for step, share, numbers in self._batches(steps if learner.learns else 0):
            loss = learner.step(numbers, range_rate=config.range_rate * cosine_decay(share))
            _check_finite(loss, part, step)
            if (step + 1) % max(1, steps // LOOKS) == 0 or step == steps - 1:
                at = learner.loss(self.choice, config.batch_size)
                best = min(best, (at, learner.state()), key=_first)
            done = within[0] + (within[1] - within[0]) * (step + 1) / steps
            self.on_step(part, done, f"loss {best[0]:.4g}")
        return _Candidate(list(places), best[1], best[0], learner)

    def _batches(self, steps: int) -> Iterator[tuple[int, float, np.ndarray]]:
        """`(step, share done, numbers of images)` of as many steps."""
        order = batches_of(len(self.learned), self.config.batch_size, self.config.seed)
        return ((n, n / steps, self.learned[numbers]) for n, numbers in enumerate(itertools.islice(order, steps)))


def _check_finite(loss: tf.Tensor, part: str, step: int) -> None:
    if not np.isfinite(loss):
        raise TrainingDivergedError(f"{part}, step {step}: the loss is {float(loss)}; a smaller --range_rate may help")


def _loss(candidate: _Candidate) -> float:
    return candidate.loss


def _first(values: Sequence[Any]) -> Any:
    return values[0]
