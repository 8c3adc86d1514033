"""From trained supernets to a family of models: search, extraction, the table and the picture."""

import dataclasses
import json

import numpy as np

from tfqnas import report
from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_json, read_jsonl, write_atomically, write_json
from tfqnas.models import load_model, predict
from tfqnas.progress import Progress
from tfqnas.search import ParetoFront, RandomBins, Result, kendall_tau
from tfqnas.search import run as run_search
from tfqnas.settings import first_difference, plain
from tfqnas.subnet import extract
from tfqnas.train.calibrate import accuracy
from tfqnas.train.subnet_net import SubnetNet


class Family:
    """The search results and models of a run.

    Args:
        run: `Run` with trained supernets.
        config: `SearchConfig`.
        export: None, or a callable that makes the integer file of an extracted model: `export(run, record, model)`
            returns what it adds to the record.
    """

    def __init__(self, run, config, export=None):
        self.run, self.config, self.export = run, config, export

    def directory(self, bits):
        return self.run.directory / "search" / f"b{bits}"

    def search_work(self):
        """Relative work of one search, in the unit of `Run.work`."""
        run, config = self.run, self.config
        bins = len(config.search_edges) - 1 if config.search_edges else config.search_bins
        recalibration = min(run.config.recalibration_images, len(run.dataset.train))
        ends = [run.cost(arch, None)["mmacs"] for arch in (run.space.smallest(), run.space.largest())]
        images = recalibration + len(run.dataset.held_out)
        return bins * config.search_per_bin * images * sum(ends) / 2

    def search(self, bits, part, supernet=None):
        """Scores random subnets of a supernet and returns the `ParetoFront` by effective MFLOPs.

        A score is the accuracy on images held out from the training set, after recalibration on training
        images. Each is appended to `scored.jsonl` at once; a search that was stopped goes on from there.
        """
        run, config = self.run, self.config
        directory = self.directory(bits)
        _refuse_other_settings(directory / "config.json", config)
        part.update(0.0, "loading the supernet")
        supernet = supernet or run.supernet(bits)
        results = self._results(bits)
        edges = config.search_edges or config.search_bins
        searcher = RandomBins(
            run.space, lambda arch: run.cost(arch, bits)["mmacs"], edges, config.search_per_bin, config.search_seed
        )
        budget = config.search_per_bin * (len(searcher.edges) - 1)
        done = best = 0

        def on_result(result):
            nonlocal done, best
            done, best = done + 1, max(best, result.accuracy)
            append_jsonl(directory / "scored.jsonl", dataclasses.asdict(result))
            if done == 1:  # it includes the traces: it says nothing of the pace
                part.resume((len(results) + done) / budget)
            part.update((len(results) + done) / budget, f"{len(results) + done} subnets scored, best {best:.1%}")

        try:
            front = run_search(
                searcher, lambda arch: run.accuracy(supernet, arch, "held_out"),
                lambda arch: run.cost(arch, bits), budget, on_result, results=results, by="effective_mflops",
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f"search of the {bits}-bit supernet: {error}") from None
        write_atomically(directory / "pareto.json", front.to_json())
        return front

    def transfer(self, bits, part, supernet=None):
        """Scores the architectures of the highest bit width's front at a lower one: are they good there, too?

        Those that the search has scored there are taken from it. Written to `transfer.json`, one record each.
        """
        run, source = self.run, self.run.config.bits[0]
        supernet = supernet or run.supernet(bits)
        known = {result.arch: result.accuracy for result in self._results(bits)}
        records = []
        rows = self.front(source).rows
        for row in rows:
            part.update(part.fraction, f"the {source}-bit front at {bits} bits, {len(records)} of {len(rows)}")
            score = known[row.arch] if row.arch in known else run.accuracy(supernet, row.arch, "held_out")
            records.append({
                "arch": json.loads(row.arch.to_json()), "accuracy": score, "accuracy_at_source": row.accuracy,
                "source": source, "effective_mflops": run.cost(row.arch, bits)["effective_mflops"],
            })  # fmt: skip
        write_json(self.directory(bits) / "transfer.json", records)
        return records

    def transferred(self):
        """What `report.transfer_figure` shows: for each lower bit width its own front and the highest one's there."""
        source, *lower = self.run.config.bits
        at_source = {result.arch: result.accuracy for result in self._results(source)}
        panels = {}
        for bits in lower:
            path = self.directory(bits) / "transfer.json"
            if not path.exists():
                continue
            results = self._results(bits)
            both = [(at_source[r.arch], r.accuracy) for r in results if r.arch in at_source]
            panels[bits] = {
                "front": [(row.costs["effective_mflops"], row.accuracy) for row in self.front(bits).rows],
                "scored": [(r.costs["effective_mflops"], r.accuracy) for r in results],
                "moved": [(record["effective_mflops"], record["accuracy"]) for record in read_json(path)],
                "source": source, "tau": kendall_tau(*zip(*both, strict=True)) if len(both) > 1 else float("nan"),
            }  # fmt: skip
        return panels

    def _results(self, bits):
        return [_result(record) for record in read_jsonl(self.directory(bits) / "scored.jsonl")]

    def extract(self, bits, part, supernet=None):
        """Saves the largest network and subnets of the front as `.keras`; reloads and compares each on test.

        Returns:
            One record a model: arch, bits, costs, test accuracy before (in the supernet) and after
            extraction, file; and what `export` adds.
        """
        run = self.run
        supernet = supernet or run.supernet(bits)
        front = self.front(bits)
        chosen = {f"b{bits}_largest": run.space.largest()}
        chosen |= {f"b{bits}_{i}": front.rows[i].arch for i in evenly(len(front.rows), self.config.models)}
        records = []
        for done, (name, arch) in enumerate(chosen.items()):
            part.update(done / len(chosen), name)
            record, model = extract_model(run, supernet, arch, run.directory / "models" / name)
            records.append(record | (self.export(run, record, model) if self.export else {}))
        write_json(self.directory(bits) / "models.json", records)
        return records

    def front(self, bits):
        path = self.directory(bits) / "pareto.json"
        if not path.exists():
            raise UserError(f"{path} is not there: run tools/search.py --run_dir={self.run.directory} --bits={bits}")
        return ParetoFront.from_json(read_json(path))

    def scored(self, bits):
        """Records of all scored subnets, for the picture."""
        on_front = {row.arch for row in self.front(bits).rows}
        return [
            {"effective_mflops": r.costs["effective_mflops"], "accuracy": r.accuracy, "on_front": r.arch in on_front}
            for r in self._results(bits)
        ]

    def progress(self, stages=()):
        """A `Progress` with parts for training stages, then for the search and extraction of each bit width."""
        parts = [(stage.name, self.run.work(stage)) for stage in stages]
        for bits in self.run.config.bits:
            parts.append((f"search_b{bits}", self.search_work()))
            parts.append((f"extract_b{bits}", self.search_work() / (4 if self.export else 8)))
        return Progress(parts)

    def make(self, all_bits, progress):
        """Searches the supernets of these bit widths, extracts subnets of the fronts and writes the report."""
        for bits in all_bits:
            supernet = self.run.supernet(bits)
            with progress.part(f"search_b{bits}") as part:
                self.search(bits, part, supernet)
                highest = self.run.config.bits[0]
                if bits != highest and (self.directory(highest) / "pareto.json").exists():
                    self.transfer(bits, part, supernet)
            with progress.part(f"extract_b{bits}") as part:
                self.extract(bits, part, supernet)
        self.report()

    def summary(self):
        """The table of all extracted models, and where the files are."""
        where = f"pictures and settings: {self.run.directory}/report.html, models: {self.run.directory}/models"
        records = self.models()
        refused = [f"no .tflite of {r['model']}: {r['tflite_refused']}\n" for r in records if "tflite_refused" in r]
        return f"\n{report.table(records, COLUMNS)}\n\n{NOTE}\n{''.join(refused)}{where}"

    def models(self):
        """The records of all extracted models."""
        paths = [self.directory(bits) / "models.json" for bits in self.run.config.bits]
        return [record for path in paths if path.exists() for record in read_json(path)]

    def report(self):
        """Writes `pareto.png`, `training.png` and `report.html`."""
        run = self.run
        searched = [b for b in run.config.bits if (self.directory(b) / "pareto.json").exists()]
        picture, curves = run.directory / "pareto.png", run.directory / "training.png"
        subtitle = f"{run.config.dataset}, space {run.space.name}"
        report.pareto_figure({b: self.scored(b) for b in searched}, picture, "Accuracy against cost", subtitle)
        report.training_figure(read_jsonl(run.directory / "log.jsonl"), curves)
        fronts = [report.Picture(picture)]
        if panels := self.transferred():
            moved = run.directory / "transfer.png"
            report.transfer_figure(panels, moved, "Is what is good at one bit width good at a lower one?")
            fronts += [report.Picture(moved), TRANSFER_NOTE]
        sections = [
            report.Section("Pareto fronts", fronts),
            report.Section("Extracted models", [report.Table(self.models(), COLUMNS), NOTE]),
            report.Section("Training", [report.Picture(curves)]),
            report.Section("Settings", [report.Code(run.config.to_json())]),
        ]
        report.write_html(run.directory / "report.html", f"tfqnas: {run.config.dataset}", sections)


