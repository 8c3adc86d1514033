"""Speed and memory of training and scoring with a supernet and LSQ, as ratios to plain networks.

    python benchmarks/training.py                       # MobileNetV3, batch 32, 96 px; about 12 minutes on 2 cores
    python benchmarks/training.py --short               # a tiny space, to see that everything runs
    python benchmarks/training.py --only=sandwich,lsq --rounds=9
    python benchmarks/training.py --only=input --run_dir=runs/digits

Times are taken in one process and in turn (A B A B ...), so that other load on the machine affects both
sides. A ratio is the median of the rounds' ratios, with the quartiles beside it. Memory is the peak of a
separate process, minus its memory after the imports. The comparisons are:

sandwich    `Trainer.gradients` of largest, smallest and two random subnets, each at its own resolution, against
            the sum of four static networks (`Supernet(space.pruned(arch))`, the same layers without slices and
            conditionals), each a `tf.function` with the same loss on images that are already resized.
mixed       `Trainer.gradients` of largest, smallest and four random subnets of a mixed supernet (QFA: weights by LSQ,
            inputs by BatchQuant, both with 2, 3 or 4 bits) against the same six architectures in an LSQ supernet with
            one bit width; also the evaluation of both, with one trace for all mixtures.
lsq         time and memory of a training step (`Trainer.run_step`, including the update) of the largest network
            with 4-bit LSQ against the same without quantizers.
score       recalibration and evaluation of a subnet with images in memory against forward passes of its static
            network in inference mode (BatchNorm with given statistics) over the same images in the same batches.
depthwise   forward and backward of `tfqnas.layers.depthwise` against `tf.nn.depthwise_conv2d`, and the largest
            error of the filter's gradient against float64, relative to its largest entry.
count       architectures a minute whose costs are computed, one by one and as arrays of codes.
input       share of the time that training in `--run_dir` waited for its input.
"""

import argparse
import dataclasses
import functools
import pathlib
import subprocess
import sys

import numpy as np
from table import Row, in_turn, ratio_row, show, versions

PARTS = ("sandwich", "mixed", "lsq", "score", "depthwise", "count", "input")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of the measurement."""

    space: object
    batch: int
    channels: int
    classes: int
    rounds: int
    calibration: int
    evaluation: int
    scored: int
    depthwise: tuple  # (size, channels, kernel, stride)
    depthwise_batch: int
    counted: int


def setting(short, rounds):
    from tfqnas import spaces

    if short:
        stage = spaces.Stage(8, 2, (1, 2), (3, 5), (3, 4), se=True)
        space = spaces.SearchSpace("short", (16, 24), stem_channels=8, stages=(stage,), head_channels=16)
        return Setting(space, 4, 3, 10, rounds or 2, 16, 32, 1, ((6, 16, 5, 1),), 4, 50)
    space = dataclasses.replace(spaces.get("mbv3"), resolutions=tuple(range(64, 97, 4)))
    # (size, channels, kernel, stride) of blocks of MobileNetV3 at 96 px
    depthwise = ((24, 144, 3, 1), (12, 240, 5, 1), (12, 240, 7, 2), (6, 480, 7, 1), (6, 672, 5, 2), (3, 960, 7, 1))
    return Setting(space, 32, 3, 1000, rounds or 9, 512, 2000, 3, depthwise, 32, 2000)


# Measuring ---------------------------------------------------------------------------------------------------


def peak_memory():
    """Most memory that this process has held, in MB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM: memory is measured on Linux only")


# What is measured --------------------------------------------------------------------------------------------


def make_supernet(s, space=None, bits=4):
    from tfqnas import LSQ, Supernet, initialize

    quantizers = {"weights": LSQ(bits=bits), "inputs": LSQ(bits=bits, signed=False)} if bits else {}
    supernet = Supernet(space or s.space, num_classes=s.classes, channels=s.channels, **quantizers)
    if bits:
        initialize(supernet, random_images(s, 8, max(supernet.space.resolutions)))
    return supernet


