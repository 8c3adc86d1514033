"""Writes a model card: data, architecture, costs and accuracy of a model file, and how it was checked and made.

It follows "Model Cards for Model Reporting" (Mitchell et al., 2019) as far as the facts are known here. Whoever ships
the model adds its intended use and its limits.
"""

import importlib.metadata
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tflite_export.verify import Verification
from tfqnas.tasks.classification import Classification

_PACKAGES = ("tfqnas", "tensorflow", "keras", "ai-edge-litert")
# Key in the record, label, format.
_COSTS = (
    ("effective_mflops", "effective FLOPs", "{:.3f} million"),
    ("mmacs", "multiply-accumulates", "{:.3f} million"),
    ("mbitops", "BitOPs", "{:.2f} million"),
    ("params", "parameters", "{:,}"),
    ("kB", "weights at their bit width", "{:.1f} kB"),
    ("file_kB", "file", "{:.1f} kB"),
    ("predicted_latency_ms", "latency by the table of {latency_device}", "{:.3f} ms"),
    ("predicted_npu_cycles", "cycles by the table of {latency_device}", "{:,.0f}"),
    ("host_ms", "an image on the machine of the export, one thread", "{:.2f} ms"),
)
_ACCURACIES = (
    ("float", "floating point"),
    ("keras", "fake-quantized (the Keras model)"),
    ("reference", "integers (the reference)"),
    ("litert", "integers (LiteRT runs the file)"),
)


def versions() -> dict[str, str]:
    """`{package: version}` of the packages that make a file."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def command() -> str:
    """The command line of this process, in a form that can be repeated in a checkout."""
    program = os.path.relpath(sys.argv[0]) if os.path.exists(sys.argv[0]) else sys.argv[0]
    return shlex.join([*(["python"] if program.endswith(".py") else []), program, *sys.argv[1:]])


def model_card(
    record: Mapping[str, Any],
    result: Verification | None = None,
    data: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
) -> str:
    """The model card as Markdown.

    Args:
        record: facts about the model, each of which may be absent: "model", "arch_key", "arch", "bits", costs under the
            names that `Run.cost` gives them, "class_names", "normalization", "evaluation_crop", and the accuracies
            "float" (of the float model) and "after" (of the fake-quantized model).
        result: `Verification`, or None if the file was not compared.
        data: None, or a dictionary with "name" and the numbers of images "train" and "test".
        made: None, or a dictionary with "command" and "versions".
    """
    parts = [f"# {record.get('model') or record.get('arch_key') or 'Model'}", _what(record, result)]
    parts += [_section("Data", _data(record, data)), _section("Architecture", _architecture(record))]
    parts += [_section("Costs", _costs(record)), _section("Accuracy", _accuracies(record, result))]
    parts += [_section("How it was checked", [_check(result)]), _section("How it was made", _made(made))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, lines: Iterable[str]) -> str:
    lines = [line for line in lines if line]
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""


def _what(record: Mapping[str, Any], result: Verification | None) -> str:
    bits = record.get("bits")
    width = "" if bits is None else "of mixed bit widths" if bits == "mixed" else f"with {bits}-bit weights and inputs"
    task = f"for {result.task.name.replace('_', '-')}" if result is not None else ""
    return " ".join(filter(None, ["Integer network", task, width, "(`.tflite`), made by tfqnas."]))


def _data(record: Mapping[str, Any], data: Mapping[str, Any] | None) -> list[str]:
    classes = record.get("class_names")
    named = ", ".join(map(str, classes[:20])) + (", ..." if len(classes) > 20 else "") if classes else ""
    return [
        f"- Data set: {data['name']}, {data['train']:,} training and {data['test']:,} test images" if data else "",
        f"- Classes: {len(classes)} ({named})" if classes else "",
        f"- Pixels: {record['normalization']}" if record.get("normalization") else "",
        f"- Evaluated on the central {record['evaluation_crop']:.1%} of each side"
        if record.get("evaluation_crop", 1.0) != 1.0
        else "",
    ]


def _architecture(record: Mapping[str, Any]) -> list[str]:
    arch = record.get("arch")
    chosen = ", ".join(f"{name} {value}" for name, value in arch.items() if value is not None) if arch else ""
    return [f"- {record['arch_key']}" if record.get("arch_key") else "", f"- {chosen}" if chosen else ""]


def _costs(record: Mapping[str, Any]) -> list[str]:
    return [
        f"- {name.format(latency_device=record.get('latency_device'))}: {text.format(record[key])}"
        for key, name, text in _COSTS
        if record.get(key) is not None
    ]


def _accuracies(record: Mapping[str, Any], result: Verification | None) -> list[str]:
    known: dict[str, Any] = {"float": record.get("float"), "keras": record.get("after")}
    known |= result.scores if result is not None else {}
    task = result.task if result is not None else Classification()
    rows = [f"| {name} | {task.shown(known[key])} |" for key, name in _ACCURACIES if known.get(key) is not None]
    if not rows:
        return ["Not known: the file was not compared on images with targets."]
    of = f" of {result.images:,} test images" if result is not None else ""
    return [f"| {task.title}{of} | |", "|---|---|", *rows]


def _check(result: Verification | None) -> str:
    if result is None:
        return "It was not checked, since LiteRT has not run the file."
    if not result.exact:
        return (
            "LiteRT ran the file. Its weights are packed, and kernels for packed weights round differently from the "
            f"reference. The integers are identical on {result.identical:.2%} of {result.compared:,} test images, and "
            f"the {result.task.prediction} is the Keras model's on {result.alike:.2%}."
        )
    return (
        f"LiteRT ran the file. On {result.identical:.2%} of {result.compared:,} test images every integer of its "
        f"output equals the reference's, and on {result.alike:.2%} the {result.task.prediction} is the Keras model's."
    )


def _made(made: Mapping[str, Any] | None) -> list[str]:
    if not made:
        return []
    packages = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return [f"    {made['command']}\n\nWith {packages}."]