TRANSFER_NOTE = (
    "Circles: the architectures of the front of the highest bit width, scored here without being chosen here. The "
    "front found here was chosen by these very scores, which flatters it. Kendall's tau is over all architectures that "
    "were scored at both bit widths: 1, the same order; 0, no relation."
)
NOTE = (
    "A model's number is its row in search/b*/pareto.json; the largest network is there for comparison. Accuracy "
    "before extraction is that of the subnet inside its supernet, after extraction that of the saved "
    "and reloaded Keras model, both on the test split. kB counts the weights as deployed: quantized ones at "
    "their bit width, others at 8 bits, 32-bit biases. The .tflite file holds a byte for each weight; its accuracy is "
    "that of its integers in LiteRT, which the reference computes alike in every image compared. ms: one image, one "
    "thread, on this machine."
)
COLUMNS = (
    ("model", "model"),
    ("arch_key", "architecture"),
    ("bits", "bits"),
    ("effective_mflops", "eff. MFLOPs", ".3f"),
    ("kB", "kB", ".1f"),
    ("before", "test before", ".2%"),
    ("after", "test after", ".2%"),
    ("tflite_accuracy", ".tflite", ".2%"),
    ("tflite_kB", "file kB", ".1f"),
    ("latency_ms", "ms", ".2f"),
)