def random_images(s, count, resolution):
    # Not white noise: its average over the image would be nearly constant.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 1, 1, s.channels))
    images = images + 0.5 * rng.normal(size=(count, resolution, resolution, s.channels))
    return images.astype(np.float32)


def random_batch(s):
    import tensorflow as tf

    labels = np.random.default_rng(1).integers(0, s.classes, s.batch)
    return tf.constant(random_images(s, s.batch, max(s.space.resolutions))), tf.constant(labels, tf.int32)


def measure_sandwich(s):
    import tensorflow as tf

    from tfqnas.train.distill import subnet_loss
    from tfqnas.train.loop import Trainer
    from tfqnas.train.run_config import RunConfig

    rng = np.random.default_rng(0)
    archs = [s.space.largest(), s.space.smallest(), s.space.sample(rng), s.space.sample(rng)]
    images, labels = random_batch(s)
    trainer = Trainer(make_supernet(s), RunConfig())
    gradients = tf.function(trainer.gradients, autograph=False)
    seed = tf.constant([0, 0])

    def sandwich(chosen):
        subnets = trainer._padded(chosen, [0.0] * len(chosen))
        return lambda: gradients(images, labels, *subnets, seed)[1].numpy()

    def static(arch):
        network = make_supernet(s, s.space.pruned(arch))
        x = tf.image.resize(images, (arch.resolution, arch.resolution), antialias=True)
        variables = [v.value for v in network.trainable_variables]
        zeros = tf.zeros((s.batch, s.classes))

        @tf.function(autograph=False)
        def step(x, labels):
            with tf.GradientTape() as tape:
                loss = subnet_loss(network(x, training=True), labels, zeros, 0.0, 0.1, 1.0)
            return loss, tape.gradient(loss, variables)

        return lambda: step(x, labels)[0].numpy()

    names = ["largest", "smallest", "random 1", "random 2"]
    functions = [sandwich(archs), *(sandwich([arch]) for arch in archs), *(static(arch) for arch in archs)]
    times = in_turn(functions, s.rounds)
    whole, dynamic, fixed = times[0], times[1:5], times[5:]
    yield ratio_row("sandwich step / four static networks", whole, fixed.sum(axis=0), 1.10)
    for name, ours, theirs in zip(names, dynamic, fixed, strict=True):
        yield ratio_row(f"  {name} alone / static", ours, theirs)


def measure_mixed(s):
    import tensorflow as tf

    from tfqnas import Supernet, initialize
    from tfqnas.quantizers import LSQ, BatchQuant, ByBits
    from tfqnas.train.calibrate import recalibrate
    from tfqnas.train.loop import Trainer
    from tfqnas.train.run_config import RunConfig

    mixed = dataclasses.replace(s.space, weight_bits=(2, 3, 4), input_bits=(2, 3, 4))
    rng = np.random.default_rng(0)
    archs = [mixed.largest(), mixed.smallest(), *(mixed.sample(rng) for _ in range(4))]
    images, labels = random_batch(s)
    seed, config = tf.constant([0, 0]), RunConfig(random_subnets=4)
    qfa = Supernet(
        mixed, num_classes=s.classes, channels=s.channels, weights=ByBits(LSQ(4)), inputs=ByBits(BatchQuant(4))
    )
    initialize(qfa, random_images(s, 8, max(mixed.resolutions)))
    sides = [(qfa, archs), (make_supernet(s), [dataclasses.replace(arch, bits=None) for arch in archs])]
    steps, scores = [], []
    for supernet, own in sides:
        trainer = Trainer(supernet, config)
        gradients = tf.function(trainer.gradients, autograph=False)
        subnets = trainer._padded(own, [0.0] * len(own))
        steps.append(lambda gradients=gradients, subnets=subnets: gradients(images, labels, *subnets, seed)[1].numpy())
        code = supernet.space.encode(own[-1])
        small = tf.constant(random_images(s, s.batch, own[-1].resolution))
        given = [tf.constant(x) for x in recalibrate(supernet, code, small)]
        scores.append(functools.partial(supernet.logits, small, tf.constant(code), given))
    yield ratio_row("mixed sandwich of six / with one bit width", *in_turn(steps, s.rounds), 1.25)
    times = in_turn([lambda score=score: score().numpy() for score in scores], 3 * s.rounds)
    yield ratio_row("  evaluation / with one bit width", *times)


