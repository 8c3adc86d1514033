"""Compares strategies for each layer (DQSS) with each single strategy, and the design choices of the search.

    python studies/strategies.py losses --model=runs/mobilenet.keras --dataset=fashion_mnist
    python studies/strategies.py search --model=runs/mobilenet.keras --dataset=fashion_mnist --bits=4,3
    python studies/strategies.py schedule --dataset=digits --bits=2 --seeds=0,1,2 --train_steps=300 --held_out=300
    python studies/strategies.py classification --model=runs/mobilenet.keras --dataset=fashion_mnist --mode=ptq
    python studies/strategies.py classification --report --figure=strategies.png
    python studies/strategies.py losses --short           # digits, few steps: to see that everything runs

losses          post-training search with each of the losses, everything else equal
search          effect of refinement, tuning, noise, the entropy term, BatchNorm statistics and the guard on it
schedule        quantization-aware search with other settings, such as warm-up, temperature, noise and refinement
                (these three set the defaults, so they are judged on --held_out training images, never on test images)
classification  DQSS and every single strategy with the same number of steps, post-training (ptq) or training (qat)

strategies_zoo.py is for EfficientNet-Lite0 with ImageNet weights, and strategies_restoration.py for super-resolution.

Without --model a small network is first trained (schedule) on the training images that are not held out.

Each result is a line of --results (a .jsonl file). The same command continues a study that was stopped and does not
repeat results. Every study ends with a table of means over the seeds and their standard errors.

Results: docs/results/dqss.md.
"""

import argparse
import dataclasses
import math
import pathlib
import time

import numpy as np
import results
import strategies_figure
from results import numbers

from tfqnas.data.data_config import DataConfig
from tfqnas.dqss.candidates import clipping, defaults, singles
from tfqnas.dqss.quantize_settings import LOSSES, PostTrainingSettings, TrainingSettings
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_jsonl
from tfqnas.quantizers import supports