def extract_model(run, supernet, arch, path):
    """Extracts a subnet to `path`.keras and reloads it. Returns its record, also in `path`.json, and that model.

    Args:
        supernet: `Supernet`, or the `SubnetNet` of a finetuning. arch: `Arch`. path: without suffix.

    Raises:
        UserError: where the reloaded model does not classify as the supernet does.
    """
    statistics = run.recalibrate(supernet, arch)
    before = run.accuracy(supernet, arch, "test", statistics)
    model = supernet.model if isinstance(supernet, SubnetNet) else extract(supernet, arch, statistics)
    path.parent.mkdir(parents=True, exist_ok=True)
    file, temporary = path.with_name(f"{path.name}.keras"), path.with_name(f".{path.name}.keras")
    model.save(temporary)
    temporary.replace(file)
    images = run.images("test", arch.resolution)
    reloaded = load_model(file)
    after = accuracy(predict(reloaded, images), images.labels)
    # At 2 bits a value that rounds otherwise in another order of summation may change the class of an image.
    if round(abs(after - before) * len(images)) > max(2, len(images) // 500):
        raise UserError(f"{file}: expected the supernet's test accuracy {before:.2%}, the saved model has {after:.2%}")
    record = {
        "model": path.name, "arch_key": arch.key, "bits": supernet.bits, **run.cost(arch, supernet.bits),
        "before": before, "after": after, "file": str(file.relative_to(run.directory)),
        "arch": json.loads(arch.to_json()), "class_names": list(run.dataset.class_names),
        "normalization": "(x - 128) / 128", "evaluation_crop": run.config.evaluation_crop,
    }  # fmt: skip
    write_json(path.with_name(f"{path.name}.json"), record)
    return record, reloaded


def evenly(count, wanted):
    """`wanted` of the indices 0 to `count` - 1, evenly spread, the last one always among them."""
    return sorted({round(i) for i in np.linspace(count - 1, 0, min(wanted, count))})


def _result(record):
    return Result(**{**record, "arch": Arch.from_json(record["arch"])})


def _refuse_other_settings(path, config):
    """Scores in a search directory belong to one set of search settings."""
    if not path.exists():
        write_json(path, plain(config))
    difference = first_difference(config, read_json(path))
    if difference:
        name, ours, theirs = difference
        raise UserError(
            f"{path} was made with --{name}={theirs}, this search has --{name}={ours}: give the same value, or "
            f"remove {path.parent} to search anew"
        )
