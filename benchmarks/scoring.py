"""Speed of scoring and of a whole search, as ratios to the plain scorer.

    python benchmarks/scoring.py                               # MobileNetV3 at 96 px and tiny; 20 to 30 min on 2 cores
    python benchmarks/scoring.py --short                       # a tiny space, to see that everything runs
    python benchmarks/scoring.py --only=search --run_dir=runs/fashion --bits=4      # a trained supernet

The plain scorer uses `recalibrate` and `predict` for one subnet after the other, with one trace, 512 images for
BatchNorm statistics and 2,000 to score, all in memory. It is compared with `tfqnas.scoring.Scorer` in turn
(A B A B ...) in one process, or with --workers=N in a `Pool` of processes, while the plain scorer has all cores for its
operations. Numbers are subnets an hour, so a ratio above 1 is a gain. Answers are checked to agree but for one in a
hundred, since float rounding moves quantized values over ties, more often in an untrained network than in a trained
one.

random      different random subnets
kernels     other kernel sizes of one random skeleton, as in the second phase of a coarse-to-fine search
  +stop     the same two with early stopping of subnets that are worse than a front; an untrained network takes the
            largest subnet's answers for labels, so that its subnets differ as those of a trained one do
search      a trained supernet (`--run_dir`; with --short one of a few steps): a coarse-to-fine search that scores every
            subnet in full with the plain scorer, against the search of tools/search.py with the flags of `FLAGS` until
            its front of fully scored subnets has the same hypervolume; in turn for each seed, as a ratio of seconds
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import itertools
import os
import pathlib
import tempfile
import time

import numpy as np
from table import Row, show, versions

PARTS = ("random", "kernels", "search")
TARGETS = {"random": 2.0, "kernels": 4.0}
# Of the search that is compared; what is not here has its default.
FLAGS = {"search": "nsga2", "search_population": 16, "search_screen": 16}


@dataclasses.dataclass(frozen=True)
class Case:
    """A space and how many subnets of it are scored: `plain` by the plain scorer, `count` by ours, each round."""

    space: object
    channels: int
    classes: int
    plain: int
    count: int
    recalibration: int
    held_out: int
    rounds: int


def cases(short, rounds):
    from tfqnas import spaces

    if short:
        stage = spaces.Stage(8, 2, (1, 2), (3, 5), (3, 4), se=True)
        space = spaces.SearchSpace("short", (16,), stem_channels=8, stages=(stage, stage), head_channels=16)
        return [Case(space, 1, 10, 2, 4, 32, 64, rounds or 1)]
    mbv3 = dataclasses.replace(spaces.get("mbv3"), resolutions=(96,))
    return [
        Case(spaces.get("tiny"), 1, 10, 20, 200, 512, 2000, rounds or 3),
        Case(mbv3, 3, 1000, 4, 64, 512, 2000, rounds or 3),
    ]


class Network:
    """A freshly initialised supernet whose labels are what its largest subnet answers to images with some noise."""

    def __init__(self, case):
        import keras

        from tfqnas import LSQ, Supernet, initialize

        self.case, self.space = case, case.space
        rng = np.random.default_rng(0)
        keras.utils.set_random_seed(0)
        self.supernet = Supernet(
            case.space,
            num_classes=case.classes,
            channels=case.channels,
            weights=LSQ(bits=4),
            inputs=LSQ(bits=4, signed=False),
        )
        size = max(case.space.resolutions)
        shape = (case.recalibration + case.held_out, size, size, case.channels)
        self.images = np.clip(
            rng.normal(size=(len(range(shape[0])), 1, 1, case.channels)) + 0.5 * rng.normal(size=shape), -1, 1
        ).astype(np.float32)
        initialize(self.supernet, self.images[:64])
        self._cache = {}
        self.labels = np.zeros(case.held_out, int)
        largest = self.logits(case.space.largest())
        noise = rng.normal(size=largest.shape) * largest.std(axis=0)
        self.labels = (largest - largest.mean(axis=0) + 0.3 * noise).argmax(axis=1)

    def part(self, name, resolution):
        if (name, resolution) not in self._cache:
            from tfqnas.data.images import resized

            cut = self.images[: self.case.recalibration] if name == "train" else self.images[self.case.recalibration :]
            pixels = np.clip(cut * 128 + 128, 0, 255).astype(np.uint8)
            self._cache[name, resolution] = _Images(resized(pixels, resolution), self)
        return self._cache[name, resolution]

    def logits(self, arch):
        from tfqnas.train.calibrate import recalibrate, subnet_logits

        code = self.space.encode(arch)
        statistics = recalibrate(self.supernet, code, self.part("train", arch.resolution))
        return subnet_logits(self.supernet, code, statistics, self.part("held_out", arch.resolution))

    def scorer(self):
        from tfqnas.scoring.scorer import Scorer

        return Scorer(self.supernet, *(lambda r, name=name: self.part(name, r) for name in ("train", "held_out")))


class _Images:
    def __init__(self, pixels, network):
        self._pixels, self._network = pixels, network

    def __len__(self):
        return len(self._pixels)

    @property
    def labels(self):
        return self._network.labels

    def batches(self, size):
        return (self._pixels[i : i + size] for i in range(0, len(self), size))


def relatives(space, rng, count):
    """Subnets with one random skeleton and other kernel sizes, as `CoarseToFine` proposes them."""
    from tfqnas.search import codes

    kernels = np.array([gene.kind == "kernel" for gene in space.genes])
    drawn = codes.relatives(space, space.encode(space.sample(rng)), rng, count, 0.25, kernels)
    return [space.decode(code) for code in np.unique(drawn, axis=0)]


def randoms(space, rng, count):
    archs = dict.fromkeys(space.sample(rng) for _ in range(2 * count))
    return list(itertools.islice(archs, count))


def rate(function, count):
    began = time.perf_counter()
    result = function()
    return 3600 * count / (time.perf_counter() - began), result


class Plain:
    """The plain scorer with the interface of `Scorer`."""

    def __init__(self, network):
        self._network = network

    def score(self, archs, rivals=None):
        from tfqnas.scoring.score import Score

        for index, arch in enumerate(archs):
            outcomes = self._network.logits(arch).argmax(axis=1) == self._network.labels
            yield index, Score(float(outcomes.mean()), len(outcomes), outcomes)


def scorer_in_process(place, short, threads, path, plain=False):
    """That of case `place` in a process of its own, with the weights and labels of `kept`."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    network, values = Network(cases(short, 0)[place]), np.load(path)
    for number, variable in enumerate(network.supernet.variables):
        variable.assign(values[str(number)])
    network.labels = values["labels"]
    return Plain(network) if plain else network.scorer()


