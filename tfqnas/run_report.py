"""The report of a run: what was searched, chosen, learned and exported, on one page."""

import dataclasses
import json

from tfqnas import report
from tfqnas.analysis import analysing
from tfqnas.arch import Arch
from tfqnas.files import read_json, read_jsonl
from tfqnas.search import ParetoFront, pareto_front
from tfqnas.searching import results_in

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



def write(run, directories, models):
    """Writes `pareto.png`, `training.png` and `report.html` into the run's directory.

    Args:
        run: `Run`. directories: bit width -> where its search is, if there is one. models: records of extracted ones.
    """
    results = {bits: found for bits, where in directories.items() if (found := results_in(where))}
    pictures = run.directory / "pareto.png", run.directory / "training.png"
    subtitle = f"{run.config.dataset}, space {run.space.name}"
    report.pareto_figure({b: _points(r) for b, r in results.items()}, pictures[0], "Accuracy against cost", subtitle)
    report.training_figure(read_jsonl(run.directory / "log.jsonl"), pictures[1])
    searches = [directory / "config.json" for directory in directories.values()]
    sections = [
        report.Section("Pareto fronts", [report.fronts_plot(run.space, _records(results), pareto_front)]),
        report.Section("Extracted models", [*_drawing(run.space, models), report.Table(models, COLUMNS), NOTE]),
        *_distributions(run.space, results),
        *_predictors(directories),
        *analysing.sections(run),
        report.Section("Training", [report.Picture(pictures[1])]),
        report.Section("Settings", [
            report.Code(run.config.to_json()),
            *[report.Code(json.dumps(read_json(path))) for path in searches[:1] if path.exists()],
        ]),
    ]  # fmt: skip
    report.write_html(run.directory / "report.html", f"tfqnas: {run.config.dataset}", sections)


def _points(results):
    """What `report.pareto_figure` shows of a search."""
    front = {row.arch for row in ParetoFront.of(results, "effective_mflops").rows}
    cost = "effective_mflops"
    return [{cost: r.costs[cost], "accuracy": r.accuracy, "on_front": r.arch in front} for r in results]


def _records(results):
    """What `report.fronts_plot` shows of all searches; estimates are no part of it."""
    records = []
    for bits, found in results.items():
        for result in found:
            if not result.estimated:
                record = {"bits": bits, "key": result.arch.key, "arch": dataclasses.asdict(result.arch)}
                records.append(record | {"accuracy": result.accuracy, "costs": result.costs, **_images(result)})
    return records


def _images(result):
    return {"images": result.extra["images"]} if "images" in result.extra else {}


def _drawing(space, models):
    """The extracted architectures, drawn to one scale; of equal ones the first."""
    names = {}
    for record in models:
        names.setdefault(Arch.from_json(record["arch"]), []).append(record["model"])
    labelled = {}
    for arch, own in names.items():
        more = f" and {len(own) - 3} more" if len(own) > 3 else ""
        labelled[", ".join(own[:3]) + more] = arch
    return [report.architecture_drawing(space, labelled)] if labelled else []


def _distributions(space, results):
    fronts = {bits: ParetoFront.of(found, "effective_mflops").rows for bits, found in results.items()}
    records = {
        bits: [{"arch": dataclasses.asdict(row.arch), "costs": row.costs, "accuracy": row.accuracy} for row in rows]
        for bits, rows in fronts.items()
    }
    return [report.Section("What the fronts are made of", [report.distributions(space, records)])] if records else []


def _predictors(directories):
    """Predicted against measured accuracy, of the searches that had a predictor."""
    plots = []
    for bits, directory in directories.items():
        if (path := directory / "predictor.json").exists():
            quality = read_json(path)
            pairs = list(zip(quality["predicted"], quality["measured"], strict=True))
            plots.append(report.scatter(
                pairs, "predicted", "measured", quality["tau"], quality["error"],
                f"{bits} bits, trained on {quality['trained']} other subnets",
            ))  # fmt: skip
    return [report.Section("Accuracy predictor, on subnets that it was not trained on", plots)] if plots else []
