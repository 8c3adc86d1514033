"""Post-training search (DQSS), which finds the strategy of each tensor from unlabelled images."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.dqss import recalibration
from tfqnas.dqss.candidates import (
    clipping,
    mixture_for,
    names_for,
    refuse_unsigned,
    signed_inputs,
    singles,
    within_int8,
)
from tfqnas.dqss.freezing import freeze
from tfqnas.dqss.images import checked
from tfqnas.dqss.learner import Learner, Targets, batches_of, cosine_decay
from tfqnas.dqss.quantize_settings import PostTrainingSettings, SearchSettings
from tfqnas.dqss.refining import in_words, ranked_pairs, refined
from tfqnas.dqss.result import DqssResult, Searched, choices_of, quantized_tensors, searched_of
from tfqnas.dqss.warm_start import adopt
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.graph.reading import sites_of
from tfqnas.graph.rewriting import quantize
from tfqnas.graph.sites import CONVOLUTIONS
from tfqnas.layers import Quantize
from tfqnas.quantizers import ROLES, Calibrated, Mixture, Quantizer, get
from tfqnas.supernet import initialize
from tfqnas.tasks import Task
from tfqnas.tasks.base import gives_probabilities

# Number of images that initialise the quantizers, and number of records of the coefficients in a search.
INITIAL_IMAGES = 256
RECORDS = 50
# Number of times that a tuning evaluates the loss on the images for choices.
LOOKS = 6


def loss_of(config: PostTrainingSettings, model: keras.Model, task: Task | None = None) -> str:
    """The name of a search's loss, from the settings, or else that of the task or of the shape of the model's output.

    Raises:
        UserError: for luma if the output is no RGB image, and for kl or cosine of single numbers, which are constant.
    """
    shapes = [tuple(y.shape) for y in model.outputs]
    rgb = all(len(shape) == 4 and shape[-1] == 3 for shape in shapes)
    made = " and ".join(str(shape[1:]) for shape in shapes)
    if config.loss == "luma" and not rgb:
        raise UserError(f"`loss=luma`: expected a model that makes RGB images, {model.name} makes {made}")
    single, constant = any(shape[-1] == 1 for shape in shapes), any(shape[1:] == (1,) for shape in shapes)
    if (config.loss == "kl" and single) or (config.loss == "cosine" and constant):
        raise UserError(f"`loss={config.loss}`: expected several outputs to compare, {model.name} makes {made}")
    if config.loss:
        return config.loss
    flat = all(len(shape) == 2 for shape in shapes)
    usual = task.search_loss if task else "kl" if flat else "luma" if rgb else "mse"
    return "mse" if (usual == "kl" and single) or (usual == "luma" and not rgb) else usual


def quantized(model: keras.Model, config: SearchSettings, images: np.ndarray, task: Task | None = None) -> keras.Model:
    """The model with initialised candidates in every layer.

    The first and last layers have candidates at `end_bits`, or LSQ where the strategy does not exist at that bit width.

    Args:
        model: float Keras model.
        config: settings with the candidates.
        images: float32 (n, height, width, channels); the first `INITIAL_IMAGES` initialise the quantizers.
        task: what the outputs are for, or None if only their shapes say it.

    Raises:
        UserError: see `refuse_unsigned`.
    """
    signed = signed_inputs(model)
    refuse_unsigned(config, signed)
    ends, left_out = _ends(model, config), clipping(names_for(config, "inputs"))
    groups: dict[tuple[bool, bool], list[str]] = {}
    for name in _quantizable(model):
        groups.setdefault((name in ends, bool(left_out) and name in signed), []).append(name)
    waiting, mixed = [name for names in groups.values() for name in names], model
    for (at_end, below_zero), names in groups.items():
        own = [mixture_for(config, role, left_out if below_zero else ()) for role in ROLES]
        if at_end:
            own = [_at_ends(one, config, role) for one, role in zip(own, ROLES, strict=True)]
        weights = within_int8(own[0]) if config.deployable else own[0]
        waiting = [name for name in waiting if name not in names]
        # Layers that already have quantizers do not change.
        mixed = quantize(mixed, weights, own[1], skip=waiting, end_bits=None)
    if config.integer_aware:
        if len(model.output_shape) == 4 and (
            task is None or task.makes_images
        ):  # an image, so its grid `(x - 128) / 128` is known
            pixels = Quantize(Calibrated(bits=8, fixed=(-1.0, 127 / 128)), name="pixels")
            mixed = keras.Model(mixed.inputs[0], pixels(mixed.outputs[0]), name=mixed.name)
        mixed = quantize(mixed, integer_aware=True)
    initialize(mixed, images[:INITIAL_IMAGES])
    return mixed


def _quantizable(model: keras.Model) -> list[str]:
    """The names of the layers that receive quantizers."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return [site.layer.name for site in sites_of(model) if site.kind in CONVOLUTIONS and type(site.layer) in kinds]