def kept(network, directory):
    """The file with a network's weights: with other threads, which sum in another order, its steps would differ."""
    path = pathlib.Path(directory) / "network.npz"
    values = {str(number): np.asarray(variable) for number, variable in enumerate(network.supernet.variables)}
    np.savez(path, labels=network.labels, **values)
    return str(path)


def pool(make, space, workers):
    """A context with a `Pool` whose processes have all traced what they need."""
    from tfqnas.scoring.pool import Pool

    @contextlib.contextmanager
    def warm():
        with Pool(make, space, workers) as scorer:
            # More than one piece for each process.
            ends = [space.largest(), space.smallest()]
            list(scorer.score(ends * 8 * workers))
            yield scorer

    return warm()


def threads_of(workers):
    return max(1, (os.cpu_count() or 1) // workers)


def measure(place, case, parts, arguments):
    """Rows of subnets an hour of ours over the plain scorer's."""
    from tfqnas.scoring.pool import Pool

    network = Network(case)
    if arguments.workers == 1:
        yield from measure_with(network.scorer(), Plain(network), network, case, parts)
        return
    with tempfile.TemporaryDirectory() as directory:
        threads = threads_of(arguments.workers)
        make = functools.partial(scorer_in_process, place, arguments.short, threads, kept(network, directory))
        # Answers are compared with those of a plain scorer of as many threads: others sum in another order, which an
        # untrained network makes into hundreds of other answers.
        with (
            pool(make, case.space, arguments.workers) as scorer,
            Pool(functools.partial(make, plain=True), case.space, 1) as judge,
        ):
            yield from measure_with(scorer, judge, network, case, parts)


def measure_with(scorer, judge, network, case, parts):
    draws = {"random": randoms, "kernels": relatives}
    rng = np.random.default_rng(1)
    network.logits(case.space.largest())
    list(scorer.score([case.space.largest(), case.space.smallest()]))  # traces
    for part in parts:
        ratios, early, rates = [], [], []
        for _ in range(case.rounds):
            archs = draws[part](case.space, rng, case.count)
            chosen = [archs[i] for i in rng.permutation(len(archs))[: case.plain]]
            plain, _ = rate(lambda chosen=chosen: list(Plain(network).score(chosen)), len(chosen))
            ours, scores = rate(lambda archs=archs: dict(scorer.score(archs)), len(archs))
            for place, right in judge.score(chosen[:4]):
                different = (right.outcomes != scores[archs.index(chosen[place])].outcomes).sum()
                if different > right.images / 100:
                    raise SystemExit(f"{chosen[place].key}: {different} outcomes differ from the plain scorer's")
            rivals = _rivals(network, archs, scores)
            stopped, _ = rate(lambda archs=archs, rivals=rivals: dict(scorer.score(archs, rivals)), len(archs))
            ratios.append(ours / plain)
            early.append(stopped / plain)
            rates.append((plain, ours, stopped))
        plain, ours, stopped = np.median(rates, axis=0)
        yield _row(f"{case.space.name}, {part}: subnets an hour", ratios, f"{ours:,.0f} / {plain:,.0f}", TARGETS[part])
        yield _row("  with early stopping", early, f"{stopped:,.0f} / {plain:,.0f}", TARGETS[part])


def _rivals(network, archs, scores):
    """For each subnet the outcomes of the most accurate of the others that costs no more."""
    from tfqnas.cost import count

    costs = np.array([count(network.space, arch, 4).effective_flops for arch in archs])
    accuracies = np.array([scores[i].accuracy for i in range(len(archs))])
    rivals = []
    for i in range(len(archs)):
        cheaper = (costs <= costs[i]) & (np.arange(len(archs)) != i)
        best = np.where(cheaper, accuracies, -1).argmax()
        rivals.append(scores[best].outcomes if cheaper.any() else None)
    return rivals


@dataclasses.dataclass(frozen=True)
class Gain(Row):
    """A row whose target is the lowest good value."""

    sign = ">="

    @property
    def verdict(self):
        return "" if self.target is None else "met" if self.value >= self.target else "missed"


def _row(name, ratios, spread, target):
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return Gain(name, middle, f"{low:.2f} to {high:.2f}   {spread} an hour", target, ".2f")


# A whole search ----------------------------------------------------------------------------------------------------


def volume(points, corner):
    """Hypervolume of (cost, accuracy) pairs, as a share of the box up to `corner`, the largest cost, and error 1."""
    from tfqnas.search import hypervolume

    values = np.array([(cost / corner, 1 - accuracy) for cost, accuracy in points])
    return hypervolume(values, (1.0, 1.0))


class Search:
    """Both searches of one supernet of a run."""

    def __init__(self, run_dir, bits, per_bin, seed, scorer):
        from tfqnas.runs.run import Run
        from tfqnas.search import Objectives, model_costs

        self.run, self.bits, self.per_bin, self.seed, self.scorer = Run.existing(run_dir), bits, per_bin, seed, scorer
        self.supernet = self.run.networks.supernet(bits)
        data, space = self.run.dataset, self.run.space
        costs = model_costs(space, bits, data.num_classes, data.channels)
        self.objectives = Objectives(space, costs, ("effective_mflops",))
        self.corner = costs["effective_mflops"](space.encode(space.largest())[None])[0]

    def plainly(self):
        """`(seconds, hypervolume, subnets)` of coarse to fine, every subnet recalibrated and scored in full."""
        from tfqnas.search import CoarseToFine

        searcher = CoarseToFine(self.objectives, 6, self.per_bin, per_skeleton=8, rounds=2, seed=self.seed)
        self.run.evaluator.accuracy(self.supernet, self.run.space.largest(), "held_out")  # traces
        points, began = [], time.perf_counter()
        while archs := searcher.ask(16):
            scores = [self.run.evaluator.accuracy(self.supernet, arch, "held_out") for arch in archs]
            searcher.tell(archs, scores)
            points += zip(self._costs(archs)[:, 0], scores, strict=True)
        return time.perf_counter() - began, volume(points, self.corner), len(points)

    def ours(self, wanted, most):
        """The same of the search of tools/search.py, until the hypervolume is `wanted` or `most` subnets are scored."""
        from tfqnas.progress import Progress
        from tfqnas.runs.searching import FrontSearch
        from tfqnas.scoring.judge import Judge
        from tfqnas.search import run as run_search
        from tfqnas.search.search_config import SearchConfig

        points, count = [], 0

        def find(search, part, supernet, searcher, known, on_result):
            return run_search(
                searcher,
                Judge(self.scorer, search.costs, search.config.early_stopping),
                search.objectives.record,
                search.budget,
                lambda result: watch(result, on_result),
                by=search.objectives.minimised or None,
            )

        def watch(result, on_result):
            nonlocal count
            on_result(result)
            count += 1
            if not result.estimated:
                points.append((result.costs["effective_mflops"], result.accuracy))
                if volume(points, self.corner) >= wanted:
                    raise _Reached

        config = SearchConfig(**FLAGS, search_budget=most, search_seed=self.seed)
        with tempfile.TemporaryDirectory() as directory:
            search = FrontSearch(self.run, config, self.bits, pathlib.Path(directory) / "search", find)
            began = time.perf_counter()
            with contextlib.suppress(_Reached), Progress([("search", 1)], io.StringIO()).part("search") as part:
                search(part, self.supernet)
            return time.perf_counter() - began, volume(points, self.corner), count

    def _costs(self, archs):
        return self.objectives.values(np.array([self.run.space.encode(arch) for arch in archs]))


class _Reached(Exception):
    """The hypervolume is as large as the plain search's."""


def measure_search(run_dir, bits, per_bin, seeds, workers=1):
    from tfqnas.runs.run import Run
    from tfqnas.runs.scoring import open_scorer

    make = functools.partial(open_scorer, str(run_dir), bits, threads_of(workers))
    with pool(make, Run.existing(run_dir).space, workers) if workers > 1 else in_process(run_dir, bits) as scorer:
        yield from compare_searches(run_dir, bits, per_bin, seeds, scorer)


def in_process(run_dir, bits):
    from tfqnas.runs.run import Run
    from tfqnas.runs.scoring import scorer_of

    run = Run.existing(run_dir)
    scorer = scorer_of(run, run.networks.supernet(bits))
    list(scorer.score([run.space.largest()]))  # traces
    return contextlib.nullcontext(scorer)


def compare_searches(run_dir, bits, per_bin, seeds, scorer):
    ratios = []
    for seed in range(seeds):
        search = Search(run_dir, bits, per_bin, seed, scorer)
        slow, wanted, plain = search.plainly()
        fast, reached, count = search.ours(wanted, most=4 * plain)
        # A search that has not got there has at least not been faster.
        ratios.append(fast / slow if reached >= wanted else max(1.0, fast / slow))
        spread = f"{fast:,.0f} / {slow:,.0f} s, {count} / {plain} subnets, hypervolume {reached:.4f} / {wanted:.4f}"
        yield Row(f"search of {bits} bits, seed {seed}: ours / plain", ratios[-1], spread, 0.2)
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    yield Row(f"search of {bits} bits: ours / plain", middle, f"{low:.3f} to {high:.3f}", 0.2)


def short_run(directory):
    """A run of a supernet of a few steps, for --short."""
    from tfqnas import spaces
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train
    from tfqnas.train.run_config import RunConfig

    stage = spaces.Stage(8, 2, (1, 2), (3, 5), (3, 4))
    space = spaces.SearchSpace("short", (8, 12), 8, (stage, stage), 16)
    path = pathlib.Path(directory) / "short.json"
    path.write_text(space.to_json())
    run = Run.create(
        RunConfig(
            run_dir=str(path.with_name("run")),
            space=str(path),
            bits=(4,),
            batch_size=20,
            held_out=300,
            dropout=0.0,
            recalibration_images=64,
            largest_epochs=0.0,
            supernet_epochs=(0.5,),
            supernet_learning_rate=(0.05,),
        )
    )
    with contextlib.redirect_stdout(io.StringIO()):
        train(run, run.costs.progress())
    return run.directory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tiny space and few subnets: the ratios mean nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of measurement; 0: 3, or 1 with --short")
    parser.add_argument("--subnets", type=int, default=0, help="of ours each round; plainly an eighth of it")
    parser.add_argument("--only", default="", help=f"parts to measure, of {','.join(PARTS)}")
    parser.add_argument("--space", default="", help="only the case of this space")
    parser.add_argument("--run_dir", help="a run with trained supernets, for the part `search`")
    parser.add_argument("--bits", type=int, default=4, help="which of its supernets")
    parser.add_argument("--per_bin", type=int, default=20, help="subnets in each of six bins of the plain search")
    parser.add_argument("--seeds", type=int, default=3, help="searches to compare")
    parser.add_argument("--workers", type=int, default=1, help="processes of ours; the plain scorer is one")
    arguments = parser.parse_args()
    trained = arguments.run_dir or arguments.short
    parts = arguments.only.split(",") if arguments.only else [p for p in PARTS if p != "search" or trained]
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only: expected some of {','.join(PARTS)}, received {','.join(unknown)}")
    if "search" in parts and not trained:
        parser.error("--only=search: expected --run_dir, a run with trained supernets")
    print(versions("tensorflow", "keras"), flush=True)
    show(_rows(arguments, parts))


def _rows(arguments, parts):
    for place, case in enumerate(cases(arguments.short, arguments.rounds)):
        if count := arguments.subnets:
            case = dataclasses.replace(case, count=count, plain=max(1, count // 8))
        if arguments.space in ("", case.space.name):
            yield from measure(place, case, [part for part in parts if part != "search"], arguments)
    if "search" in parts and arguments.run_dir:
        yield from measure_search(
            arguments.run_dir, arguments.bits, arguments.per_bin, arguments.seeds, arguments.workers
        )
    elif "search" in parts:
        with tempfile.TemporaryDirectory() as directory:
            yield from measure_search(short_run(directory), 4, per_bin=2, seeds=1)


if __name__ == "__main__":
    main()
