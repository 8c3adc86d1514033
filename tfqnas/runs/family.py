"""From trained supernets to a family of models: search, extraction, the table and the picture."""

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas import report
from tfqnas.arch import Arch
from tfqnas.data.images import EvaluationImages
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_json, read_jsonl, write_atomically, write_json
from tfqnas.progress import Part, Progress
from tfqnas.quantizers import BatchQuant, quantizers_of
from tfqnas.runs import run_report
from tfqnas.runs.analyses import analysing
from tfqnas.runs.model_files import load_model, predict
from tfqnas.runs.run import Run
from tfqnas.runs.searching import FrontSearch, front_in
from tfqnas.search import ParetoFront, Result
from tfqnas.search.search_config import SearchConfig
from tfqnas.subnet import extract, snap_zero_points
from tfqnas.supernet import Supernet
from tfqnas.train.calibrate import accuracy
from tfqnas.train.stages import Bits, Stage, label
from tfqnas.train.subnet_net import SubnetNet


class Family:
    """The search results and models of a run.

    Args:
        run: `Run` with trained supernets.
        config: `SearchConfig`.
        export: None, or a callable that makes the integer file of an extracted model: `export(run, record, model)`
            returns what it adds to the record.
    """

    def __init__(
        self,
        run: Run,
        config: SearchConfig,
        export: Callable[[Run, dict[str, Any], keras.Model], dict[str, Any]] | None = None,
    ) -> None:
        self.run, self.config, self.export = run, config, export
        self._searches: dict[Bits, FrontSearch] = {}

    def directory(self, bits: Bits) -> pathlib.Path:
        return self.run.directory / "search" / label(bits)

    def search_work(self, bits: Bits) -> float:
        """Relative work of one search, in the unit of `Run.work`."""
        run = self.run
        recalibration = min(run.config.recalibration_images, len(run.dataset.train))
        ends = [run.costs.of(arch, None)["mmacs"] for arch in (run.space.smallest(), run.space.largest())]
        images = recalibration + len(run.dataset.held_out)
        return self.front_search(bits).budget * images * sum(ends) / 2

    def search(self, bits: Bits, part: Part, supernet: Supernet | None = None) -> ParetoFront:
        """Searches a supernet and returns its `ParetoFront`; goes on where it was stopped."""
        part.update(0.0, "loading the supernet")
        return self.front_search(bits)(part, supernet or self.run.networks.supernet(bits))

    def front_search(self, bits: Bits) -> FrontSearch:
        """The `FrontSearch` of a bit width, made when it is first asked for: its limits may not suit the others."""
        if bits not in self._searches:
            self._searches[bits] = self._new_search(bits)
        return self._searches[bits]

    def _new_search(self, bits: Bits) -> FrontSearch:
        return FrontSearch(self.run, self.config, bits, self.directory(bits))

    def extract(self, bits: Bits, part: Part, supernet: Supernet | None = None) -> list[dict[str, Any]]:
        """Saves the largest network and subnets of the front as `.keras`; reloads and compares each on test.

        Returns:
            One record a model: arch, bits, costs, what the search's latency table predicts and its device, test
            accuracy before (in the supernet) and after extraction, file; and what `export` adds.
        """
        run = self.run
        supernet = supernet or run.networks.supernet(bits)
        front = self.front(bits)
        chosen = {f"{label(bits)}_largest": run.space.largest()}
        chosen |= {f"{label(bits)}_{i}": front.rows[i].arch for i in along(front.rows, self.config.models)}
        search = self.front_search(bits)
        records: list[dict[str, Any]] = []
        made: dict[Arch, dict[str, Any]] = {}
        for done, (name, arch) in enumerate(chosen.items()):
            part.update(done / len(chosen), name)
            path = run.directory / "models" / name
            if arch in made:  # the most accurate often is the largest
                records.append(_copied(run, made[arch], path))
                continue
            record, model = extract_model(run, supernet, arch, path, search.predicted(arch))
            records.append(record | (self.export(run, record, model) if self.export else {}))
            made[arch] = records[-1]
        write_json(self.directory(bits) / "models.json", records)
        return records

    def front(self, bits: Bits) -> ParetoFront:
        front = front_in(self.directory(bits))
        if front is None:
            raise UserError(
                f"{self.directory(bits)}: no front, run tools/search.py --run_dir={self.run.directory} --bits={bits}"
            )
        return front

    def progress(self, stages: Iterable[Stage] = (), all_bits: Iterable[Bits] | None = None) -> Progress:
        """A `Progress` with parts for training stages, then for search and extraction of bit widths, by default all."""
        parts = [(stage.name, self.run.costs.work(stage)) for stage in stages]
        for bits in self.run.bit_widths if all_bits is None else all_bits:
            parts.append((f"search_{label(bits)}", self.search_work(bits)))
            parts.append((f"extract_{label(bits)}", self.search_work(bits) / (4 if self.export else 8)))
        return Progress(parts)

    def make(self, all_bits: Iterable[Bits], progress: Progress) -> None:
        """Searches the supernets of these bit widths, extracts subnets of the fronts and writes the report."""
        for bits in all_bits:
            supernet = self.run.networks.supernet(bits)
            with progress.part(f"search_{label(bits)}") as part:
                self.search(bits, part, supernet)
                analysing.transfer(self.run, bits, part, supernet)
            with progress.part(f"extract_{label(bits)}") as part:
                self.extract(bits, part, supernet)
        analysing.conclude(self.run)
        self.report()

    def summary(self) -> str:
        """The table of all extracted models, and where the files are."""
        where = f"pictures and settings: {self.run.directory}/report.html, models: {self.run.directory}/models"
        records = self.models()
        refused = [f"no .tflite of {r['model']}: {r['tflite_refused']}\n" for r in records if "tflite_refused" in r]
        columns, note = run_report.columns(records), run_report.note(records)
        return f"\n{report.table(records, columns)}\n\n{note}\n{''.join(refused)}{where}"

    def models(self) -> list[dict[str, Any]]:
        """The records of all extracted models, then of finetuned ones."""
        paths = [self.directory(bits) / "models.json" for bits in self.run.bit_widths]
        extracted = [record for path in paths if path.exists() for record in read_json(path)]
        return extracted + list({record["model"]: record for record in read_jsonl(self._finetuned)}.values())

    def add_finetuned(self, record: Mapping[str, Any]) -> None:
        """Keeps the record of a finetuned model, in `finetuned.jsonl`, and writes the report with it."""
        append_jsonl(self._finetuned, record)
        self.report()

    @property
    def _finetuned(self) -> pathlib.Path:
        return self.run.directory / "finetuned.jsonl"

    def report(self) -> None:
        """Writes `pareto.png`, `training.png` and `report.html`."""
        run_report.write(self.run, {bits: self.directory(bits) for bits in self.run.bit_widths}, self.models())


