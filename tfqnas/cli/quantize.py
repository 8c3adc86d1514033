"""Quantizes a trained float model, with the strategy for each layer that suits it best (DQSS).

    tfqnas quantize --model=runs/mobilenet.keras --dataset=fashion_mnist --bits=4 --output=runs/mobilenet_4
    tfqnas quantize --mode=qat --model=runs/mobilenet.keras --dataset=fashion_mnist --bits=2 \\
        --output=runs/mobilenet_2
    tfqnas quantize --model=zoo:efficientnet_lite0 --dataset=photos --bits=6 --output=runs/lite0_6

--mode=ptq (post-training) needs images without labels, and takes minutes. --mode=qat also trains the weights. With one
name for --weights and one for --inputs nothing is searched. If the same command is given again after a stop, qat
continues from its last checkpoint and ptq starts again.

The command writes to --output the files model.keras, strategies.json and strategies.csv, and a picture of each layer's
strategy and of the coefficients over time as strategies.svg and .png.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfqnas.cli import command
from tfqnas.dqss.quantize_settings import (
    PostTrainingSettings,
    QuantizeSettings,
    SearchSettings,
    TrainingSettings,
    part_of,
)
from tfqnas.progress import Part, Progress
from tfqnas.settings import plain
from tfqnas.tasks import Examples, TaskConfig, examples_of

if TYPE_CHECKING:
    import keras

    from tfqnas.dqss.directory import Directory
    from tfqnas.dqss.result import DqssResult

FLAGS = command.Flags()
MODE = FLAGS.enum("mode", "ptq", ["ptq", "qat"], "post-training, or quantization-aware training")
MODEL = FLAGS.string("model", None, "a .keras file, or zoo:NAME, such as zoo:efficientnet_lite0", required=True)
OUTPUT = FLAGS.string("output", None, "directory for the results", required=True)
IMAGES = FLAGS.integer("images", 512, "training images for the calibration of ptq", lower_bound=1)
command.define_flags(TaskConfig, FLAGS)
command.define_flags(QuantizeSettings, FLAGS)


def main() -> None:
    data = command.from_flags(TaskConfig, FLAGS)
    kinds: dict[str, type[SearchSettings]] = {"ptq": PostTrainingSettings, "qat": TrainingSettings}
    refuse_of_other_mode(kinds)
    config = part_of(command.from_flags(QuantizeSettings, FLAGS), kinds[MODE.value])
    command.import_tensorflow()
    from tfqnas.dqss.candidates import mixture_for
    from tfqnas.dqss.directory import Directory
    from tfqnas.dqss.training import fingerprint
    from tfqnas.runs import model_files

    for role in ("weights", "inputs"):
        mixture_for(config, role)  # reports wrong names before anything is loaded
    model = loaded(MODEL.value)
    known = {} if MODEL.value.startswith("zoo:") else model_files.model_record(MODEL.value, model)
    if "evaluation_crop" in known and not FLAGS["evaluation_crop"].present:
        data = dataclasses.replace(data, evaluation_crop=known["evaluation_crop"])
    settings = {"mode": MODE.value, **fixed(data), **fixed(config)}
    if MODE.value == "ptq":
        settings["images"] = IMAGES.value
    command.writes(OUTPUT.value, "output")
    directory = Directory(OUTPUT.value, settings, MODEL.value, fingerprint(model))
    if MODE.value == "qat":
        command.keeps(OUTPUT.value)
    if not directory.finished:
        from tfqnas.zoo.upscaling import score

        examples = examples_of(model, data, score=score, class_names=known.get("class_names"))
        refuse_without_effect(examples)
        result = searched(model, examples, config, directory)
        metrics = {"float": examples.evaluate(model), "quantized": examples.evaluate(result.model, model)}
        names = {"class_names": known["class_names"]} if "class_names" in known else {}
        directory.write(result, metrics, {"evaluation_crop": data.evaluation_crop, **names})
    show(directory, data, config)


def fixed(config: TaskConfig | SearchSettings) -> dict[str, Any]:
    """The settings that the results depend on, as JSON data."""
    free = {field.name for field in dataclasses.fields(config) if not field.metadata["fixed"]}
    return {name: value for name, value in plain(config).items() if name not in free}


def refuse_of_other_mode(kinds: Mapping[str, type[SearchSettings]]) -> None:
    """Raises UserError for a given flag that only the other mode has."""
    names = {mode: command.fields_of(kind) for mode, kind in kinds.items()}
    names["ptq"].append(IMAGES.name)
    for mode in set(kinds) - {MODE.value}:
        own = set(names[mode]) - set(names[MODE.value])
        command.refuse(sorted(own), f"with `mode={MODE.value}`", f"`mode={mode}`")


def refuse_without_effect(examples: Examples) -> None:
    """Raises UserError for a given flag that this task does not read."""
    for names, why, others in examples.unread:
        command.refuse(names, why, others)


def loaded(name: str) -> keras.Model:
    from tfqnas.runs import model_files

    if not name.startswith("zoo:"):
        return model_files.load_model(name)
    from tfqnas import zoo

    return zoo.load(name.removeprefix("zoo:"))


def searched(model: keras.Model, examples: Examples, config: Any, directory: Directory) -> DqssResult:
    """Searches with progress on the terminal, and returns the `DqssResult`."""
    from tfqnas.dqss.candidates import names_for
    from tfqnas.dqss.post_training import search_post_training
    from tfqnas.dqss.training import search_training

    search = any(len(names_for(config, role)) > 1 for role in ("weights", "inputs"))
    with Shown(work(config, search)) as shown:
        if MODE.value == "ptq":
            images = examples.calibration(IMAGES.value, config.seed)
            return search_post_training(model, images, config, shown, examples.task)
        return search_training(model, examples, config, shown, directory.checkpoints)


class Shown(contextlib.ExitStack):
    """A function for a search to call with each step, which shows the parts of a `Progress` one after the other."""

    def __init__(self, parts: Sequence[tuple[str, float]]) -> None:
        super().__init__()
        self.names, self.progress = [name for name, _ in parts], Progress(parts, stream=sys.stderr)
        self.part: Part | None = None

    def __call__(self, name: str, share: float, text: str) -> None:
        if name not in self.names:  # a part without steps
            return
        if self.part is None or self.part.name != name:
            if self.part is None:
                for earlier in self.names[: self.names.index(name)]:
                    self.progress.skip(earlier)  # completed before the checkpoint
            self.close()
            self.part = self.enter_context(self.progress.part(name, share))
        self.part.update(share, text)


def work(config: Any, search: bool) -> list[tuple[str, float]]:
    """Parts with their relative work. A step of a mixture takes about twice the time of a plain one."""
    if MODE.value == "qat":
        warm_up, first = (config.train_steps * share * search for share in (config.warm_up_share, config.search_share))
        trials = 100 * config.refine_in_training * search  # some other strategies of each tensor on some hundred images
        parts = {
            "warm-up": warm_up,
            "search": 2 * first,
            "choose": trials,
            "train": config.train_steps - warm_up - first,
        }
    else:
        tune = config.tune_steps
        guard = (config.guard + 4) * (config.steps + tune) * bool(config.guard)  # models without mixtures
        longer = config.learned_steps * bool(config.guard)
        parts = (
            {
                "guard": guard,
                "longer": longer,
                "search": 2 * config.steps,
                "tune": tune,
                "refine": 200 * config.refine,
                "final": tune * config.refine,
            }
            if search
            else {"tune": config.steps + tune}
        )
    return [(name, amount) for name, amount in parts.items() if amount]


def show(directory: Directory, data: TaskConfig, config: SearchSettings) -> None:
    """Prints the table and the results, and the next command; draws the figure."""
    from tfqnas import report
    from tfqnas.dqss.candidates import best_uniform
    from tfqnas.report.strategies import strategies_figure

    results = directory.results
    choices = results["choices"]
    columns = ("layer", "role", "bits", "strategy", ("coefficient", "coefficient", ".3f"), "best_other")
    print(report.table(choices, columns))
    for line in replaced(choices, config):
        print(line)
    title = f"Quantization strategies of {MODEL.value.rpartition('/')[2]}, {MODE.value}"
    strategies_figure(results, directory.path / "strategies", title)
    print()
    for who, values in results["metrics"].items():
        if not values:  # of raw outputs the float model has no score
            continue
        numbers = {name: "not finite" if value is None else f"{value:.4f}" for name, value in values.items()}
        print(f"{who}: " + ", ".join(f"{name} {number}" for name, number in numbers.items()))
    if results["searched"]:
        print(how(results))
    for line in left_out(results, config):
        print(line)
    print(f"written: {directory.path}/model.keras, strategies.json, .csv, .svg, .png")
    refused = [choice for choice in choices if not choice["deployable"]]
    if refused:
        print(
            f"warning: no integer model computes the strategies of {len(refused)} tensors, so an export would be "
            "refused; --deployable leaves such strategies out from the start. The strategy of each such tensor, and "
            "its best candidate that could be exported:"
        )
        for choice in refused:
            print(f"  {choice['layer']}, {choice['role']}: {choice['strategy']}; {best_uniform(choice)}")
    else:
        task = f" --task={data.task}" if data.task else ""
        print(
            f"next: tfqnas export --model={directory.path}/model.keras --dataset={data.dataset}{task} "
            "--output=MODEL.tflite"
        )


def how(results: Mapping[str, Any]) -> str:
    """A line on how the strategies were chosen."""
    losses, training = results["losses"], MODE.value == "qat"
    single = "the strategy of the warm-up" if training else "the best single strategy"
    if results["kept"]:
        return (
            f"chosen: {single}, {results['kept']}; no result of the search has a smaller loss on the images "
            f"for choices ({losses['single' if training else 'final']:.4g})"
        )
    way = {
        "coefficients": "by the largest coefficients",
        "refinement": "by trying others than those with the largest coefficients, tensor by tensor",
    }[results["way"]]
    alone = [losses[name] for name in ("single", "single, longer") if name in losses]
    than = f", that of {single} {min(alone):.4g}" if alone else ""
    return f"chosen: {way}; the loss on the images for choices is {losses['chosen' if training else 'final']:.4g}{than}"


def left_out(results: Mapping[str, Any], config: SearchSettings) -> Iterator[str]:
    """Lines on strategies that were no candidates for some inputs, since these have negative values."""
    from tfqnas.dqss.candidates import clipping, names_for

    for name in clipping(names_for(config, "inputs")):
        found = [layer for layer, role, names in results["searched"] if role == "inputs" and name not in names]
        if found:
            yield f"{name} clips at zero, so it was no candidate for the negative inputs of {', '.join(found)}"


def replaced(choices: Sequence[Mapping[str, Any]], config: SearchSettings) -> Iterator[str]:
    """Lines on tensors at the ends that have LSQ, since their only strategy does not exist at their bit width."""
    from tfqnas.dqss.candidates import names_for

    for role in ("weights", "inputs"):
        names = names_for(config, role)
        if found := [c["layer"] for c in choices if c["role"] == role and c["strategy"] not in names]:
            yield (
                f"{role} of {', '.join(found)}: {', '.join(names)} does not exist at {config.end_bits} bits, so lsq "
                "takes its place"
            )