STUDIES = ("losses", "search", "schedule", "classification")
SETTINGS = {"ptq": ("images", "steps"), "qat": ("train_steps", "learning_rate")}
KEY = ("study", "network", "mode", "bits", "strategy", "variant", "seed")
SHORT = {"steps": 3, "tune_steps": 2, "train_steps": 4, "refine_images": 16, "batch_size": 16}
# What post-training search chooses from, without PACT, which cannot be asked for where inputs are signed.
CLIPPING = clipping(defaults("inputs"))
FIXED_TOO = {"weights": defaults("weights"), "inputs": tuple(n for n in defaults("inputs") if n not in CLIPPING)}
SINGLES = singles()
VARIANTS = {
    "losses": {loss: {"loss": loss} for loss in LOSSES if loss != "luma"},  # of images
    "search": {
        "default": {},
        "no refinement": {"refine": False},
        "no tuning": {"tune_steps": 0},
        "no entropy": {"entropy": 0.0},
        "constant temperature": {"temperature_end": 1.0},
        "no noise": {"noise": 0.0},
        "no noise, no refinement": {"noise": 0.0, "refine": False},
        "BatchNorm statistics": {"recalibrate": True},
        "guard": {"guard": 2},
    },
    "schedule": {
        "default": {},
        "no warm-up": {"warm_up_share": 0.0, "search_share": 0.25},
        "early": {"warm_up_share": 0.2},
        "no opening": {"opening": 0.0},
        "no search": {"search_share": 0.0},
        "long search": {"search_share": 0.25},
        "refinement": {"refine_in_training": True},
        "opening 1": {"opening": 1.0},
        "quick coefficients": {"coefficient_rate": 0.2},
        "constant temperature": {"temperature_end": 1.0},
        "low temperature": {"temperature_start": 0.1},
        "no entropy": {"entropy": 0.0},
        "no noise": {"noise": 0.0},
        "no distillation": {"distill": 0.0},
        "moving averages": {"norm_images": 0},
        "fixed ranges too": FIXED_TOO,
        **{f"single {name}": {"weights": (pair[0],), "inputs": (pair[1],)} for name, pair in SINGLES.items()},
    },
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a study."""

    study: str
    network: str
    mode: str
    bits: int
    strategy: str
    variant: str
    seed: int

    @property
    def key(self):
        return tuple(getattr(self, name) for name in KEY)


def cases(arguments):
    """All of a study, the seeds outermost: an early look has all rows."""
    mode = {"schedule": "qat", "losses": "ptq", "search": "ptq"}.get(arguments.study, arguments.mode)
    compared = arguments.strategies or ["dqss", *SINGLES]
    variants = VARIANTS.get(arguments.study)
    wanted = [name for name in variants or () if name in (arguments.variants or variants)]
    if unknown := sorted(set(arguments.variants or ()) - set(variants or ())):
        raise UserError(f"--variants: expected some of {', '.join(variants or ())}, received {', '.join(unknown)}")
    named = [("dqss", variant) for variant in wanted] if variants else [(name, "") for name in compared]
    return [
        Case(arguments.study, network_name(arguments), mode, bits, *pair, seed)
        for seed in arguments.seeds
        for bits in arguments.bits
        for pair in named
    ]


def network_name(arguments):
    return pathlib.Path(arguments.model or ("tiny" if arguments.short else "small")).stem


def settings_of(case, arguments, signed=False):
    """The settings of a case, or None where its strategy does not exist at this bit width.

    Args:
        signed: whether inputs lie below zero: those of strategies that clip there have LSQ instead.
    """
    values = {"bits": case.bits, "seed": case.seed, "deployable": arguments.deployable}
    if case.strategy != "dqss":
        pair = dict(zip(("weights", "inputs"), SINGLES[case.strategy], strict=True))
        if signed and clipping([pair["inputs"]]):
            if case.strategy == "pact":  # of inputs alone
                return None
            pair["inputs"] = "lsq"
        if not all(supports(name, case.bits, role) for role, name in pair.items()):
            return None
        values |= {role: (name,) for role, name in pair.items()}
    own = (
        {"steps": arguments.steps, "tune_steps": arguments.steps // 3}
        if case.mode == "ptq"
        else {"train_steps": arguments.train_steps, "learning_rate": arguments.learning_rate}
    )
    if case.study in ("losses", "search"):  # what the search itself finds
        own["guard"] = 0
    values |= own | VARIANTS.get(case.study, {}).get(case.variant, {})
    cls = PostTrainingSettings if case.mode == "ptq" else TrainingSettings
    if arguments.short:
        known = {field.name for field in dataclasses.fields(cls)}
        values |= {name: value for name, value in SHORT.items() if name in known and name not in ("tune_steps",)}
    config = cls(**values)
    return config.alone(*pair.values()) if case.mode == "ptq" and case.strategy != "dqss" else config


def prepared(arguments):
    """`(float model, task)` of a study."""
    from tfqnas.runs import model_files
    from tfqnas.tasks import examples_of

    model = model_files.load_model(arguments.model) if arguments.model else tiny() if arguments.short else small()
    task = examples_of(model, DataConfig(dataset=arguments.dataset, data_dir=arguments.data_dir))
    if arguments.study in VARIANTS:
        task = on_held_out(task, arguments.held_out)
    if not arguments.model and not arguments.short:
        train(model, task)
    return model, task


def on_held_out(task, count):
    """A task of classification whose test images are some of the training images, which are taken from those."""
    order = np.random.default_rng(8).permutation(len(task.train))
    task.test, task.train = task.train.take(order[:count]), task.train.take(order[count:])
    return task


def tiny():
    """A network for digits, not trained: for --short."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.ReLU()]
    layers += [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([*layers, keras.layers.Dense(10)], name="tiny")


def small():
    """A network for digits of 6,000 parameters, not trained."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = images = keras.Input((8, 8, 1))
    for number, (kind, arguments) in enumerate(
        (
            (layers.Conv2D, (16, 3)),
            (layers.DepthwiseConv2D, (3,)),
            (layers.Conv2D, (32, 1)),
            (layers.DepthwiseConv2D, (3,)),
            (layers.Conv2D, (64, 1)),
        )
    ):
        x = kind(*arguments, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x))
    x = layers.Dense(32, activation="relu", name="hidden")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(images, layers.Dense(10, name="classes")(x), name="small")


def train(model, task, steps=1500):
    """Float training by Adam, in place."""
    import keras

    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.005, steps)), loss)
    model.fit(task.batches(64, 0, steps), steps_per_epoch=steps, verbose=0)


def computed(case, config, model, task, arguments):
    """The figures of one case."""
    began = time.perf_counter()
    result = results.searched(model, task, config, arguments.images)
    took = time.perf_counter() - began
    figures = task.evaluate(result.model, model)
    figures["calibration loss"] = result.losses["final"] if case.mode == "ptq" else result.losses["train"]
    figures["seconds"] = took
    return {"figures": figures, **results.chosen(result)}


def run(arguments):
    """Computes what is missing."""
    from tfqnas.dqss.candidates import signed_inputs
    from tfqnas.graph.rewriting import quantize

    rows = {tuple(row[name] for name in KEY): row for row in read_jsonl(arguments.results)}
    for case in cases(arguments):
        results.refuse_other_settings(
            [rows[case.key]] if case.key in rows else [], settings_in(case, arguments), arguments.results
        )
    done = set(rows)
    wanted = [case for case in cases(arguments) if case.key not in done]
    if not any(settings_of(case, arguments) for case in wanted):
        return
    model, task = prepared(arguments)
    signed = bool(signed_inputs(quantize(model)))  # of a plain copy, with layers in the place of operations
    missing = [(case, config) for case in wanted if (config := settings_of(case, arguments, signed)) is not None]
    if not missing:
        return
    float_case = Case(arguments.study, network_name(arguments), missing[0][0].mode, 32, "float", "", 0)
    if float_case.key not in done:
        figures = task.evaluate(model)
        append_jsonl(arguments.results, {**dataclasses.asdict(float_case), "figures": figures})
    for number, (case, config) in enumerate(missing, 1):
        try:
            row = computed(case, config, model, task, arguments)
        except UserError as error:  # such as a training that diverges: a result, too
            row = {"figures": {}, "error": str(error)}
        append_jsonl(arguments.results, {**dataclasses.asdict(case), **row, "settings": settings_in(case, arguments)})
        figures = ", ".join(f"{name} {value:.4g}" for name, value in row["figures"].items())
        words = " ".join(
            filter(None, (case.mode, f"{case.bits} bits", case.strategy, case.variant, f"seed {case.seed}"))
        )
        print(f"[{number}/{len(missing)}] {words}: {figures or row['error']}", flush=True)


def settings_in(case, arguments):
    """What a result depends on besides its case, JSON data."""
    return {name: getattr(arguments, name) for name in SETTINGS[case.mode]}


def summary(rows):
    """`[(group, {figure: (mean, standard error, count)})]`; a group is all of the key but the seed, in order."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in KEY[:-1]), []).append(row["figures"])
    found = []
    for group, figures in groups.items():
        names = dict.fromkeys(name for one in figures for name in one)
        own = {}
        for name in names:
            values = np.array([one[name] for one in figures if name in one])
            error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
            own[name] = (float(values.mean()), float(error), len(values))
        found.append((group, own))
    return found


def show(arguments):
    """Prints the table of a study, and draws its figure."""
    rows = [row for row in read_jsonl(arguments.results) if row["study"] == arguments.study]
    if not rows:
        raise UserError(f"--results: {arguments.results} has nothing of {arguments.study} yet")
    found = summary(rows)
    names = list(dict.fromkeys(name for _, own in found for name in own))
    print("| network | mode | bits | strategy | variant | n | " + " | ".join(names) + " |")
    print("|---" * (6 + len(names)) + "|")
    for (_, network, mode, bits, strategy, variant), own in found:
        cells = [_cell(own[name]) if name in own else "-" for name in names]
        count = max((number for _, _, number in own.values()), default=0)
        print(
            f"| {network} | {mode} | {'float' if bits == 32 else bits} | {strategy} | {variant} | {count} | "
            + " | ".join(cells)
            + " |"
        )
    for words in replaced_at_ends(found):
        print(words)
    if arguments.figure:
        known = {name for _, own in found for name in own}
        metric = arguments.metric or next(name for name in ("accuracy", "agreement") if name in known)
        strategies_figure.draw(found, metric, arguments.figure)
        print(f"written: {arguments.figure}")


def replaced_at_ends(found):
    """Lines that say which rows have LSQ in their first and last layers, since the strategy does not exist there."""
    lines, end_bits = [], PostTrainingSettings().end_bits
    for strategy in dict.fromkeys(group[4] for group, _ in found if group[4] in SINGLES):
        pair = zip(("weights", "inputs"), SINGLES[strategy], strict=True)
        roles = [role for role, name in pair if not supports(name, end_bits, role)]
        if roles:
            lines.append(
                f"{strategy}: does not exist at {end_bits} bits for {' and '.join(roles)}; the first and last "
                "layers have LSQ there"
            )
    return lines


def _cell(figure):
    mean, error, count = figure
    return f"{mean:.4g}" + (f" ± {error:.2g}" if count > 1 else "")


def parsed(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--model", default="", help="a float .keras file")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--mode", choices=["ptq", "qat"], default="ptq")
    parser.add_argument("--bits", type=numbers, default=[4, 3, 2])
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--strategies", type=lambda text: text.split(","), default=None, help="by default dqss and all")
    parser.add_argument(
        "--variants", type=lambda text: text.split(","), default=None, help="of losses, search, schedule"
    )
    parser.add_argument("--held_out", type=int, default=5000, help="training images that judge those")
    parser.add_argument("--deployable", action="store_true", help="dqss chooses among deployable strategies only")
    parser.add_argument("--images", type=int, default=512, help="of the calibration")
    parser.add_argument("--steps", type=int, default=300, help="of ptq; a third more for tuning")
    parser.add_argument("--train_steps", type=int, default=2000, help="of qat")
    parser.add_argument("--learning_rate", type=float, default=0.01, help="of qat")
    parser.add_argument("--results", default="runs/strategies.jsonl")
    parser.add_argument("--report", action="store_true", help="the table of what is there, nothing is computed")
    parser.add_argument("--figure", default="", help="a .png to draw")
    parser.add_argument("--metric", default="", help="of the figure; by default accuracy or agreement")
    parser.add_argument(
        "--short", action="store_true", help="few steps, two strategies, one seed: the figures mean nothing"
    )
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.strategies or ()) - {"dqss", *SINGLES}:
        parser.error(f"--strategies: expected some of dqss,{','.join(SINGLES)}, received {','.join(sorted(unknown))}")
    if arguments.short:
        arguments.seeds, arguments.bits, arguments.images, arguments.held_out = [0], arguments.bits[:1], 32, 100
        arguments.strategies = arguments.strategies or ["dqss", "lsq"]
    elif not arguments.model and arguments.study != "schedule" and not arguments.report:
        parser.error("--model: expected a float .keras file, see tools/train_float.py")
    return arguments


def main(argv=None):
    results.study(parsed(argv), run, show)


if __name__ == "__main__":
    main()
