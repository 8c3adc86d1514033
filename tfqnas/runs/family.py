"""Turns trained supernets into a family of models by search, extraction and export, with a report."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tfqnas import report
from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_json, read_jsonl, write_json
from tfqnas.progress import Part, Progress
from tfqnas.runs import run_report
from tfqnas.runs.analyses import analysing
from tfqnas.runs.exporting import export_model
from tfqnas.runs.extraction import along, copy_extracted, extract_model
from tfqnas.runs.model_files import Extracted
from tfqnas.runs.run import Run
from tfqnas.runs.searching import Find, FrontSearch, front_in, is_current
from tfqnas.search import ParetoFront
from tfqnas.search.search_config import SearchConfig
from tfqnas.supernet import Supernet
from tfqnas.train.stages import Bits, TrainingStage, label


class Family:
    """The searches and models of a run.

    Args:
        run: `Run` with trained supernets.
        config: `SearchConfig`.
        find: as in `FrontSearch`.
    """

    def __init__(self, run: Run, config: SearchConfig, find: Find | None = None) -> None:
        self.run, self.config, self._find = run, config, find
        self._searches: dict[Bits, FrontSearch] = {}

    def directory(self, bits: Bits) -> pathlib.Path:
        """The directory of the search of a supernet."""
        return self.run.directory / "search" / label(bits)

    def search_work(self, bits: Bits) -> float:
        """Relative work of one search, in the unit of `Costs.work`."""
        run = self.run
        recalibration = min(run.config.recalibration_images, len(run.dataset.train))
        ends = [run.costs.of(arch, None)["mmacs"] for arch in (run.space.smallest(), run.space.largest())]
        images = recalibration + len(run.dataset.held_out)
        return self.front_search(bits).budget * images * sum(ends) / 2

    def search(self, bits: Bits, part: Part, supernet: Supernet | None = None) -> ParetoFront:
        """Searches a supernet, or continues its search, and returns the `ParetoFront`."""
        part.update(0.0, "loading the supernet")
        return self.front_search(bits)(part, supernet or self.run.networks.supernet(bits))

    def front_search(self, bits: Bits) -> FrontSearch:
        """The `FrontSearch` of a bit width. It is made on first use, since limits may not suit all bit widths."""
        if bits not in self._searches:
            self._searches[bits] = FrontSearch(self.run, self.config, bits, self.directory(bits), self._find)
        return self._searches[bits]

    def extract(self, bits: Bits, part: Part, supernet: Supernet | None = None) -> list[dict[str, Any]]:
        """Saves the largest network and subnets of the front as `.keras` and `.tflite`, compared on test images.

        Returns:
            A record for each model: architecture, bits, costs, predicted latency and its device, test accuracy before
            (in the supernet) and after extraction, file, and the additions of `export_model`.
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
            if arch in made:  # the most accurate is often the largest
                records.append(copy_extracted(run, made[arch], path))
                continue
            record, model = extract_model(run, supernet, arch, path, search.predicted(arch))
            records.append(record | export_model(run, record, model))
            made[arch] = records[-1]
        write_json(self.directory(bits) / "models.json", records)
        return records

    def front(self, bits: Bits) -> ParetoFront:
        """The `ParetoFront` of a finished search; raises `UserError` if there is none."""
        current = is_current(self.run, bits, self.directory(bits))
        front = front_in(self.directory(bits), self.run.space) if current else None
        if front is None:
            raise UserError(
                f"{self.directory(bits)}: no front, run tfqnas search --run_dir={self.run.directory} --bits={bits}"
            )
        return front

    def progress(self, stages: Iterable[TrainingStage] = (), all_bits: Iterable[Bits] | None = None) -> Progress:
        """A `Progress` with parts for training stages, and for search and extraction of bit widths (default: all)."""
        parts = [(stage.name, self.run.costs.work(stage)) for stage in stages]
        for bits in self.run.bit_widths if all_bits is None else all_bits:
            parts.append((f"search_{label(bits)}", self.search_work(bits)))
            parts.append((f"extract_{label(bits)}", self.search_work(bits) / 4))
        return Progress(parts)

    def make(self, all_bits: Iterable[Bits], progress: Progress) -> None:
        """Searches the supernets of these bit widths, extracts subnets of their fronts, and writes the report."""
        with self.run.writing():
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
        """The table of all extracted models and the places of the files, as text."""
        where = f"pictures and settings: {self.run.directory}/report.html, models: {self.run.directory}/models"
        records = self.models()
        refused = [f"no .tflite of {r['model']}: {r['tflite_refused']}\n" for r in records if "tflite_refused" in r]
        columns, note = run_report.columns(records), run_report.note(records)
        return f"\n{report.table(records, columns)}\n\n{note}\n{''.join(refused)}{where}"

    def models(self) -> list[dict[str, Any]]:
        """The records of all extracted and then of all finetuned models."""
        paths = [self.directory(bits) / "models.json" for bits in self.run.bit_widths]
        extracted = [record for path in paths if path.exists() for record in read_json(path, list[Extracted])]
        finetuned = read_jsonl(self._finetuned, Extracted)
        return extracted + list({record["model"]: record for record in finetuned}.values())

    def add_finetuned(self, record: Mapping[str, Any]) -> None:
        """Adds the record of a finetuned model to `finetuned.jsonl`, and writes the report with it."""
        with self.run.writing():
            append_jsonl(self._finetuned, record)
            self.report()

    @property
    def _finetuned(self) -> pathlib.Path:
        return self.run.directory / "finetuned.jsonl"

    def report(self) -> None:
        """Writes `pareto.png`, `training.png` and `report.html`."""
        run_report.write(self.run, {bits: self.directory(bits) for bits in self.run.bit_widths}, self.models())
