"""Speed of scoring and of a whole search, as ratios to the plain scorer.

    python benchmarks/scoring.py                               # MobileNetV3 at 96 px and tiny; 20 to 30 min on 2 cores
    python benchmarks/scoring.py --short                       # a tiny space, to see that everything runs
    python benchmarks/scoring.py --only=search --run_dir=runs/fashion --bits=4      # a trained supernet

The plain scorer is `recalibrate` and `predict`: one trace, one subnet after the other, 512 images for BatchNorm's
statistics and 2,000 to be scored, all in memory. Against it `tfqnas.scoring.Scorer`, in turn (A B A B ...) in one
process; numbers are subnets an hour, so a ratio above 1 is a gain. Scores are checked to be the same.

random      different random subnets
kernels     other kernel sizes of one random skeleton, as the second phase of a coarse-to-fine search asks for
  +stop     the same two with subnets given up that are behind a front; an untrained network is taught its images by
            taking the largest subnet's answers for labels, so that subnets differ as those of a trained one do
search      a trained supernet (`--run_dir`): coarse to fine with the plain scorer, every subnet in full, against the
            search with the predictor and early stopping, until its front, scored in full, has the same hypervolume;
            the ratio is that of the seconds of both
"""

import argparse
import dataclasses
import itertools
import time

import numpy as np
from table import Row, show, versions

PARTS = ("random", "kernels", "search")
TARGETS = {"random": 2.0, "kernels": 4.0}


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
    return [Case(spaces.get("tiny"), 1, 10, 20, 200, 512, 2000, rounds or 3),
            Case(mbv3, 3, 1000, 4, 64, 512, 2000, rounds or 3)]  # fmt: skip


class Network:
    """A freshly initialised supernet whose labels are what its largest subnet answers to images with some noise."""

    def __init__(self, case):
        from tfqnas import LSQ, Supernet, initialize

        self.case, self.space = case, case.space
        rng = np.random.default_rng(0)
        self.supernet = Supernet(
            case.space, num_classes=case.classes, channels=case.channels,
            weights=LSQ(bits=4), inputs=LSQ(bits=4, signed=False),
        )  # fmt: skip
        size = max(case.space.resolutions)
        shape = (case.recalibration + case.held_out, size, size, case.channels)
        self.images = np.clip(rng.normal(size=(len(range(shape[0])), 1, 1, case.channels))
                              + 0.5 * rng.normal(size=shape), -1, 1).astype(np.float32)  # fmt: skip
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
        from tfqnas.train.calibrate import predict, recalibrate

        code = self.space.encode(arch)
        statistics = recalibrate(self.supernet, code, self.part("train", arch.resolution))
        return predict(self.supernet, code, statistics, self.part("held_out", arch.resolution))

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
    from tfqnas.search.codes import mutate

    kernels = np.array([gene.kind == "kernel" for gene in space.genes])
    code = space.encode(space.sample(rng))
    codes = mutate(space, np.tile(code, (4 * count, 1)), rng, 0.25, kernels)
    return [space.decode(code) for code in np.unique(codes, axis=0)[:count]]


def randoms(space, rng, count):
    archs = dict.fromkeys(space.sample(rng) for _ in range(2 * count))
    return list(itertools.islice(archs, count))


def rate(function, count):
    began = time.perf_counter()
    result = function()
    return 3600 * count / (time.perf_counter() - began), result


