"""Post-training search: the strategy of each tensor from unlabelled images alone (DQSS)."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from tfqnas.conversion import quantize
from tfqnas.errors import TrainingDivergedError
from tfqnas.quantizers import ROLES, get
from tfqnas.strategy import recalibration
from tfqnas.strategy.candidates import mixture_for, names_for, prototype
from tfqnas.strategy.exchange import give_back, places_of
from tfqnas.strategy.freezing import freeze
from tfqnas.strategy.images import checked
from tfqnas.strategy.learner import Learner, Targets, batches_of, cosine_decay
from tfqnas.strategy.refining import ranked_pairs, refined
from tfqnas.strategy.result import Result, choices_of, quantized_tensors, searched_of
from tfqnas.supernet import initialize

# Images for the initialisation of the quantizers, and how often the coefficients are recorded.
INITIAL_IMAGES = 256
RECORDS = 50
# How often a tuning looks whether the loss on all images has become smaller.
LOOKS = 6


def gives_probabilities(model):
    """Whether a model ends with a softmax."""
    last = getattr(model.layers[-1], "activation", None)
    return type(model.layers[-1]).__name__ == "Softmax" or getattr(last, "__name__", "") == "softmax"


def loss_of(config, model):
    """The loss that a search takes for a model: as set, else by its output."""
    return config.loss or ("kl" if len(model.output_shape) == 2 else "mse")


def quantized(model, config, images):
    """The model with the candidates of `config` in every layer, initialised; at the ends those that exist, or LSQ."""
    inner = [mixture_for(config, role) for role in ROLES]
    ends = [_at(prototype, config.end_bits or config.bits, role) for prototype, role in zip(inner, ROLES, strict=True)]
    # A layer that has quantizers is left alone: the ends are what the second call finds.
    mixed = quantize(quantize(model, *inner, skip=_ends(model, config)), *ends, end_bits=None)
    initialize(mixed, images[:INITIAL_IMAGES])
    return mixed


def _at(prototype, bits, role):
    """A prototype with another bit width; LSQ where the method does not exist at that."""
    try:
        return prototype.with_bits(bits)
    except ValueError:
        return get("lsq", bits, role)


def _ends(model, config):
    """The names of the layers that have `end_bits`."""
    if config.end_bits in (0, config.bits):
        return []
    probe = quantize(model, get("lsq", config.bits, "weights"), end_bits=config.end_bits)
    return [name for name, role, q in quantized_tensors(probe) if role == "weights" and q.bits == config.end_bits]


def search_post_training(model, images, config, on_step=None):
    """Finds the strategies of a trained model's layers, without labels.

    The mixture of each tensor's candidates learns its coefficients and the candidates' own parameters against the
    outputs of the float model; weights and BatchNorm stay. The coefficients' temperature falls and an entropy term
    grows, so that they end near one-hot. What has the largest coefficient is frozen, and its quantizers are tuned. With
    `guard` the best single strategies are learned as well; with `refine` the better of both is the start of a descent:
    other strategies are tried layer by layer, and the result is tuned. What has the smallest loss on all images is
    handed over, and `Result.kept` says if it is a single strategy. With one candidate for weights and one for inputs
    nothing is searched, and its parameters are learned in as many steps.

    Args:
        model: float functional or Sequential `keras.Model`. images: float32 (n, height, width, channels), normalised.
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
    images = checked(images, model, config.batch_size)
    return _PostTraining(model, images, config, on_step or (lambda *_: None)).run()


def post_training(model, images, config, on_step=None):
    """The same with one strategy: `config` has one name for weights and one for inputs."""
    return search_post_training(model, images, config, on_step)


