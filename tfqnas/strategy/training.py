"""Quantization-aware search: the strategy of each tensor, learned together with the weights (DQSS)."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.conversion import quantize
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.quantizers import ROLES
from tfqnas.settings import first_difference, plain
from tfqnas.strategy import recalibration
from tfqnas.strategy.candidates import names_for, signed_inputs
from tfqnas.strategy.config import TrainingSettings
from tfqnas.strategy.freezing import freeze
from tfqnas.strategy.images import checked
from tfqnas.strategy.learner import cosine_decay
from tfqnas.strategy.post_training import INITIAL_IMAGES, RECORDS, gives_probabilities, quantized
from tfqnas.strategy.refining import in_words, ranked_pairs, refined
from tfqnas.strategy.result import Result, Searched, choices_of, searched_of
from tfqnas.strategy.step import Step
from tfqnas.strategy.tasks import Task
from tfqnas.strategy.variables import mixtures
from tfqnas.train.checkpoint import Checkpoints

# Training images, at most, that search and playoff do not train on: a fifth for losses of candidates, the others judge.
HELD_OUT = 1280

# Strategies that usually win in training, for weights and inputs: single ones that the playoff has in any case.
USUAL = (("lsq_plus", "lsq_plus"), ("lsq", "lsq"))

# Of a checkpoint: arrays by name, and JSON data.
Saved = tuple[dict[str, np.ndarray], dict[str, Any]]
# Batches of images and of what is wanted of them.
Batched = Sequence[tuple[tf.Tensor, tf.Tensor]]


def search_training(
    model: keras.Model,
    task: Task,
    config: TrainingSettings,
    on_step: Callable[[str, float, str], object] | None = None,
    checkpoints: Checkpoints | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Finds the strategies of a model's layers while its weights are trained.

    Opening: coefficients begin with the losses that the candidates have before any training. Search: for `search_share`
    of the steps coefficients, quantizers and weights learn in one pass, while the temperature falls and an entropy term
    grows. Playoff: the largest coefficients, with `refine` after trying others layer by layer, and single strategies
    (`rivals`) take turns on the weights that they share, for `playoff_share` of the steps; by the loss on training
    images that nothing was trained on until then the worse half drops out, until one is left, which goes on with the
    steps that remain. All of that counts as steps. In the end BatchNorm statistics are estimated anew. With one
    candidate for each role it is quantization-aware training by one strategy, with the same steps and rates.

    Args:
        model: float functional or Sequential `keras.Model`; it is the start and, with `distill`, the teacher.
        task: of tasks.py: gives batches and the loss.
        config: `TrainingSettings`.
        on_step: called with (part, share of it done, text): parts are "search", "playoff" and "train".
        checkpoints: None, or `tfqnas.train.checkpoint.Checkpoints`: where it goes on if it was stopped.
        say: called with lines on damaged checkpoints.

    Returns:
        `Result`; its `losses` are the means of the last steps of search and training, and of each contestant of the
        playoff the loss that judged it.

    Raises:
        UserError: for a checkpoint of another model or of other settings.
        TrainingDivergedError: for a loss that is not finite.
    """
    config.check()
    return _Training(model, task, config, on_step or (lambda *_: None), checkpoints, say).run()


def fingerprint(model: keras.Model) -> str:
    """A short text that another model, or other weights, would not have."""
    digest = hashlib.sha256(json.dumps([[v.name, list(v.shape)] for v in model.weights]).encode())
    for variable in model.weights:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()[:16]