def _at_ends(prototype: Quantizer, config: SearchSettings, role: str) -> Quantizer:
    """A prototype at `end_bits`, or LSQ if the method does not exist at that bit width or not as an integer model."""
    bits = config.end_bits or config.bits
    try:
        found = prototype.with_bits(bits)
    except ValueError:
        return get("lsq", bits, role)
    works = isinstance(found, Mixture) or found.traits.deployable(bits, role)
    return found if works or not config.deployable else get("lsq", bits, role)


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
    task: Task | None = None,
) -> DqssResult:
    """Finds the strategies of a trained model's layers, without labels.

    The steps of a search are:

    1. With `guard`, the usual and the most promising single strategies are tuned in models of their own, each exactly
       as a search with this strategy alone would tune it. The search begins with the best of them: its candidates have
       the largest coefficients and the parameters that it has learned. It is also tuned again for `learned_steps`, the
       number of steps on the way through the whole search.
    2. The mixtures learn their coefficients and the candidates' parameters against the outputs of the float model.
       Weights and BatchNorm do not change. The temperature falls and an entropy term grows, so that the coefficients
       become nearly one-hot.
    3. The candidates with the largest coefficients are tuned.
    4. With `refine`, other strategies are tried layer by layer from there, and the result is tuned.

    The result with the smallest loss is frozen and returned; `DqssResult.kept` tells if it is a single strategy. With
    one candidate for weights and one for inputs, nothing is searched, and its parameters are tuned in as many steps.

    A part of the images, `choice_share`, is never used for learning. The loss on this part alone chooses the best
    moment of each tuning and the result.

    Args:
        model: float functional or Sequential `keras.Model`.
        images: float32 (n, height, width, channels), normalised, at least two batches.
        config: `PostTrainingSettings`.
        on_step: called with (part, completed share of the part, text), first when a part begins. The parts are "guard",
            "longer", "search", "tune", "refine" and "final".
        task: `tfqnas.tasks.Task`, what the outputs are for, which chooses the loss where the settings do not; by
            default the shape of the output does.

    Raises:
        UserError: for images that do not fit the model, a layer without an integer form, or unknown candidates.
    """
    images = checked(images, model, config.batch_size, 2)
    return _PostTraining(model, images, config, on_step or (lambda *_: None), task).run()