def training_step(s, bits):
    """A function that does one training step of the largest network."""
    from tfqnas.train.loop import Trainer
    from tfqnas.train.run_config import RunConfig

    trainer = Trainer(make_supernet(s, bits=bits), RunConfig())
    batch, archs = random_batch(s), [s.space.largest()]
    return lambda: trainer.run_step(batch, archs, [0.0], (0, 0), 1e-4)


def measure_lsq(s, command):
    ours, theirs = in_turn([training_step(s, 4), training_step(s, None)], s.rounds)
    yield ratio_row("LSQ training step / without quantizers", ours, theirs, 1.20)
    memory = {}
    for bits in (4, 0):
        result = subprocess.run([*command, f"--memory={bits}"], capture_output=True, text=True, check=True)
        memory[bits] = float(result.stdout.split()[-1])
    spread = f"{memory[4]:,.0f} / {memory[0]:,.0f} MB"
    yield Row("LSQ training memory / without quantizers", memory[4] / memory[0], spread, 1.35)


def measure_memory(s, bits):
    """Peak memory in MB of three training steps, less that of the imports."""
    import tfqnas.runs.training  # noqa: F401  everything that a training imports

    before = peak_memory()
    step = training_step(s, bits or None)
    for _ in range(3):
        step()
    return peak_memory() - before