class _Training:
    def __init__(
        self,
        model: keras.Model,
        task: Task,
        config: TrainingSettings,
        on_step: Callable[[str, float, str], object],
        checkpoints: Checkpoints | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.task, self.on_step, self.checkpoints, self.say = config, task, on_step, checkpoints, say
        self.teacher = quantize(model)
        self.probabilities = gives_probabilities(self.teacher)
        self.mark = fingerprint(self.teacher)
        self.searched: list[Searched] = []
        # What checkpoints keep besides variables, JSON data.
        self.found: dict[str, Any] = {"history": [], "coefficients": [], "contestants": [], "losses": {}, "recent": []}

    def run(self) -> Result:
        config = self.config
        images = checked(self.task.calibration(INITIAL_IMAGES, config.seed), self.teacher, 1)
        model = quantized(self.teacher, config, images)
        self.searched = searched_of(model)
        saved = self._saved()
        if saved is not None:
            self.found = saved[1]["found"]
        if self.searched:
            if saved is None or saved[1]["part"] != "train":
                self._search(model, saved)
                saved = None
            best = dict(zip(map(id, mixtures(model)), self._winner()["places"], strict=True))
            model = freeze(model, best=lambda mixed: best[id(mixed)])
        self._train(model, saved)
        if config.norm_images:
            images = self.task.calibration(config.norm_images, config.seed + 1)
            model = recalibration.recalibrated(model, images, min(len(images), 2 * config.batch_size))
        found = self.found
        choices = choices_of(model, self.searched, found["coefficients"])
        kept = self._winner()["single"] if self.searched else None
        return Result(model, choices, found["history"], self.searched, found["losses"], kept)

    # The three parts

    def _search(self, model: keras.Model, saved: Saved | None) -> None:
        """Coefficients and weights, then the playoff; the model has the winner's weights at the end."""
        config = self.config
        task, x_held, y_held = self.task.held_out(HELD_OUT, config.seed)
        size = min(len(x_held), 2 * config.batch_size)
        held_out = [(tf.constant(x_held[i : i + size]), tf.constant(y_held[i : i + size]))
                    for i in range(0, len(x_held) - size + 1, size)]  # fmt: skip
        fifth = max(1, len(held_out) // 5)
        images, judges = held_out[:fifth], held_out[fifth:] or held_out
        step = self._step(model, saved)
        stop = self._end_of_search
        if saved is None or saved[1]["part"] == "search":
            if saved is None:
                self._open(step, images)
            for number, x, y in self._batches(task, saved[1]["step"] if saved else 0, stop):
                share = number / stop
                step.set_temperature(
                    config.temperature_start * (config.temperature_end / config.temperature_start) ** share
                )
                loss = self._stepped(step, x, y, number, config.coefficient_rate, config.entropy * share, config.noise)
                if number % max(1, stop // RECORDS) == 0 or number == stop - 1:
                    self.found["history"].append(
                        {"step": number, "loss": loss, "coefficients": step.distributions()}
                    )  # fmt: skip
                self._done("search", step, number + 1, (number + 1) / stop, number + 1 == stop)
            step.coefficients.write(step.coefficients.values)  # without the noise of the last step
            self.found["coefficients"] = step.distributions()
            self.found["losses"]["search"] = self._mean()
            self.found["contestants"] = self._contestants(step, images)
            saved = None
        self._play(step, task, judges, saved[1]["step"] if saved else stop)

    def _play(self, step: Step, task: Task, judges: Batched, first: int) -> None:
        """Successive halving: the contestants take turns, a step each, on shared weights; the worse half drops out.

        So few steps are lost: the winner goes on from weights that all steps have trained. Its own quantizers have
        learned in its turns. What leads early need not lead later, so the last two have half of the steps or more.
        """
        start, last = self._end_of_search, self._spent
        ends = self._ends_of_rounds()
        for number, x, y in self._batches(task, first, last):
            left = self._left()
            step.choose(left[number % len(left)]["places"])
            self._stepped(step, x, y, number)
            if number + 1 in ends:
                self._judge(step, judges)
            self._done("playoff", step, number + 1, (number + 1 - start) / (last - start), number + 1 == last)

    def _judge(self, step: Step, judges: Batched) -> None:
        """The worse half of the contestants that are left drops out."""
        left = self._left()
        for one in left:
            step.choose(one["places"])
            one["loss"] = step.loss(judges)
            self.found["losses"][f"playoff: {one['single'] or 'layer by layer'}"] = one["loss"]
        for one in sorted(left, key=lambda one: one["loss"])[(len(left) + 1) // 2 :]:
            one["out"] = True

    def _train(self, model: keras.Model, saved: Saved | None) -> None:
        step, first, last = self._step(model, saved), self._spent, self.config.train_steps
        for number, x, y in self._batches(self.task, saved[1]["step"] if saved else first, last):
            self._stepped(step, x, y, number)
            self._done("train", step, number + 1, (number + 1 - first) / (last - first), number + 1 == last)
        self.found["losses"]["train"] = self._mean()

    # What they are made of

    def _open(self, step: Step, images: Batched) -> None:
        """Coefficients from the loss that each candidate has, with its best partner, before any training."""
        best: dict[tuple[str, str], float] = {}
        for loss, pair, _ in self._ranked(step, images):
            for role, name in zip(ROLES, pair, strict=True):
                best.setdefault((role, name), max(loss, 1e-6))
        values = []
        for _, role, names in self.searched:
            # What is no strategy for the whole network, since some inputs are signed, begins in the middle.
            middle = np.median([loss for (own, _), loss in best.items() if own == role])
            values.append(-self.config.opening * np.log([best.get((role, name), middle) for name in names]))
        step.coefficients.restart(np.float32(np.concatenate(values)))

    def _contestants(self, step: Step, images: Batched) -> list[dict[str, Any]]:
        """What the coefficients say and the best single strategies: `[{"single", "places"}]`, `single` in words.

        With `refine` the better of the largest coefficients and the first single strategy, refined layer by layer.
        """
        chosen, kept = [mixed.best for mixed in step.mixtures], step.coefficients.values.numpy()
        order = [list(np.argsort(own)[::-1]) for own in step.distributions()]
        ranked: list[tuple[str | None, list[int]]] = [(None, chosen)]
        if self.config.rivals:
            singles = self._ranked(step, images)
            # What learns its steps may be poor before it has: the usual ones come first.
            singles.sort(key=lambda one: USUAL.index(one[1]) if one[1] in USUAL else len(USUAL))
            ranked += [(in_words(pair), places) for _, pair, places in singles]
        if self.config.refine:
            loss_at = self._loss_at(step, images)
            losses = [loss_at(places) for _, places in ranked[:2]]
            start = int(np.argmin(losses))
            chosen, _ = refined(ranked[start][1], losses[start], order, loss_at, lambda _: None)
        step.coefficients.restart(kept)
        found = [{"single": next((name for name, places in ranked[1:] if places == chosen), None), "places": chosen}]
        others = ({"single": name, "places": places} for name, places in ranked if name and places != chosen)
        return found + list(itertools.islice(others, self.config.rivals))

    def _loss_at(self, step: Step, images: Batched) -> Callable[..., float]:
        def loss_at(places: list[int], bound: float = np.inf) -> float:
            step.choose(places)
            return step.loss(images)

        return loss_at

    def _ranked(self, step: Step, images: Batched) -> list[tuple[float, tuple[str, str], list[int]]]:
        """The single strategies by their loss, see `ranked_pairs`; changes the coefficients."""
        return ranked_pairs(self.searched, self._loss_at(step, images), self.config, signed_inputs(self.teacher))

    def _left(self) -> list[dict[str, Any]]:
        """The contestants that have not dropped out."""
        return [one for one in self.found["contestants"] if not one.get("out")]

    def _winner(self) -> dict[str, Any]:
        (winner,) = self._left()
        return winner

    @property
    def _end_of_search(self) -> int:
        return round(self.config.train_steps * self.config.search_share)

    @property
    def _spent(self) -> int:
        """Steps before the part "train"."""
        if not self.searched:
            return 0
        held = len(self.found["contestants"]) > 1
        return self._end_of_search + round(self.config.train_steps * self.config.playoff_share) * held

    def _ends_of_rounds(self) -> list[int]:
        """The steps after which the worse half of the contestants drops out, until one is left."""
        rounds = math.ceil(math.log2(len(self.found["contestants"])))
        return [round(end) for end in np.linspace(self._end_of_search, self._spent, rounds + 1)[1:]]

    def _step(self, model: keras.Model, saved: Saved | None) -> Step:
        step = Step(model, self.teacher if self.config.distill else None, self.task, self.config, self.probabilities)
        if saved is not None:
            self._restore(step, saved[0])
        return step

    def _batches(self, task: Task, start: int, stop: int) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        """`(number, x, y)` of the steps from `start` to `stop`."""
        config = self.config
        batches = task.batches(config.batch_size, start, stop, config.seed, config.flip, config.shift)
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
            raise TrainingDivergedError(f"step {number}: the loss is {loss}; a smaller --learning_rate may help")
        self.found["recent"] = [*self.found["recent"][-49:], loss]
        return loss

    def _mean(self) -> float:
        recent = self.found["recent"]
        return float(np.mean(recent)) if recent else float("nan")

    def _done(self, part: str, step: Step, spent: int, share: float, last: bool) -> None:
        """A checkpoint, if it is time, and progress."""
        if self.checkpoints and (spent % self.config.checkpoint_steps == 0 or last):
            self._save(self.checkpoints, step, part, spent)
        self.on_step(part, share, f"loss {self._mean():.4g}")

    # Checkpoints

    def _save(self, checkpoints: Checkpoints, step: Step, part: str, spent: int) -> None:
        meta = {
            "part": part, "fingerprint": self.mark, "config": plain(self.config), "found": self.found,
            "candidates": self._candidates(),
        }  # fmt: skip
        checkpoints.save(spent, step.snapshot(), meta)

    def _candidates(self) -> dict[str, list[str]]:
        return {role: list(names_for(self.config, role)) for role in ("weights", "inputs")}

    def _saved(self) -> Saved | None:
        loaded = self.checkpoints.load(self.say) if self.checkpoints else None
        if self.checkpoints is None or loaded is None:
            return None
        where, (_, meta) = self.checkpoints.directory, loaded
        if meta["fingerprint"] != self.mark:
            raise UserError(f"{where}: its checkpoints are of another model: give that one, or another --output")
        if difference := first_difference(self.config, meta["config"]):
            name, ours, theirs = difference
            raise UserError(
                f"--{name}={ours}: the checkpoints in {where} were made with --{name}={theirs}: give the same, or "
                "another --output"
            )
        if meta["candidates"] != self._candidates():
            raise UserError(f"{where}: its checkpoints are of other candidates: give another --output")
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