def measure(case, parts):
    """Rows of subnets an hour of ours over the plain scorer's."""
    network = Network(case)
    scorer = network.scorer()
    draws = {"random": randoms, "kernels": relatives}
    rng = np.random.default_rng(1)
    network.logits(case.space.largest())
    list(scorer.score([case.space.largest(), case.space.smallest()]))  # traces
    for part in parts:
        ratios, early, rates = [], [], []
        for _ in range(case.rounds):
            archs = draws[part](case.space, rng, case.count)
            chosen = [archs[i] for i in rng.permutation(len(archs))[: case.plain]]
            plain, logits = rate(lambda chosen=chosen: [network.logits(arch) for arch in chosen], len(chosen))
            ours, scores = rate(lambda archs=archs: dict(scorer.score(archs)), len(archs))
            for arch, answer in zip(chosen, logits, strict=True):
                outcomes = answer.argmax(axis=1) == network.labels
                different = (outcomes != scores[archs.index(arch)].outcomes).sum()
                if different > len(outcomes) / 500:
                    raise SystemExit(f"{arch.key}: {different} outcomes differ from the plain scorer's")
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

    def __init__(self, run_dir, bits, per_bin, seed):
        from tfqnas.search import Objectives, model_costs
        from tfqnas.train.run import Run

        self.run, self.bits, self.per_bin, self.seed = Run.existing(run_dir), bits, per_bin, seed
        self.supernet = self.run.supernet(bits)
        data, space = self.run.dataset, self.run.space
        costs = model_costs(space, bits, data.num_classes, data.channels)
        self.objectives = Objectives(space, costs, ("effective_mflops",))
        self.corner = costs["effective_mflops"](space.encode(space.largest())[None])[0]

    def plainly(self):
        """`(seconds, hypervolume, subnets)` of coarse to fine, every subnet recalibrated and scored in full."""
        from tfqnas.search import CoarseToFine

        searcher = CoarseToFine(self.objectives, 6, self.per_bin, per_skeleton=8, rounds=2, seed=self.seed)
        self.run.accuracy(self.supernet, self.run.space.largest(), "held_out")  # traces
        points, began = [], time.perf_counter()
        while archs := searcher.ask(16):
            scores = [self.run.accuracy(self.supernet, arch, "held_out") for arch in archs]
            searcher.tell(archs, scores)
            points += zip(self._costs(archs)[:, 0], scores, strict=True)
        return time.perf_counter() - began, volume(points, self.corner), len(points)

    def ours(self, wanted, most):
        """The same of NSGA-II with predictor and early stopping, until the hypervolume is `wanted`."""
        from tfqnas.scoring.judge import Judge
        from tfqnas.scoring.of_run import scorer_of
        from tfqnas.scoring.predictor import Predictor
        from tfqnas.search import NSGA2, Result
        from tfqnas.search.screened import Screened

        scorer = scorer_of(self.run, self.supernet)
        list(scorer.score([self.run.space.largest()]))  # traces
        judge = Judge(scorer, self._costs)
        inner = NSGA2(self.objectives, population=16, seed=self.seed)
        searcher = Screened(inner, self.objectives, Predictor(self.run.space), 16, first=32, growth=1.3)
        results, began, count = [], time.perf_counter(), 0
        while count < most:
            archs = searcher.ask(searcher.generation)
            front = _front(results)
            scores = [0.0] * len(archs)
            for index, accuracy, extra in judge.many(archs, front):
                scores[index] = accuracy
                if "estimated" not in extra:
                    results.append(Result(archs[index], accuracy, self.objectives.record(archs[index])))
            searcher.tell(archs, scores)
            count += len(archs)
            reached = volume([(r.costs["effective_mflops"], r.accuracy) for r in results], self.corner)
            if reached >= wanted:
                break
        return time.perf_counter() - began, reached, count

    def _costs(self, archs):
        return self.objectives.values(np.array([self.run.space.encode(arch) for arch in archs]))


def _front(results):
    from tfqnas.search import ParetoFront

    return ParetoFront.of(results, "effective_mflops").rows if results else ()


def measure_search(run_dir, bits, per_bin, seeds):
    for seed in range(seeds):
        search = Search(run_dir, bits, per_bin, seed)
        slow, wanted, plain = search.plainly()
        fast, reached, count = search.ours(wanted, most=4 * plain)
        spread = f"{fast:,.0f} / {slow:,.0f} s, {count} / {plain} subnets, hypervolume {reached:.4f} / {wanted:.4f}"
        value = fast / slow if reached >= wanted else float("inf")
        yield Row(f"search of {bits} bits, seed {seed}: ours / plain", value, spread, 0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tiny space and few subnets: the ratios mean nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of measurement; 0: 3, or 1 with --short")
    parser.add_argument("--only", default="", help=f"parts to measure, of {','.join(PARTS)}")
    parser.add_argument("--space", default="", help="only the case of this space")
    parser.add_argument("--run_dir", help="a run with trained supernets, for the part `search`")
    parser.add_argument("--bits", type=int, default=4, help="which of its supernets")
    parser.add_argument("--per_bin", type=int, default=20, help="subnets in each of six bins of the plain search")
    parser.add_argument("--seeds", type=int, default=3, help="searches to compare")
    arguments = parser.parse_args()
    parts = arguments.only.split(",") if arguments.only else [p for p in PARTS if p != "search" or arguments.run_dir]
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only: expected some of {','.join(PARTS)}, received {','.join(unknown)}")
    if "search" in parts and not arguments.run_dir:
        parser.error("--only=search: expected --run_dir, a run with trained supernets")
    print(versions("tensorflow", "keras"), flush=True)
    show(_rows(arguments, parts))


def _rows(arguments, parts):
    for case in cases(arguments.short, arguments.rounds):
        if arguments.space in ("", case.space.name):
            yield from measure(case, [part for part in parts if part != "search"])
    if "search" in parts:
        yield from measure_search(arguments.run_dir, arguments.bits, arguments.per_bin, arguments.seeds)


if __name__ == "__main__":
    main()