def measure_score(s):
    import tensorflow as tf

    from tfqnas.train.calibrate import accuracy, recalibrate, subnet_logits

    supernet = make_supernet(s)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, s.classes, s.evaluation)
    functions = []
    for _ in range(s.scored):
        arch = s.space.sample(rng)
        functions += score_and_bare(s, supernet, arch, labels, tf, accuracy, subnet_logits, recalibrate)
    times = in_turn(functions, max(2, s.rounds // 3))
    # One ratio a subnet and round.
    yield ratio_row("score of a subnet / bare forward passes", times[0::2].ravel(), times[1::2].ravel(), 1.10)


def score_and_bare(s, supernet, arch, labels, tf, accuracy, subnet_logits, recalibrate):
    code = s.space.encode(arch)
    calibration = tf.constant(random_images(s, s.calibration, arch.resolution))
    evaluation = tf.constant(random_images(s, s.evaluation, arch.resolution))
    network = make_supernet(s, s.space.pruned(arch))
    given = [tf.stack([tf.zeros(o.statistics_size), tf.ones(o.statistics_size)]) for o in network.observers]

    @tf.function(autograph=False)
    def forward(x):
        return network(x, statistics=given)

    def score():
        return accuracy(subnet_logits(supernet, code, recalibrate(supernet, code, calibration), evaluation), labels)

    def bare():
        for images, batch in ((calibration, 128), (evaluation, 256)):
            for i in range(0, len(images), batch):
                forward(images[i : i + batch]).numpy()

    return score, bare


def measure_depthwise(s):
    import tensorflow as tf

    from tfqnas.layers.depthwise import depthwise_conv2d

    def plain(x, kernel, strides):
        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME")

    def both(convolve, x, kernel, strides):
        @tf.function(autograph=False)
        def run(x, kernel):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = convolve(x, kernel, strides)
            return tape.gradient(y, [x, kernel], output_gradients=tf.sin(y))

        return lambda: run(x, kernel)[1].numpy()

    for size, channels, k, stride in s.depthwise:
        rng = np.random.default_rng(0)
        x = tf.constant(rng.normal(size=(s.depthwise_batch, size, size, channels)), tf.float32)
        kernel = tf.constant(rng.normal(size=(k, k, channels, 1)) / k, tf.float32)
        strides = (1, stride, stride, 1)
        functions = [both(convolve, x, kernel, strides) for convolve in (depthwise_conv2d, plain)]
        times = in_turn(functions, 4 * s.rounds)
        exact = both(plain, tf.cast(x, tf.float64), tf.cast(kernel, tf.float64), strides)()
        errors = [np.max(np.abs(f() - exact)) / np.max(np.abs(exact)) for f in functions]
        row = ratio_row(f"depthwise {k}x{k}/{stride}, {size} px, {channels} channels", *times)
        yield dataclasses.replace(row, spread=f"{row.spread}   error {errors[0]:.0e} / {errors[1]:.0e}")


def measure_count(s):
    from tfqnas import cost, spaces

    rng = np.random.default_rng(0)
    archs = [s.space.sample(rng) for _ in range(s.counted)]
    codes = np.stack([s.space.encode(arch) for arch in archs])
    mixed = spaces.get("mbv3_qfa")
    mixed_codes = rng.integers(0, mixed.choice_counts, (s.counted, len(mixed.genes)))
    ways = {
        "architectures counted a minute": lambda: [cost.count(s.space, arch, 4) for arch in archs],
        "  as arrays of codes": lambda: cost.count_codes(s.space, codes, 4),
        "  as arrays, bit widths in the codes": lambda: cost.count_codes(mixed, mixed_codes),
    }
    for name, times in zip(ways, in_turn(list(ways.values()), 3), strict=True):
        yield Row(name, 60 * s.counted / np.median(times), form=",.0f")


def measure_input(run_dir):
    from tfqnas.files import read_jsonl

    finished = [r for r in read_jsonl(pathlib.Path(run_dir) / "log.jsonl") if r.get("event") == "finished"]
    total = sum(r["seconds"] for r in finished)
    if not total:
        raise SystemExit(f"{run_dir}: no finished stage in log.jsonl")
    waited = sum(r["input_wait"] * r["seconds"] for r in finished)
    stages = ", ".join(f"{r['stage']} {r['input_wait']:.1%}" for r in finished)
    yield Row("share of time waiting for input", waited / total, stages, 0.05)


# The table ---------------------------------------------------------------------------------------------------


def heading(s):
    return (
        f"{versions('tensorflow', 'keras', 'numpy')}\n"
        f"space {s.space.name}, {s.space.resolutions[0]} to {s.space.resolutions[-1]} px, batch {s.batch}, "
        f"{s.rounds} rounds, scores of {s.calibration} + {s.evaluation} images"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tiny space and few rounds: the ratios mean nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of measurement; 0: 9, or 2 with --short")
    parser.add_argument("--only", default="", help=f"parts to measure, of {','.join(PARTS)}")
    parser.add_argument("--run_dir", default="", help="a finished run, for its share of time waiting for input")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # bits; prints the memory and nothing else
    arguments = parser.parse_args()
    parts = arguments.only.split(",") if arguments.only else list(PARTS)
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"--only: expected some of {','.join(PARTS)}, received {','.join(unknown)}")
    if arguments.only and "input" in parts and not arguments.run_dir:
        parser.error("--only=input: expected --run_dir")
    s = setting(arguments.short, arguments.rounds)
    if arguments.memory is not None:
        print(measure_memory(s, arguments.memory))
        return
    command = [sys.executable, __file__, *(["--short"] if arguments.short else [])]
    measures = {
        "sandwich": lambda: measure_sandwich(s),
        "mixed": lambda: measure_mixed(s),
        "lsq": lambda: measure_lsq(s, command),
        "score": lambda: measure_score(s),
        "depthwise": lambda: measure_depthwise(s),
        "count": lambda: measure_count(s),
        "input": lambda: measure_input(arguments.run_dir),
    }
    if not arguments.run_dir:
        measures.pop("input")
    print(heading(s), flush=True)
    show(row for part in parts if part in measures for row in measures[part]())


if __name__ == "__main__":
    main()