class _PostTraining:
    def __init__(self, model, images, config, on_step):
        self.images, self.config, self.on_step = images, config, on_step
        self.teacher = quantize(model)  # a plain copy, with layers in the place of operations
        self.loss = loss_of(config, model)
        self.probabilities = gives_probabilities(self.teacher)
        self.history = []
        self.losses = {}
        self._kept = None  # outputs of the float model

    def run(self):
        mixed = quantized(self.teacher, self.config, self.images)
        learner, searched = self._learner(mixed), searched_of(mixed)
        self._learn(learner, "search", self.config.steps, searching=bool(searched))
        coefficients, kept = learner.distributions(), None
        if searched:
            model, kept = self._chosen(learner, searched)
        else:
            model, self.losses["single"] = self._tuned(learner, "tune")
        if self.config.recalibrate:
            model = recalibration.recalibrated(model, self.images, self.config.batch_size)
        self.losses["final"] = self._loss(self._learner(model))
        return Result(model, choices_of(model, searched, coefficients), self.history, searched, self.losses, kept)

    def _chosen(self, learner, searched):
        """From coefficients to a model: `(model, None or the single strategy that it has)`."""
        places = learner.largest()
        learner.choose(places)
        model, loss = self._tuned(self._learner(freeze(learner.model)), "tune")
        self.losses["largest coefficients"] = loss
        kept = None
        for pair in self._singles(learner, searched) if self.config.guard else ():
            single, of_single = self._single(pair)
            words = f"weights by {pair[0]}, inputs by {pair[1]}"
            self.losses[f"single: {words}"] = of_single
            if of_single < loss:
                model, loss, kept = single, of_single, words
        if self.config.refine and give_back(model, learner.model):
            finer, of_finer = self._refined(learner, places_of(model, learner.model))
            self.losses["refined"] = of_finer
            if of_finer < loss:
                model, kept = finer, None
        return model, kept

    def _singles(self, learner, searched):
        """The single strategies that are worth tuning: the best one, and the best whose quantizers learn."""
        some = self._some()

        def loss_at(places):
            learner.choose(places)
            return learner.loss(some, self.config.batch_size)

        def learns(pair):
            both = [prototype(name, self.config.bits, role) for name, role in zip(pair, ROLES, strict=True)]
            for one in both:
                one.build()
            return all(one.trainable_variables for one in both)

        ranked = [
            tuple(name or names_for(self.config, role)[0] for name, role in zip(pair, ROLES, strict=True))
            for _, pair, _ in ranked_pairs(searched, loss_at)
        ]
        return list(dict.fromkeys([ranked[0], *[pair for pair in ranked if learns(pair)][:1]]))

    def _single(self, pair):
        """The model quantized by one strategy, with as many steps as all of the search: model and loss."""
        config = dataclasses.replace(self.config, weights=(pair[0],), inputs=(pair[1],))
        learner = self._learner(quantized(self.teacher, config, self.images))
        self._learn(learner, "guard", config.steps)
        return self._tuned(learner, "guard")

    def _refined(self, learner, places):
        """Other strategies layer by layer, from the candidates at these places, and tuned: model and loss."""
        some, size = self._some(), self.config.batch_size

        def loss_at(places, bound=np.inf):
            learner.choose(places)
            return learner.loss(some, size, bound)

        order = [list(np.argsort(a)[::-1]) for a in self.history[-1]["coefficients"]] if self.history else None
        order = order or [list(range(len(mixed.candidates))) for mixed in learner.mixtures]
        finer, _ = refined(places, loss_at(places), order, loss_at, lambda done: self.on_step("refine", done, ""))
        learner.choose(finer)
        return self._tuned(self._learner(freeze(learner.model)), "final")

    def _some(self):
        count = min(len(self.images), max(self.config.refine_images, self.config.batch_size))
        return np.random.default_rng((self.config.seed, 4)).permutation(len(self.images))[:count]

    def _learner(self, model):
        size = self.config.batch_size
        targets = Targets(self.teacher, model, self.loss, self.images, size, self._kept)
        self._kept = targets.kept
        return Learner(model, targets, self.loss, self.probabilities, self.config.noise, self.config.seed)

    def _loss(self, learner):
        """On all images."""
        return learner.loss(np.arange(len(self.images)), self.config.batch_size)

    def _tuned(self, learner, part):
        """Tunes the quantizers and keeps what had the smallest loss on all images: the model and that loss."""
        best = self._loss(learner), learner.ranges.values.numpy()

        def look():
            nonlocal best
            loss = self._loss(learner)
            if loss < best[0]:
                best = loss, learner.ranges.values.numpy()

        self._learn(learner, part, self.config.tune_steps, look=look)
        learner.ranges.write(tf.constant(best[1]))
        return learner.model, best[0]

    def _learn(self, learner, part, steps, searching=False, look=None):
        """Steps at rates that fall to zero; `searching` also learns and records the coefficients; `look` is called."""
        config = self.config
        order = batches_of(len(self.images), config.batch_size, config.seed)
        stride = max(1, steps // RECORDS)
        for step, numbers in enumerate(itertools.islice(order, steps)):
            share = step / steps
            rates = {"range_rate": config.range_rate * cosine_decay(share)}
            if searching:
                ratio = config.temperature_end / config.temperature_start
                learner.set_temperature(config.temperature_start * ratio**share)
                rates |= {"entropy": config.entropy * share, "coefficient_rate": config.coefficient_rate}
            loss = float(learner.step(numbers, **rates))
            if not np.isfinite(loss):
                raise TrainingDivergedError(f"{part}, step {step}: the loss is {loss}; a smaller --range_rate may help")
            if searching and (step % stride == 0 or step == steps - 1):
                record = {"step": step, "loss": loss, "coefficients": learner.distributions()}
                self.history.append(record)
            if look and ((step + 1) % max(1, steps // LOOKS) == 0 or step == steps - 1):
                look()
            self.on_step(part, (step + 1) / steps, f"loss {loss:.4g}")
        if learner.mixtures:
            learner.coefficients.write(learner.coefficients.values)  # without the noise of the last step
