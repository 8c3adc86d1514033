"""Quantizes a trained float model, and finds for each layer the strategy that suits it best (DQSS).

    tfqnas quantize --model=runs/mobilenet.keras --dataset=fashion_mnist --bits=4 --output=runs/mobilenet_4
    tfqnas quantize --mode=qat --model=runs/mobilenet.keras --dataset=fashion_mnist --bits=2 \\
        --output=runs/mobilenet_2
    tfqnas quantize --model=zoo:efficientnet_lite0 --dataset=photos --bits=6 --output=runs/lite0_6

--mode=ptq (post-training) needs images and no labels, and takes minutes. --mode=qat trains the weights too. With one
name for --weights and one for --inputs nothing is searched. A qat that was stopped continues from its last checkpoint
when the same command is given again; a ptq begins anew.

Writes model.keras, strategies.json, strategies.csv, strategies.svg and .png (which strategy each layer has, and how the
coefficients moved) in --output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfqnas.cli import command
from tfqnas.data.data_config import DataConfig
from tfqnas.dqss.quantize_settings import (
    PostTrainingSettings,
    QuantizeSettings,
    SearchSettings,
    TrainingSettings,
    part_of,
)
from tfqnas.progress import Part, Progress
from tfqnas.settings import plain

if TYPE_CHECKING:
    import keras

    from tfqnas.dqss.directory import Directory
    from tfqnas.dqss.result import DqssResult
    from tfqnas.dqss.tasks import DqssTask

FLAGS = command.Flags()
MODE = FLAGS.enum("mode", "ptq", ["ptq", "qat"], "post-training, or quantization-aware training")
MODEL = FLAGS.string("model", None, "a .keras file, or zoo:NAME, such as zoo:efficientnet_lite0", required=True)
OUTPUT = FLAGS.string("output", None, "directory for the results", required=True)
IMAGES = FLAGS.integer("images", 512, "training images for the calibration of ptq", lower_bound=1)
command.define_flags(DataConfig, FLAGS)
command.define_flags(QuantizeSettings, FLAGS)


def main() -> None:
    data = command.from_flags(DataConfig, FLAGS)
    kinds: dict[str, type[SearchSettings]] = {"ptq": PostTrainingSettings, "qat": TrainingSettings}
    refuse_of_other_mode(kinds)
    config = part_of(command.from_flags(QuantizeSettings, FLAGS), kinds[MODE.value])
    command.import_tensorflow()
    from tfqnas.dqss import task_choice
    from tfqnas.dqss.candidates import mixture_for
    from tfqnas.dqss.directory import Directory
    from tfqnas.dqss.training import fingerprint

    for role in ("weights", "inputs"):
        mixture_for(config, role)  # says what is wrong with the names before anything is loaded
    model = loaded(MODEL.value)
    settings = {"mode": MODE.value, **fixed(data), **fixed(config)}
    if MODE.value == "ptq":
        settings["images"] = IMAGES.value
    directory = Directory(OUTPUT.value, settings, MODEL.value, fingerprint(model))
    if MODE.value == "qat":
        command.keeps(OUTPUT.value)
    if not directory.finished:
        from tfqnas.zoo.upscaling import score

        task = task_choice.task_of(model, data, score)
        if task.metric == "psnr":
            refuse_of_classifiers()
        reference: Any = task.outputs(model)
        result = searched(model, task, config, directory)
        metrics = {"float": task.scores(reference), "quantized": task.evaluate(result.model, reference)}
        directory.write(result, metrics)
    show(directory, data, config)


def fixed(config: DataConfig | SearchSettings) -> dict[str, Any]:
    """The settings that the results depend on."""
    free = {field.name for field in dataclasses.fields(config) if not field.metadata["fixed"]}
    return {name: value for name, value in plain(config).items() if name not in free}


def refuse_of_other_mode(kinds: Mapping[str, type[SearchSettings]]) -> None:
    """Raises UserError for a flag that is given and that only the other mode has."""
    names = {mode: command.fields_of(kind) for mode, kind in kinds.items()}
    names["ptq"].append(IMAGES.name)
    for mode in set(kinds) - {MODE.value}:
        own = set(names[mode]) - set(names[MODE.value])
        command.refuse(sorted(own), f"with `mode={MODE.value}`", f"`mode={mode}`")


def refuse_of_classifiers() -> None:
    """Raises UserError for a flag that is given and that super-resolution does not read."""
    command.refuse(["flip", "shift"], "on photos, whose patches are always turned and mirrored", "classifiers")
    command.refuse(["norm_images"], "on super-resolution, where BatchNorm keeps its statistics", "classifiers")


def loaded(name: str) -> keras.Model:
    from tfqnas.runs import model_files

    if not name.startswith("zoo:"):
        return model_files.load_model(name)
    from tfqnas import zoo

    return zoo.load(name.removeprefix("zoo:"))


def searched(model: keras.Model, task: DqssTask, config: Any, directory: Directory) -> DqssResult:
    """The `DqssResult`, with progress."""
    from tfqnas.dqss.candidates import names_for
    from tfqnas.dqss.post_training import search_post_training
    from tfqnas.dqss.training import search_training

    search = any(len(names_for(config, role)) > 1 for role in ("weights", "inputs"))
    with Shown(work(config, search)) as shown:
        if MODE.value == "ptq":
            return search_post_training(model, task.calibration(IMAGES.value, config.seed), config, shown)
        return search_training(model, task, config, shown, directory.checkpoints)


class Shown(contextlib.ExitStack):
    """What a search calls with each step: the parts of a `Progress`, each open until the next one begins."""

    def __init__(self, parts: Sequence[tuple[str, float]]) -> None:
        super().__init__()
        self.names, self.progress = [name for name, _ in parts], Progress(parts, stream=sys.stderr)
        self.part: Part | None = None

    def __call__(self, name: str, share: float, text: str) -> None:
        if name not in self.names:  # without steps, it is no work
            return
        if self.part is None or self.part.name != name:
            if self.part is None:
                for earlier in self.names[: self.names.index(name)]:
                    self.progress.skip(earlier)  # done before the checkpoint that it goes on from
            self.close()
            self.part = self.enter_context(self.progress.part(name, share))
        self.part.update(share, text)


def work(config: Any, search: bool) -> list[tuple[str, float]]:
    """Parts and their relative work: a step of a mixture takes about twice the time of a plain one."""
    if MODE.value == "qat":
        warm_up, first = (config.train_steps * share * search for share in (config.warm_up_share, config.search_share))
        trials = 100 * config.refine_in_training * search  # of each tensor some other strategies on some hundred images
        parts = {
            "warm-up": warm_up,
            "search": 2 * first,
            "choose": trials,
            "train": config.train_steps - warm_up - first,
        }
    else:
        tune = config.tune_steps
        guard = (config.guard + 4) * (config.steps + tune) * bool(config.guard)  # of models without mixtures
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


def show(directory: Directory, data: DataConfig, config: SearchSettings) -> None:
    """Prints the table, the figures and what to do next."""
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
        print(f"{who}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    if results["searched"]:
        print(how(results))
    for line in left_out(results, config):
        print(line)
    print(f"written: {directory.path}/model.keras, strategies.json, .csv, .svg, .png")
    refused = [choice for choice in choices if not choice["deployable"]]
    if refused:
        print(
            f"warning: no integer model computes the strategies of {len(refused)} tensors, so an export would be "
            "refused; --deployable leaves such strategies out from the start. Of those that could be exported, with "
            "the largest coefficient:"
        )
        for choice in refused:
            print(f"  {choice['layer']}, {choice['role']}: {choice['strategy']}; {best_uniform(choice)}")
    else:
        print(
            f"next: tfqnas export --model={directory.path}/model.keras --dataset={data.dataset} --output=MODEL.tflite"
        )


def how(results: Mapping[str, Any]) -> str:
    """A line on what chose the strategies; coefficients are those at the end of the search in any case."""
    losses, training = results["losses"], MODE.value == "qat"
    single = "the strategy of the warm-up" if training else "the best single strategy"
    if results["kept"]:
        return (
            f"chosen: {single}, {results['kept']}: nothing that the search found has a smaller loss on the images "
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
    """Lines that name the tensors which a strategy was no candidate for, since they lie below zero."""
    from tfqnas.dqss.candidates import clipping, names_for

    for name in clipping(names_for(config, "inputs")):
        found = [layer for layer, role, names in results["searched"] if role == "inputs" and name not in names]
        if found:
            yield f"{name} clips at zero, so it was no candidate for the inputs of {', '.join(found)}, which lie below"


def replaced(choices: Sequence[Mapping[str, Any]], config: SearchSettings) -> Iterator[str]:
    """Lines that name the tensors at the ends whose one strategy does not exist at their bit width: LSQ is there."""
    from tfqnas.dqss.candidates import names_for

    for role in ("weights", "inputs"):
        names = names_for(config, role)
        if found := [c["layer"] for c in choices if c["role"] == role and c["strategy"] not in names]:
            yield (
                f"{role} of {', '.join(found)}: {', '.join(names)} does not exist at {config.end_bits} bits, lsq is "
                "there"
            )