def extract_model(
    run: Run, supernet: Supernet | SubnetNet, arch: Arch, path: pathlib.Path, more: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], keras.Model]:
    """Extracts a subnet to `path`.keras and reloads it. Returns its record, also in `path`.json, and that model.

    Args:
        supernet: `Supernet`, or the `SubnetNet` of a finetuning. arch: `Arch`. path: without suffix.
        more: what else is known of it, a dict for the record.

    Raises:
        UserError: where the reloaded model does not classify as the supernet does.
    """
    statistics = run.evaluator.recalibrate(supernet, arch)
    before = run.evaluator.accuracy(supernet, arch, "test", statistics)
    model = supernet.model if isinstance(supernet, SubnetNet) else extract(supernet, arch, statistics)
    path.parent.mkdir(parents=True, exist_ok=True)
    file, temporary = path.with_name(f"{path.name}.keras"), path.with_name(f".{path.name}.keras")
    model.save(temporary)
    temporary.replace(file)
    images = run.evaluator.images("test", arch.resolution)
    reloaded = load_model(file)
    after = accuracy(predict(reloaded, images), images.labels)
    # At 2 bits a value that rounds otherwise in another order of summation may change the class of an image.
    if round(abs(after - before) * len(images)) > max(2, len(images) // 500):
        raise UserError(f"{file}: expected the supernet's test accuracy {before:.2%}, the saved model has {after:.2%}")
    record = {
        "model": path.name,
        "arch_key": arch.key,
        "bits": supernet.bits,
        **run.costs.of(arch, supernet.bits),
        **(more or {}),
        **_with_fractions(reloaded, images),
        "before": before,
        "after": after,
        "file": str(file.relative_to(run.directory)),
        "arch": json.loads(arch.to_json()),
        "class_names": list(run.dataset.class_names),
        "normalization": "(x - 128) / 128",
        "evaluation_crop": run.config.evaluation_crop,
    }
    write_json(path.with_name(f"{path.name}.json"), record)
    return record, reloaded


def _copied(run: Run, record: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The record of an extracted model under another name, with copies of its files."""
    copy = {**record, "model": path.name}
    for key in ("file", "tflite", "model_card"):
        if key in record:
            source = run.directory / record[key]
            target = path.with_name(f"{path.name}{source.suffix}")
            write_atomically(target, source.read_bytes())
            copy[key] = str(target.relative_to(run.directory))
    write_json(
        path.with_name(f"{path.name}.json"),
        {**read_json(_beside(run, record)), "model": path.name, "file": copy["file"]},
    )
    return copy


def _beside(run: Run, record: Mapping[str, Any]) -> pathlib.Path:
    """The file with the record of an extracted model."""
    return (run.directory / record["file"]).with_suffix(".json")


def _with_fractions(model: keras.Model, images: EvaluationImages) -> dict[str, float]:
    """The accuracy with zero points that are not rounded, as in training, for the record; empty if it has none."""
    if not any(isinstance(quantizer, BatchQuant) for quantizer in quantizers_of(model)):
        return {}
    snap_zero_points(model, False)
    found = accuracy(predict(model, images), images.labels)
    snap_zero_points(model)
    return {"before_snapping": found}


def along(rows: Sequence[Result], wanted: int) -> list[int]:
    """Indices of `wanted` rows of a front, evenly spread, ascending; in the place of its neighbour the most accurate.

    With several costs the last row, the dearest by the first of them, need not be that.
    """
    spread = {round(i) for i in np.linspace(len(rows) - 1, 0, min(wanted, len(rows)))}
    best = int(np.argmax([row.accuracy for row in rows])) if rows else None
    if rows and best not in spread:
        spread.remove(min(spread, key=lambda i: (abs(i - best), -i)))
        spread.add(best)
    return sorted(spread)
