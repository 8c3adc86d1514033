"""Compares the accuracy of subnets in the supernet with their accuracy after training alone."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from tfqnas import report
from tfqnas.arch import Arch, ArchData
from tfqnas.errors import SettingError
from tfqnas.files import append_jsonl, read_jsonl, write_atomically
from tfqnas.progress import Progress
from tfqnas.records import NotNegative, Share
from tfqnas.report import comparisons
from tfqnas.report.style import bits_label
from tfqnas.runs.analyses.agreement import AgreementData, agreement, in_words
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.runs.analyses.ranking import common_set
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.runs.run import Run
from tfqnas.runs.training import train
from tfqnas.train.stages import MIXED, Bits, TrainingStage, label

NAME = "alone"


class _Subnet(TypedDict):
    arch: ArchData
    mmacs: NotNegative
    supernet: Share
    alone: Share


class Kind(TypedDict):
    bits: Bits
    epochs: NotNegative
    subnets: list[_Subnet]
    agreement: AgreementData


KIND = Kind


class _Trained(TypedDict):
    """A line of `alone.jsonl`."""

    arch: ArchData
    bits: Bits
    epochs: NotNegative
    accuracy: Share
    test: Share


def obstacle(supernets: Supernets, config: AnalysisConfig) -> str | None:
    return None if config.alone else "`alone` says how many subnets are trained alone; it is 0"


def wants(supernets: Supernets, config: AnalysisConfig, bits: Bits) -> list[tuple[str, list[Arch]]]:
    return [("held_out", _chosen(supernets, config))] if bits == _bits(supernets, config) else []


class Training:
    """The training of one subnet from scratch with the settings of the run's largest network.

    The subnet is the only network of its space, and is quantized from the first step. The training has its own run
    directory, resumes from its last checkpoint, and uses the run's training and held-out images.

    Args:
        supernets: `Supernets`.
        arch: `Arch` of the run's space.
        bits: bit width of the subnet.
        epochs: length of the training.
    """

    def __init__(self, supernets: Supernets, arch: Arch, bits: Bits, epochs: float) -> None:
        run = supernets.run
        self.arch, self._kept = arch, supernets.directory / "alone.jsonl"
        self._key = {"arch": json.loads(arch.to_json()), "bits": bits, "epochs": epochs}
        space = run.space.pruned(arch)
        directory = supernets.directory / "alone" / f"{label(bits)}_{epochs:g}_epochs" / arch.key
        # The space is read from the directory, so its name suffices even if the run is moved.
        config = dataclasses.replace(
            run.config,
            run_dir=str(directory),
            space=space.name,
            # A mixed network has its bit widths in the space, and the unused schedule needs a float stage.
            **({"float_epochs": epochs} if bits == MIXED else {"bits": (bits,), "float_epochs": 0.0}),
            float_weights="",
            float_supernet_epochs=0.0,
            largest_epochs=epochs,
            supernet_epochs=(0.0,),
            supernet_learning_rate=(0.0,),
            distribution="none",
        )
        write_atomically(directory / "space.json", space.to_json() + "\n")
        write_atomically(directory / "config.json", config.to_json() + "\n")
        self.run = Run(config)
        self.run.dataset = run.dataset
        rate = run.config.largest_learning_rate
        self.stage = TrainingStage(f"alone_{label(bits)}_{arch.key}", bits, epochs, rate, "largest")
        self.run.stages = (self.stage,)

    @property
    def accuracy(self) -> float | None:
        """Accuracy on held-out images, None before the end of the training."""
        for record in read_jsonl(self._kept, _Trained):
            if all(record[name] == value for name, value in self._key.items()):
                return record["accuracy"]
        return None

    def train(self, progress: Progress) -> None:
        """Trains and scores the subnet, unless that has been done."""
        if self.accuracy is not None:
            progress.skip(self.stage.name)
            return
        run, name = self.run, self.stage.name
        train(run, progress, stages=[self.stage])
        network = run.networks.trained.pop(name, None) or run.networks.load(self.stage)
        accuracy, test = (run.evaluator.accuracy(network, run.space.largest(), split) for split in ("held_out", "test"))
        append_jsonl(self._kept, {**self._key, "accuracy": accuracy, "test": test})


def trainings(supernets: Supernets, config: AnalysisConfig) -> list[Training]:
    """The `Training`s for the given settings."""
    bits, epochs = _bits(supernets, config), config.alone_epochs or supernets.run.config.largest_epochs
    if not epochs:
        raise SettingError(
            "alone_epochs", "a positive number, as this run trains its largest network not alone", epochs
        )
    return [Training(supernets, arch, bits, epochs) for arch in _chosen(supernets, config)]


def result(supernets: Supernets, config: AnalysisConfig) -> dict[str, Any]:
    """Both accuracies of each subnet and their rank agreement, as JSON data."""
    bits = _bits(supernets, config)
    records = [
        {
            "arch": json.loads(training.arch.to_json()),
            "mmacs": supernets.run.costs.of(training.arch, None)["mmacs"],
            "supernet": supernets.accuracy(bits, training.arch),
            "alone": training.accuracy,
        }
        for training in trainings(supernets, config)
    ]
    first, second = ([record[key] for record in records] for key in ("supernet", "alone"))
    return {
        "bits": bits,
        "epochs": config.alone_epochs or supernets.run.config.largest_epochs,
        "subnets": records,
        "agreement": dataclasses.asdict(agreement(first, second)),
    }


def draw(result: Mapping[str, Any], path: Path) -> None:
    points = [(record["supernet"], record["alone"], record["mmacs"]) for record in result["subnets"]]
    name = bits_label(result["bits"])
    comparisons.alone_figure(points, result["agreement"], path, f"Together and alone, {name}")


def section(result: Mapping[str, Any], picture: Path) -> report.Section:
    found = result["agreement"]
    rows = [
        {**record, "key": Arch.from_json(record["arch"]).key, "more": 100 * (record["alone"] - record["supernet"])}
        for record in sorted(result["subnets"], key=lambda record: -record["alone"])
    ]
    text = _TEXT.format(
        name=bits_label(result["bits"]), epochs=f"{result['epochs']:g}", count=len(rows), tau=in_words(found)
    )
    return report.Section("Supernet or alone", [report.Picture(picture), report.Table(rows, _COLUMNS), text])


_COLUMNS = (
    ("key", "architecture"),
    ("mmacs", "million MACs", ".2f"),
    ("supernet", "in the supernet", ".2%"),
    ("alone", "trained alone", ".2%"),
    ("more", "alone more, points", "+.2f"),
)
_TEXT = (
    "Held-out accuracy at {name} in the supernet, and of the same {count} subnets trained alone from scratch for "
    "{epochs} epochs each. Kendall's tau: {tau}, in 95% of resamples of the subnets. Every subnet "
    "was trained once. A second training of the same subnet would give another accuracy, which lowers tau."
)


def _bits(supernets: Supernets, config: AnalysisConfig) -> Bits:
    return config.alone_bits or supernets.run.bit_widths[0]


def _chosen(supernets: Supernets, config: AnalysisConfig) -> list[Arch]:
    subnets = max(config.subnets, config.alone)
    return common_set(supernets.run, dataclasses.replace(config, subnets=subnets))[: config.alone]
