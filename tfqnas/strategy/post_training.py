"""Post-training search: the strategy of each tensor from unlabelled images alone (DQSS)."""

import dataclasses
import itertools

import numpy as np

from tfqnas.conversion import quantize
from tfqnas.errors import TrainingDivergedError
from tfqnas.quantizers import ROLES, get
from tfqnas.strategy import recalibration
from tfqnas.strategy.candidates import SINGLES, mixture_for, names_for, prototype
from tfqnas.strategy.freezing import freeze
from tfqnas.strategy.images import checked
from tfqnas.strategy.learner import Learner, Targets, batches_of, cosine_decay
from tfqnas.strategy.refining import ranked_pairs, refined
from tfqnas.strategy.result import Result, choices_of, quantized_tensors, searched_of
from tfqnas.supernet import initialize

# Images for the initialisation of the quantizers, and how often the coefficients are recorded.
INITIAL_IMAGES = 256
RECORDS = 50
# How often a tuning looks whether the loss on the images for choices has become smaller.
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
    grows, so that they end near one-hot. What has the largest coefficients is tuned. With `guard` the usual and the
    most promising single strategies are tuned as well, with as many steps as they would have had by themselves; with
    `refine` the best so far is the start of a descent: other strategies are tried layer by layer, and what
    comes out is tuned. What has the smallest loss is frozen and handed over, and `Result.kept` says if it is a single
    strategy. With one candidate for weights and one for inputs nothing is searched, and its parameters are tuned in as
    many steps.

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


def parts_of(count, batch_size, choice_share, seed):
    """`(numbers to learn on, numbers to choose with)` of `count` images, int arrays; a batch of each at least."""
    order = np.random.default_rng((seed, 4)).permutation(count)
    choice = min(max(round(choice_share * count), batch_size), count - batch_size)
    return order[choice:], order[:choice]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """One choice of all tensors' strategies: places in the mixtures, quantizers' parameters (n,), and its loss."""

    places: list
    values: np.ndarray
    loss: float
    single: str | None = None