def parts_of(count: int, batch_size: int, choice_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides `count` images into those to learn on and those to choose with, at least a batch of each.

    Returns:
        `(learned, choice)`, int arrays of indices.
    """
    order = np.random.default_rng((seed, 4)).permutation(count)
    choice = min(max(round(choice_share * count), batch_size), count - batch_size)
    return order[choice:], order[:choice]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A tuned choice of all tensors' strategies, and its loss.

    Args:
        places: index of the chosen candidate of each mixture.
        state: `Learner.state` of all quantizers.
        loss: loss on the images for choices.
        learner: `Learner` of the model.
        single: the text for the single strategy, whose model has no mixtures, or None.
        refined: whether the strategies come from the descent layer by layer.
    """

    places: list[int]
    state: list[np.ndarray]
    loss: float
    learner: Learner
    single: str | None = None
    refined: bool = False


class _PostTraining:
    def __init__(
        self,
        model: keras.Model,
        images: np.ndarray,
        config: PostTrainingSettings,
        on_step: Callable[[str, float, str], object],
        task: Task | None,
    ) -> None:
        self.images, self.config, self.on_step, self.task = images, config, on_step, task
        self.teacher = quantize(model)  # a plain copy, with layers in the place of operations
        self.loss = loss_of(config, model, task)
        self.probabilities = gives_probabilities(self.teacher)
        self.learned, self.choice = parts_of(len(images), config.batch_size, config.choice_share, config.seed)
        self.history: list[dict[str, Any]] = []
        self.losses: dict[str, float] = {}
        self._kept: list[np.ndarray] | None = None

    def run(self) -> DqssResult:
        config = self.config
        mixed = quantized(self.teacher, config, self.images[self.learned], self.task)
        self.learner = self._learner(mixed)
        searched = searched_of(mixed)
        coefficients: list[list[float]] = []
        if searched:
            found, coefficients = self._found(searched)
        else:
            found = self._tuned(self.learner, [], self.learner.state(), self._once, "tune")
            self.losses["single"] = found.loss
        found.learner.choose(found.places)
        found.learner.restore(found.state)
        model = freeze(found.learner.model)
        self.losses["final"] = found.loss
        if config.recalibrate:
            model = recalibration.recalibrated(model, self.images[self.learned], config.batch_size)
            self.losses["final"] = self._learner(model).loss(self.choice, config.batch_size)
        way = "single" if found.single else "refinement" if found.refined else "coefficients"
        return DqssResult(
            model, choices_of(model, searched, coefficients), self.history, searched, self.losses, found.single, way
        )

    def _found(self, searched: Sequence[Searched]) -> tuple[_Candidate, list[list[float]]]:
        """The best result of single strategies, coefficients and descent, with the coefficients of the search."""
        config, learner = self.config, self.learner
        rivals: list[_Candidate] = []
        if config.guard:
            single, pair = self._best_single(searched)
            self.losses["single"] = single.loss
            single.learner.restore(single.state)
            learner.open(adopt(learner.model, single.learner.model), config.opening)
            learner.ranges.read()
            longer = self._single(pair, config.learned_steps, "longer")
            self.losses["single, longer"] = longer.loss
            rivals = [single, longer]
        self._search(opened=bool(rivals))
        coefficients, places = learner.distributions(), learner.largest()
        best = self._tuned(learner, places, learner.state(), config.tune_steps, "tune")
        self.losses["largest coefficients"] = best.loss
        rivals.append(best)
        if config.refine:
            rivals.append(self._refined(best))
            self.losses["refined"] = rivals[-1].loss
        return min(rivals, key=_loss), coefficients

    def _best_single(self, searched: Sequence[Searched]) -> tuple[_Candidate, tuple[str, str]]:
        """Tunes the usual single strategies and those with the smallest initial loss; `(best, its pair)`."""
        config = self.config
        self.on_step("guard", 0.0, "comparing single strategies")
        found = ranked_pairs(searched, self._loss_at, config, signed_inputs(self.teacher))
        ranked = [pair for _, pair, _ in found]
        # A strategy that learns its steps may be poor before, so the usual ones are always tuned.
        usual = [pair for pair in singles().values() if pair in ranked]
        tried = dict.fromkeys([*itertools.islice(ranked, config.guard), *usual])

        def tuned(number: int, pair: tuple[str, str]) -> tuple[_Candidate, tuple[str, str]]:
            within = number / len(tried), (number + 1) / len(tried)
            one = self._single(pair, self._once, "guard", within)
            self.losses[f"single: {one.single}"] = one.loss
            return one, pair

        # One by one, so that only the best model stays in memory.
        return min((tuned(number, pair) for number, pair in enumerate(tried)), key=lambda one: one[0].loss)

    @property
    def _once(self) -> int:
        """Number of steps of a search with a single strategy."""
        return self.config.steps + self.config.tune_steps

    def _single(
        self, pair: tuple[str, str], steps: int, part: str, within: tuple[float, float] = (0.0, 1.0)
    ) -> _Candidate:
        """A tuned model of its own with one strategy for all weights and one for all inputs."""
        alone = dataclasses.replace(self.config, weights=(pair[0],), inputs=(pair[1],))
        learner = self._learner(quantized(self.teacher, alone, self.images[self.learned], self.task))
        tuned = self._tuned(learner, [], learner.state(), steps, part, within)
        return dataclasses.replace(tuned, single=in_words(pair))

    def _refined(self, best: _Candidate) -> _Candidate:
        """Tries other strategies layer by layer by the loss on images to learn on, and tunes the result."""
        learner, config = self.learner, self.config
        self.on_step("refine", 0.0, "")
        some = self.learned[: max(config.refine_images, config.batch_size)]
        learner.restore(best.state)

        def loss_at(places: Sequence[int], bound: float = np.inf) -> float:
            learner.choose(places)
            return learner.loss(some, config.batch_size, bound)

        order = (
            [list(np.argsort(a)[::-1]) for a in self.history[-1]["coefficients"]]
            if self.history
            else [list(range(len(mixed.candidates))) for mixed in learner.mixtures]
        )
        places, _ = refined(
            best.places, loss_at(best.places), order, loss_at, lambda done: self.on_step("refine", done, "")
        )
        tuned = self._tuned(learner, places, best.state, config.tune_steps, "final")
        return dataclasses.replace(tuned, refined=True)

    def _learner(self, model: keras.Model) -> Learner:
        targets = Targets(self.teacher, model, self.loss, self.images, self.config.batch_size, self._kept)
        self._kept = targets.kept
        return Learner(model, targets, self.loss, self.probabilities, self.config.seed)

    def _loss_at(self, places: Sequence[int]) -> float:
        """The loss with the candidates at these indices, on the images for choices."""
        self.learner.choose(places)
        return self.learner.loss(self.choice, self.config.batch_size)

    def _search(self, opened: bool) -> None:
        """Learns coefficients and parameters at a falling temperature, and records the coefficients.

        Args:
            opened: whether one candidate of each mixture begins ahead by `opening`.
        """
        config, learner = self.config, self.learner
        rate = config.rate_of_coefficients(config.steps) if opened else config.coefficient_rate
        stride = max(1, config.steps // RECORDS)
        ratio = config.temperature_end / config.temperature_start
        self.on_step("search", 0.0, "")
        for step, share, numbers in self._batches(config.steps):
            learner.set_temperature(config.temperature_start * ratio**share)
            loss = learner.step(
                numbers,
                entropy=config.entropy * share,
                coefficient_rate=rate,
                range_rate=config.range_rate * cosine_decay(share),
                noise=config.noise,
            )
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
        """Tunes the parameters of the candidates at these indices from a state; the result is their best moment.

        Args:
            within: shares of the progress of `part` at the start and at the end.
        """
        config = self.config
        self.on_step(part, within[0], "")
        learner.choose(places)
        learner.restore(state)
        best = learner.loss(self.choice, config.batch_size), state
        if not learner.learns:
            steps = 0
            self.on_step(part, within[1], f"loss {best[0]:.4g}")
        for step, share, numbers in self._batches(steps):
            loss = learner.step(numbers, range_rate=config.range_rate * cosine_decay(share))
            _check_finite(loss, part, step)
            if (step + 1) % max(1, steps // LOOKS) == 0 or step == steps - 1:
                at = learner.loss(self.choice, config.batch_size)
                best = min(best, (at, learner.state()), key=_first)
            done = within[0] + (within[1] - within[0]) * (step + 1) / steps
            self.on_step(part, done, f"loss {best[0]:.4g}")
        return _Candidate(list(places), best[1], best[0], learner)

    def _batches(self, steps: int) -> Iterator[tuple[int, float, np.ndarray]]:
        """`(step, completed share, indices of images)` for each of these steps."""
        order = batches_of(len(self.learned), self.config.batch_size, self.config.seed)
        return ((n, n / steps, self.learned[numbers]) for n, numbers in enumerate(itertools.islice(order, steps)))


def _check_finite(loss: tf.Tensor, part: str, step: int) -> None:
    if not np.isfinite(loss):
        raise TrainingDivergedError(f"{part}, step {step}: the loss is {float(loss)}; a smaller `range_rate` may help")


def _loss(candidate: _Candidate) -> float:
    return candidate.loss


def _first(values: Sequence[Any]) -> Any:
    return values[0]
