"""Quantization-aware search (DQSS), which learns the strategy of each tensor together with the weights."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.dqss import recalibration
from tfqnas.dqss.candidates import names_for
from tfqnas.dqss.freezing import freeze
from tfqnas.dqss.images import checked
from tfqnas.dqss.learner import cosine_decay
from tfqnas.dqss.post_training import INITIAL_IMAGES, RECORDS, quantized
from tfqnas.dqss.quantize_settings import TrainingSettings
from tfqnas.dqss.refining import in_words, refined
from tfqnas.dqss.result import DqssResult, Searched, choices_of, searched_of
from tfqnas.dqss.step import Step
from tfqnas.dqss.variables import mixtures
from tfqnas.dqss.warm_start import adopt, with_weights_of
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.graph.rewriting import quantize
from tfqnas.quantizers import ROLES
from tfqnas.settings import first_difference, plain
from tfqnas.tasks import Examples
from tfqnas.train.checkpoint import Checkpoints

# Largest and smallest number of training images that are held out from warm-up and search. Two fifths of them choose
# candidates, and the others judge the choice.
HELD_OUT, FEWEST = 1280, 5
# All tensors begin with the first of these that is a candidate. They usually win in training.
USUAL = ("lsq_plus", "lsq")

# The arrays by name and the JSON data of a checkpoint.
Saved = tuple[dict[str, np.ndarray], dict[str, Any]]
# Batches of images with their labels or target images.
Batched = Sequence[tuple[tf.Tensor, tf.Tensor]]


def search_training(
    model: keras.Model,
    examples: Examples,
    config: TrainingSettings,
    on_step: Callable[[str, float, str], object] | None = None,
    checkpoints: Checkpoints | None = None,
    say: Callable[[str], None] = print,
) -> DqssResult:
    """Finds the strategies of a model's layers while its weights are trained.

    The parts of the training are:

    1. Warm-up. For `warm_up_share` of the steps all tensors have one strategy (see `usual`), so that strategies are
       later compared on trained weights.
    2. Search. For `search_share` of the steps coefficients, quantizers and weights are learned together. The strategy
       of the warm-up begins with the largest coefficients, the temperature falls and an entropy term grows.
    3. Choice. The largest coefficients compete with the strategy of the warm-up; with `refine_in_training` other
       strategies are also tried layer by layer. Held-out training images decide if the choice is better than the
       strategy of the warm-up.
    4. Training of the chosen quantizers for the remaining steps. Then BatchNorm statistics are estimated again, if
       training normalises by the batch.

    With one candidate for each role, this is quantization-aware training by one strategy with the same steps and rates.

    Args:
        model: float functional or Sequential `keras.Model`, which is the start and, with `distill`, the teacher.
        examples: `tfqnas.tasks.Examples`, which give batches and, by their task, the losses.
        config: `TrainingSettings`.
        on_step: called with (part, completed share of the part, text), first when a part begins or resumes. The parts
            are "warm-up", "search", "choose" and "train".
        checkpoints: `tfqnas.train.checkpoint.Checkpoints` to write, and to resume from; None for none.
        say: called with lines on damaged checkpoints.

    Returns:
        `DqssResult`. Its `losses` are the means over the last steps of warm-up, search and training, and the losses of
        the choice ("single" for the strategy of the warm-up, "chosen" for the choice). `kept` tells if the strategy of
        the warm-up won.

    Raises:
        UserError: for a checkpoint of another model or of other settings, and for too few training images.
        TrainingDivergedError: for a loss that is not finite.
    """
    return _Training(model, examples, config, on_step or (lambda *_: None), checkpoints, say).run()


def usual(config: TrainingSettings) -> tuple[str, str]:
    """`(weights, inputs)`, the strategies that a search in training begins with."""
    names = [names_for(config, role) for role in ROLES]
    weights, inputs = (next((name for name in USUAL if name in own), own[0]) for own in names)
    return weights, inputs


def fingerprint(model: keras.Model) -> str:
    """A short text that identifies a model and its weights."""
    digest = hashlib.sha256(json.dumps([[v.name, list(v.shape)] for v in model.weights]).encode())
    for variable in model.weights:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()[:16]


class _Training:
    def __init__(
        self,
        model: keras.Model,
        examples: Examples,
        config: TrainingSettings,
        on_step: Callable[[str, float, str], object],
        checkpoints: Checkpoints | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.examples, self.on_step, self.checkpoints, self.say = (
            config,
            examples,
            on_step,
            checkpoints,
            say,
        )
        self.teacher = quantize(model)
        self.mark = fingerprint(self.teacher)
        self.searched: list[Searched] = []
        # The JSON data of checkpoints.
        self.found: dict[str, Any] = {"history": [], "coefficients": [], "places": [], "losses": {}, "recent": []}

    def run(self) -> DqssResult:
        config = self.config
        count = max(INITIAL_IMAGES, config.batch_size)
        images = checked(self.examples.calibration(count, config.seed), self.teacher, config.batch_size)[
            :INITIAL_IMAGES
        ]
        model = quantized(self.teacher, config, images, self.examples.task)
        self.searched = searched_of(model)
        saved = self._saved()
        part = saved[1]["part"] if saved else ""
        if saved is not None:
            self.found = saved[1]["found"]
        if self.searched:
            if part != "train":
                examples, *held_out = self.examples.held_out(HELD_OUT, config.seed)
                if len(held_out[0]) < FEWEST:
                    raise UserError(
                        "training images: expected a tenth of them, which chooses the strategies, to be at least "
                        f"{FEWEST}, received {len(held_out[0])}; take more images, or give one strategy in `weights` "
                        "and one in `inputs`"
                    )
                if part != "search":
                    model, saved = self._opened(self._warmed_up(examples, images, saved), images), None
                self._search(model, examples, held_out, saved)
                saved = None
            best = dict(zip(map(id, mixtures(model)), self.found["places"], strict=True))
            model = freeze(model, best=lambda mixed: best[id(mixed)])
        self._train(model, saved)
        if config.norm_images and self.examples.task.batch_statistics:
            images = self.examples.calibration(config.norm_images, config.seed + 1)
            model = recalibration.recalibrated(model, images, min(len(images), 2 * config.batch_size))
        found = self.found
        choices = choices_of(model, self.searched, found["coefficients"])
        kept, refined = found.get("kept"), self.config.refine_in_training
        way = "single" if kept else "refinement" if refined else "coefficients"
        return DqssResult(model, choices, found["history"], self.searched, found["losses"], kept, way)

    # The three parts

    def _warmed_up(self, examples: Examples, images: np.ndarray, saved: Saved | None) -> keras.Model:
        """The model after warm-up with one strategy for all tensors."""
        weights, inputs = usual(self.config)
        alone = dataclasses.replace(self.config, weights=(weights,), inputs=(inputs,))
        model = quantized(self.teacher, alone, images, self.examples.task)
        step, last, begun = self._step(model, saved), self._end_of_warm_up, saved[1]["step"] if saved else 0
        self._begin("warm-up", begun, last)
        for number, x, y in self._batches(examples, begun, last):
            self._stepped(step, x, y, number)
            self._done("warm-up", step, number + 1, (number + 1) / last, number + 1 == last)
        self._end_part("warm-up")
        return model

    def _opened(self, warm: keras.Model, images: np.ndarray) -> keras.Model:
        """The model with mixtures and the weights of the warm-up, whose strategy has the largest coefficients."""
        float_model = quantize(self.teacher)
        with_weights_of(float_model, warm)
        model = quantized(float_model, self.config, images, self.examples.task)
        self.found["usual"] = adopt(model, warm)
        for mixed, place in zip(mixtures(model), self.found["usual"], strict=True):
            mixed.alpha.assign(self.config.opening * np.eye(len(mixed.candidates), dtype=np.float32)[place])
        return model

    def _search(
        self, model: keras.Model, examples: Examples, held_out: Sequence[np.ndarray], saved: Saved | None
    ) -> None:
        """Learns coefficients and weights, then sets `found["places"]`."""
        config = self.config
        step = self._step(model, saved)
        start, stop = self._end_of_warm_up, self._end_of_search
        rate, begun = config.rate_of_coefficients(stop - start), saved[1]["step"] if saved else start
        self._begin("search", begun - start, stop - start)
        for number, x, y in self._batches(examples, begun, stop):
            share = (number - start) / (stop - start)
            step.set_temperature(
                config.temperature_start * (config.temperature_end / config.temperature_start) ** share
            )
            loss = self._stepped(step, x, y, number, rate, config.entropy * share, config.noise)
            if (number - start) % max(1, (stop - start) // RECORDS) == 0 or number == stop - 1:
                self.found["history"].append({"step": number, "loss": loss, "coefficients": step.distributions()})
            self._done("search", step, number + 1, (number + 1 - start) / (stop - start), number + 1 == stop)
        self.found["coefficients"] = step.distributions()
        self._end_part("search")
        self._choose(step, held_out)

    def _train(self, model: keras.Model, saved: Saved | None) -> None:
        step, first, last = self._step(model, saved), self._end_of_search, self.config.train_steps
        begun = saved[1]["step"] if saved else first
        self._begin("train", begun - first, last - first)
        for number, x, y in self._batches(self.examples, begun, last):
            self._stepped(step, x, y, number)
            self._done("train", step, number + 1, (number + 1 - first) / (last - first), number + 1 == last)
        self._end_part("train")

    # Their steps

    def _choose(self, step: Step, held_out: Sequence[np.ndarray]) -> None:
        """Chooses the largest coefficients, or the strategy of the warm-up if its loss is not larger."""
        part = 2 * len(held_out[0]) // 5
        images, judges = (
            self._batched([array[own] for array in held_out]) for own in (slice(None, part), slice(part, None))
        )
        largest, single = [mixed.best for mixed in step.mixtures], self.found["usual"]
        order = [list(np.argsort(own)[::-1]) for own in self.found["coefficients"]]

        def loss_at(places: Sequence[int], bound: float = np.inf, images: Batched = images) -> float:
            step.choose(places)
            return step.loss(images, bound)

        loss, places = min((loss_at(places), places) for places in (single, largest))
        if self.config.refine_in_training:
            places, _ = refined(places, loss, order, loss_at, lambda done: self.on_step("choose", done, ""))
        at_single = loss_at(single, images=judges)
        at_chosen = at_single if places == single else loss_at(places, images=judges)
        self.found["losses"] |= {"single": at_single, "chosen": at_chosen}
        if at_single <= at_chosen:
            places, self.found["kept"] = single, in_words(usual(self.config))
        self.found["places"] = [int(place) for place in places]

    def _batched(self, arrays: Sequence[np.ndarray]) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """`(x, y)` batches of one size, at most twice the batch size of training, so that statistics are alike."""
        size = min(len(arrays[0]), 2 * self.config.batch_size)
        x, y = arrays
        return [(tf.constant(x[i : i + size]), tf.constant(y[i : i + size])) for i in range(0, len(x) - size + 1, size)]

    @property
    def _end_of_warm_up(self) -> int:
        return round(self.config.train_steps * self.config.warm_up_share)

    @property
    def _end_of_search(self) -> int:
        """Number of steps before the part "train"."""
        both = self.config.warm_up_share + self.config.search_share
        return round(self.config.train_steps * both) if self.searched else 0

    def _step(self, model: keras.Model, saved: Saved | None) -> Step:
        step = Step(model, self.teacher if self.config.distill else None, self.examples.task, self.config)
        if saved is not None:
            step.decide(saved[1]["signs"])
            self._restore(step, saved[0])
        return step

    def _batches(self, examples: Examples, start: int, stop: int) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        """`(number, x, y)` of the steps from `start` to `stop`."""
        config = self.config
        batches = examples.batches(config.batch_size, start, stop, config.seed, config.flip, config.shift)
        return ((number, *batch) for number, batch in enumerate(batches, start))

    def _stepped(
        self,
        step: Step,
        x: tf.Tensor,
        y: tf.Tensor,
        number: int,
        coefficient_rate: float = 0.0,
        entropy: float = 0.0,
        noise: float = 0.0,
    ) -> float:
        config, decay = self.config, cosine_decay(number / self.config.train_steps)
        rates = config.learning_rate * decay, entropy, coefficient_rate, config.training_range_rate * decay, noise
        loss = float(step(x, y, number, *rates))
        if not np.isfinite(loss):
            raise TrainingDivergedError(f"step {number}: the loss is {loss}; a smaller `learning_rate` may help")
        self.found["recent"] = [*self.found["recent"][-49:], loss]
        return loss

    def _begin(self, part: str, done: int, steps: int) -> None:
        """Reports that a part begins, or resumes after completed steps; says nothing for a part without steps."""
        if steps:
            self.on_step(part, done / steps, "")

    def _end_part(self, name: str) -> None:
        """Records the loss of a part, the mean of its last steps."""
        if self.found["recent"]:
            self.found["losses"][name] = self._mean()
        self.found["recent"] = []

    def _mean(self) -> float:
        recent = self.found["recent"]
        return float(np.mean(recent)) if recent else float("nan")

    def _done(self, part: str, step: Step, spent: int, share: float, last: bool) -> None:
        """Writes a checkpoint if it is due, and reports progress."""
        if self.checkpoints and (spent % self.config.checkpoint_steps == 0 or last):
            self._save(self.checkpoints, step, part, spent)
        self.on_step(part, share, f"loss {self._mean():.4g}")

    # Checkpoints

    def _save(self, checkpoints: Checkpoints, step: Step, part: str, spent: int) -> None:
        meta = {
            "part": part,
            "fingerprint": self.mark,
            "config": plain(self.config),
            "data": self.examples.digest,
            "found": self.found,
            "candidates": self._candidates(),
            "signs": step.signs,
        }
        checkpoints.save(spent, step.snapshot(), meta)

    def _candidates(self) -> dict[str, list[str]]:
        return {role: list(names_for(self.config, role)) for role in ROLES}

    def _saved(self) -> Saved | None:
        loaded = self.checkpoints.load(self.say) if self.checkpoints else None
        if self.checkpoints is None or loaded is None:
            return None
        where, (_, meta) = self.checkpoints.directory, loaded
        if meta["fingerprint"] != self.mark:
            raise UserError(f"{where}: its checkpoints are of another model; give that one, or another `output`")
        if meta.get("data", ours := self.examples.digest) != ours:
            raise UserError(f"{where}: the training images have changed since; put them back, or give another `output`")
        if difference := first_difference(self.config, meta["config"]):
            name, ours, theirs = difference
            raise UserError(
                f"`{name}={ours}`: the checkpoints in {where} were made with `{name}={theirs}`; give the same, or "
                "another `output`"
            )
        if meta["candidates"] != self._candidates():
            raise UserError(f"{where}: its checkpoints are of other candidates; give another `output`")
        return loaded

    def _restore(self, step: Step, values: Mapping[str, np.ndarray]) -> None:
        for name, variable in step.state.items():
            value = values.get(name)
            if value is None or tuple(value.shape) != tuple(variable.shape):
                found = "none" if value is None else f"shape {value.shape}"
                where = self.checkpoints.directory if self.checkpoints else "search"
                raise UserError(
                    f"{where}: its checkpoint does not fit this model: {name} has shape "
                    f"{tuple(variable.shape)}, the file holds {found}"
                )
            variable.assign(value)