class _PostTraining:
    def __init__(self, model, images, config, on_step):
        self.images, self.config, self.on_step = images, config, on_step
        self.teacher = quantize(model)  # a plain copy, with layers in the place of operations
        self.loss = loss_of(config, model)
        self.probabilities = gives_probabilities(self.teacher)
        self.learned, self.choice = parts_of(len(images), config.batch_size, config.choice_share, config.seed)
        self.history, self.losses = [], {}

    def run(self):
        config = self.config
        mixed = quantized(self.teacher, config, self.images[self.learned])
        self.learner = learner = self._learner(mixed)
        searched, coefficients = searched_of(mixed), []
        start = learner.ranges.values.numpy()
        if searched:
            self._search()
            coefficients = learner.distributions()
            found = self._chosen(searched, start)
        else:
            found = self._tuned([], start, config.steps + config.tune_steps, "tune")
            self.losses["single"] = found.loss
        learner.choose(found.places)
        learner.ranges.restart(found.values)
        model = freeze(mixed)
        self.losses["final"] = found.loss
        if config.recalibrate:
            model = recalibration.recalibrated(model, self.images[self.learned], config.batch_size)
            self.losses["final"] = self._learner(model).loss(self.choice, config.batch_size)
        return Result(model, choices_of(model, searched, coefficients), self.history, searched, self.losses,
                      found.single)  # fmt: skip

    def _chosen(self, searched, start):
        """The best that coefficients, single strategies and the descent give: a `_Candidate`."""
        config, values = self.config, self.learner.ranges.values.numpy()
        best = self._tuned(self.learner.largest(), values, config.tune_steps, "tune")
        self.losses["largest coefficients"] = best.loss
        if config.guard:
            single = self._best_single(searched, [start, values])
            self.losses["single"] = single.loss
            best = min(best, single, key=_loss)
        if config.refine:
            finer = self._refined(best)
            self.losses["refined"] = finer.loss
            best = min(best, finer, key=_loss)
        return best

    def _best_single(self, searched, starts):
        """Tunes the usual and the most promising single strategies, with all steps: the best `_Candidate`.

        Args:
            starts: parameters of the quantizers, as initialised and as searched: the promising ones begin at the
                better ones, the usual ones as initialised.
        """
        config, found = self.config, []
        for values in starts:
            self.learner.ranges.restart(values)
            found += [(loss, pair, places, values) for loss, pair, places in ranked_pairs(searched, self._loss_at)]
        ranked = {}
        for _, pair, places, values in sorted(found, key=_first):
            names = (name or names_for(config, role)[0] for name, role in zip(pair, ROLES, strict=True))
            ranked.setdefault(tuple(names), (places, values))
        # What learns its steps may be poor before it has, so the usual ones are tuned in any case.
        usual = {pair: (ranked[pair][0], starts[0]) for pair in SINGLES.values() if pair in ranked}
        tried = dict(itertools.islice(ranked.items(), config.guard)) | usual
        tuned = []
        for number, (pair, (places, values)) in enumerate(tried.items()):
            within = number / len(tried), (number + 1) / len(tried)
            steps = (config.steps + config.tune_steps) * self._learns(pair)
            one = self._tuned(places, values, steps, "guard", within)
            tuned.append(dataclasses.replace(one, single="weights by {}, inputs by {}".format(*pair)))
            self.losses[f"single: {tuned[-1].single}"] = one.loss
        return min(tuned, key=_loss)

    def _learns(self, pair):
        """Whether quantizers of one of these strategies have parameters that learn."""
        found = [prototype(name, self.config.bits, role) for name, role in zip(pair, ROLES, strict=True)]
        for quantizer in found:
            quantizer.build()
        return any(quantizer.trainable_variables for quantizer in found)

    def _refined(self, best):
        """Other strategies layer by layer, by the loss on images that are learned on, and tuned."""
        learner, config = self.learner, self.config
        some = self.learned[: max(config.refine_images, config.batch_size)]
        learner.ranges.restart(best.values)

        def loss_at(places, bound=np.inf):
            learner.choose(places)
            return learner.loss(some, config.batch_size, bound)

        order = [list(np.argsort(a)[::-1]) for a in self.history[-1]["coefficients"]] if self.history else [
            list(range(len(mixed.candidates))) for mixed in learner.mixtures]  # fmt: skip
        places, _ = refined(
            best.places, loss_at(best.places), order, loss_at, lambda done: self.on_step("refine", done, "")
        )
        return self._tuned(places, best.values, config.tune_steps, "final")

    def _learner(self, model):
        targets = Targets(self.teacher, model, self.loss, self.images, self.config.batch_size)
        return Learner(model, targets, self.loss, self.probabilities, self.config.seed)

    def _loss_at(self, places):
        """Of the candidates at these places, on the images for choices."""
        self.learner.choose(places)
        return self.learner.loss(self.choice, self.config.batch_size)

    def _search(self):
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
        learner.coefficients.write(learner.coefficients.values)  # without the noise of the last step

    def _tuned(self, places, values, steps, part, within=(0.0, 1.0)):
        """Tunes the parameters of these places' candidates, from `values` on: a `_Candidate`, the best moment.

        Args:
            within: from which share of the progress of `part` to which.
        """
        config, learner = self.config, self.learner
        learner.choose(places)
        learner.ranges.restart(values)
        best = learner.loss(self.choice, config.batch_size), np.array(values)
        for step, share, numbers in self._batches(steps if learner.learns else 0):
            loss = learner.step(numbers, range_rate=config.range_rate * cosine_decay(share))
            _check_finite(loss, part, step)
            if (step + 1) % max(1, steps // LOOKS) == 0 or step == steps - 1:
                at = learner.loss(self.choice, config.batch_size)
                best = min(best, (at, learner.ranges.values.numpy()), key=_first)
            done = within[0] + (within[1] - within[0]) * (step + 1) / steps
            self.on_step(part, done, f"loss {best[0]:.4g}")
        return _Candidate(list(places), best[1], best[0])

    def _batches(self, steps):
        """`(step, share done, numbers of images)` of as many steps."""
        order = batches_of(len(self.learned), self.config.batch_size, self.config.seed)
        return ((n, n / steps, self.learned[numbers]) for n, numbers in enumerate(itertools.islice(order, steps)))


def _check_finite(loss, part, step):
    if not np.isfinite(loss):
        raise TrainingDivergedError(f"{part}, step {step}: the loss is {float(loss)}; a smaller --range_rate may help")


def _loss(candidate):
    return candidate.loss


def _first(values):
    return values[0]
