"""Files that tfqnas wrote and reads again, after someone or something has changed them."""

import io
import json
import zipfile

import numpy as np

from tests.campaign.states import QUANTIZE, SEARCH, SEEN, TRAIN
from tests.campaign.trials import (
    Trial,
    closed,
    cut,
    delete,
    directory,
    field,
    lines,
    link,
    move,
    pipe,
    refused,
    right,
    text,
)

EVALUATE, SEARCHED = "evaluate --run_dir=run --bits=3", f"search --run_dir=run {SEARCH}"
FRONT = "evaluate --run_dir=run --bits=3 --arch=run/search/b3/pareto.json#0"
TABLED = "search --run_dir=run --latency_table=table.json --objectives=accuracy,latency --max_latency_ms=0.01"
MEASURED = "benchmark --models=b3.tflite --host --output=latency.csv"
PREDICT = "predict --model=model.keras up.png"
# Each file that is read again, what is given, and a command that reads it.
JSON = {
    "run/config.json": ("run", EVALUATE),
    "run/space.json": ("run", EVALUATE),
    "run/data.json": ("run", EVALUATE),
    "seen/data.json": ("seen", "evaluate --run_dir=seen --bits=3"),
    "run/search/b3/config.json": ("run", SEARCHED),
    "run/search/b3/models.json": ("run", SEARCHED),
    "run/search/b3/pareto.json": ("run", FRONT),
    "model.json": ("model up", PREDICT),
    "table.json": ("run table", TABLED),
    "nano.json": ("space", f"train --run_dir=new {TRAIN}"),
    "four/quantize.json": ("float four", f"quantize --model=float.keras --output=four {QUANTIZE}"),
    "four/strategies.json": ("float four", f"quantize --model=float.keras --output=four {QUANTIZE}"),
}
DEEP = "[" * 100_000 + "]" * 100_000
NO_JSON = {
    "empty": "",
    "no JSON": "what is this?",
    "another value": "null",
    "a number": "12",
    "a list": "[1, 2]",
    "deep": DEEP,
    "bytes": b"\xff\xfe\x00\x80",
    "a huge number": '{"seed": 1' + "0" * 5000 + "}",
}


def _damaged(path: str) -> list[Trial]:
    """What can become of a JSON file whatever is in it."""
    given, command = JSON[path]
    name = path.rpartition("/")[2]
    edits = [text(path, content) for content in NO_JSON.values()] + [cut(path), directory(path), pipe(path)]
    trials = [refused(command, name, given=given, edit=edit) for edit in edits]
    return [*trials, refused(command, name, given=given, edit=closed(path), user=True)]


def _with_field(path: str, *changes: tuple) -> list[Trial]:
    """A field with another value, or without (a name alone)."""
    given, command = JSON[path]
    name = path.rpartition("/")[2]
    return [refused(command, name, c[0].split(".")[-1], given=given, edit=field(path, *c)) for c in changes]


def _line(path: str, number: int, new: str) -> object:
    return lines(path, lambda all_lines: [*all_lines[:number], new, *all_lines[number + 1 :]])


def _scored(change) -> object:
    """The first record of a search, changed."""

    def changed(all_lines):
        record = json.loads(all_lines[0])
        change(record)
        return [json.dumps(record), *all_lines[1:]]

    return lines("run/search/b3/scored.jsonl", changed)


def _checkpoint(change) -> object:
    """The arrays of a checkpoint, changed."""

    def edit(home):
        (path,) = home.glob("run/checkpoints/supernet_b3/step-*.npz")
        arrays = dict(np.load(path))
        change(arrays)
        file = io.BytesIO()
        np.savez(file, **arrays)
        path.write_bytes(file.getvalue())

    return edit


def _bytes(change) -> object:
    """The bytes of a checkpoint, changed."""

    def edit(home):
        (path,) = home.glob("run/checkpoints/supernet_b3/step-*.npz")
        path.write_bytes(change(path.read_bytes()))

    return edit


def _nan(name):
    def change(arrays):
        arrays[name] = np.full_like(arrays[name], np.nan)

    return change


def _foreign(bytes_):
    """A pickle in the place of an array, which runs code when it is read."""
    file = io.BytesIO(bytes_)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("evil.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }\n")
    return file.getvalue()


TRIALS = [
    right(EVALUATE, "test images of digits", given="run"),
    right(SEARCHED, "b3_largest", given="run"),
    right(FRONT, "test images of digits", given="run"),
    *[trial for path in JSON if path not in ("run/search/b3/models.json",) for trial in _damaged(path)],
    *_with_field(
        "run/config.json",
        ("seed",),
        ("held_out",),
        ("bits",),
        ("seed", None),
        ("seed", "0"),
        ("seed", 1.5),
        ("seed", float("nan")),
        ("seed", 10**23),
        ("batch_size", 0),
        ("batch_size", True),
        ("bits", 3),
        ("bits", ["3"]),
        ("bits", []),
        ("dropout", float("inf")),
        ("dataset", 7),
        ("space", None),
        ("flip", "no"),
        ("held_out", 10**12),
        ("colour", "red"),
    ),
    *_with_field(
        "run/space.json",
        ("resolutions",),
        ("stages",),
        ("resolutions", None),
        ("resolutions", []),
        ("resolutions", ["8"]),
        ("resolutions", [8, float("nan")]),
        ("resolutions", [8, 10**9]),
        ("stem_channels", 10**12),
        ("stem_channels", -8),
        ("stem_channels", "8"),
        ("stem_channels", 8.5),
        ("stages", {}),
        ("stages.0.channels", 10**12),
        ("stages.0.depths", [0]),
        ("stages.0.depths", [1, 10**9]),
        ("stages.0.kernels", [4]),
        ("stages.0.kernels", [3, 10**6 + 1]),
        ("stages.0.expands", [float("inf")]),
        ("stages.0.colour", 3),
        ("head_channels", None),
    ),
    # Files of earlier versions do not say how many settings they have; what is missing has its default, which is said.
    refused(EVALUATE, "held_out 64", "held_out 200", given="run", edit=text("run/config.json", "{}")),
    refused(EVALUATE, "--dataset", "digitz", given="run", edit=field("run/config.json", "dataset", "digitz")),
    right(SEARCHED, "with other settings", given="run", edit=text("run/search/b3/config.json", "{}")),
    right(PREDICT, "up.png: 0", given="model up", edit=text("model.json", "{}")),
    *[
        refused(command, name, given=given, edit=text(path, "{}"))
        for path, name in (
            ("run/space.json", "space.json"),
            ("run/search/b3/pareto.json", "pareto.json"),
            ("table.json", "table.json"),
            ("nano.json", "nano.json"),
            ("four/strategies.json", "strategies.json"),
        )
        for given, command in (JSON[path],)
    ],
    # Another network than the one that was trained.
    refused(EVALUATE, "space.json", given="run", edit=field("run/space.json", "stages.0.expands", [2, 3])),
    refused(EVALUATE, "space.json", given="run", edit=field("run/space.json", "stages.0.stride", 1)),
    refused(EVALUATE, "space.json", given="run", edit=field("run/space.json", "resolutions", [8, 16])),
    refused(EVALUATE, "space.json", given="run", edit=field("run/space.json", "name", "other")),
    refused(EVALUATE, "space.json", given="run", edit=field("run/space.json", "head_channels", 32)),
    refused(EVALUATE, "config.json", given="run", edit=delete("run/config.json")),
    right(EVALUATE, "test images", given="run", edit=delete("run/space.json")),
    refused(EVALUATE, "space", given="run", edit=[delete("run/space.json"), delete("nano.json")]),
    *_with_field(
        "run/search/b3/pareto.json",
        ("rows", None),
        ("rows", {}),
        ("rows", [1]),
        ("rows.0.arch",),
        ("rows.0.arch", None),
        ("rows.0.arch.kernels", [3, 9]),
        ("rows.0.arch.depths", "1"),
        ("rows.0.arch.resolution", float("nan")),
        ("rows.0.accuracy",),
        ("rows.0.accuracy", None),
        ("rows.0.accuracy", float("nan")),
        ("rows.0.accuracy", "0.5"),
        ("rows.0.accuracy", 7),
        ("rows.0.costs",),
        ("rows.0.costs", None),
        ("rows.0.costs.mmacs", "a"),
        ("rows.0.costs.mmacs", float("nan")),
        ("by", None),
    ),
    refused(FRONT, "pareto.json", given="run", edit=field("run/search/b3/pareto.json", "rows")),
    refused(
        FRONT, "pareto.json", "missing speed", given="run", edit=field("run/search/b3/pareto.json", "by", ["speed"])
    ),
    refused(f"{EVALUATE} --arch=run/search/b3/pareto.json#99", "pareto.json", "rows 0 to", given="run"),
    refused(f"{EVALUATE} --arch=run/search/b3/pareto.json#-1", "pareto.json", "rows 0 to", given="run"),
    refused(f"{EVALUATE} --arch=run/search/b3/pareto.json", "pareto.json", "#ROW", given="run"),
    refused(f"{EVALUATE} --arch=no.json", "no.json", given="run"),
    refused(f"{EVALUATE} '--arch={{}}'", "--arch", given="run"),
    refused(f"{EVALUATE} --arch=run", "--arch", given="run"),
    refused(f"{EVALUATE} --arch=biggest", "--arch", "largest", given="run"),
    # Records of a search.
    *[
        refused(SEARCHED, "scored.jsonl", "line 1", given="run", edit=_scored(change))
        for change in (
            lambda record: record.pop("accuracy"),
            lambda record: record.pop("arch"),
            lambda record: record.pop("costs"),
            lambda record: record.update(accuracy=None),
            lambda record: record.update(accuracy="0.1"),
            lambda record: record.update(accuracy=float("nan")),
            lambda record: record.update(accuracy=-1),
            lambda record: record.update(accuracy=10**400),
            lambda record: record.update(arch=None),
            lambda record: record.update(arch=[]),
            lambda record: record["arch"].update(kernels=[9]),
            lambda record: record["arch"].update(space="tiny"),
            lambda record: record["arch"].pop("depths"),
            lambda record: record.update(costs={}),
            lambda record: record["costs"].update(mmacs=None),
            lambda record: record["costs"].update(mmacs=float("inf")),
            lambda record: record.update(extra=3),
        )
    ],
    refused(SEARCHED, "scored.jsonl", given="run", edit=_line("run/search/b3/scored.jsonl", 0, "[]")),
    refused(SEARCHED, "scored.jsonl", given="run", edit=_line("run/search/b3/scored.jsonl", 0, DEEP)),
    refused(SEARCHED, "scored.jsonl", given="run", edit=directory("run/search/b3/scored.jsonl")),
    refused(SEARCHED, "scored.jsonl", given="run", edit=pipe("run/search/b3/scored.jsonl")),
    refused("compare --run_dirs=run", "scored.jsonl", given="run", edit=_line("run/search/b3/scored.jsonl", 1, "{}")),
    right("compare --run_dirs=run", "fronts.png", given="run"),
    refused("compare --run_dirs=run --cost=speed", "--cost", "mmacs", given="run"),
    # Checkpoints.
    *[
        refused(EVALUATE, "supernet_b3", given="run", edit=edit)
        for edit in (
            _bytes(lambda content: content[: len(content) // 2]),
            _bytes(lambda content: b""),
            _bytes(lambda content: b"no checkpoint"),
            _bytes(lambda content: content[:3000] + b"\xff" * 64 + content[3064:]),
            _bytes(_foreign),
            _checkpoint(_nan("stem|kernel")),
            _checkpoint(_nan("stage1_block1|expand|weight_quantizer|step")),
            _checkpoint(lambda arrays: arrays.pop("stem|kernel")),
            _checkpoint(lambda arrays: arrays.update({"stem|kernel": arrays["stem|kernel"][:1]})),
            _checkpoint(lambda arrays: arrays.update({"stem|kernel": arrays["stem|kernel"].astype("<U3")})),
            _checkpoint(lambda arrays: arrays.update(meta=np.array("{}"))),
            _checkpoint(lambda arrays: arrays.pop("meta")),
        )
    ],
    refused(EVALUATE, "supernet_b3", given="run", edit=delete("run/checkpoints")),
    refused(SEARCHED.replace("_bin=3", "_bin=4"), "step-", given="run", edit=_checkpoint(_nan("stem|kernel"))),
    refused("evaluate --checkpoint=run/checkpoints/no", "no", given="run"),
    refused("evaluate --checkpoint=run/config.json", "config.json", given="run"),
    refused("evaluate --checkpoint=run/checkpoints", "checkpoints", given="run"),
    # What lies beside a model.
    *_with_field(
        "model.json",
        ("class_names", None),
        ("class_names", []),
        ("class_names", "abcd"),
        ("class_names", ["a", "b"]),
        ("class_names", [1, 2, 3, 4]),
        ("class_names", ["a", "a", "b", "c"]),
        ("evaluation_crop", None),
        ("evaluation_crop", 0),
        ("evaluation_crop", float("nan")),
        ("evaluation_crop", "1"),
        ("evaluation_crop", 1e9),
    ),
    right(PREDICT, "up.png: 0", given="model up", edit=delete("model.json")),
    # A latency table.
    *_with_field(
        "table.json",
        ("unit",),
        ("unit", "hours"),
        ("values", None),
        ("values", {}),
        ("factor", None),
        ("factor", float("nan")),
        ("factor", 0),
        ("bits", None),
        ("bits", 8),
        ("classes", 1000),
        ("channels", "1"),
        ("threads", "two"),
        ("space", None),
        ("validation", None),
        ("validation.measured", [0, 0]),
        ("validation.measured", [float("nan"), 1]),
        ("colour", 3),
    ),
    refused(TABLED, "table.json", given="run"),
    refused(TABLED, "table.json", "unknown", given="run table", edit=field("table.json", "space.resolutions", [8])),
    refused(TABLED.replace("table.json", "run/config.json"), "config.json", given="run"),
    # A space of one's own.
    *_with_field(
        "nano.json",
        ("name",),
        ("name", None),
        ("name", ""),
        ("stages", []),
        ("stages.0.channels", "8"),
        ("stages.0.channels", 10**12),
        ("stages.0.stride", 0),
        ("stages.0.stride", 3.5),
        ("stages.0.depths", [2, 1]),
        ("stages.0.kernels", []),
        ("resolutions", [0]),
        ("resolutions", [10**6]),
        ("stem_channels", 10**12),
        ("colour", 1),
    ),
    refused(JSON["nano.json"][1], "nano.json", "stage 1", given="space", edit=field("nano.json", "stages.0", None)),
    # A quantized model.
    *_with_field("four/quantize.json", ("fingerprint",), ("settings", None), ("settings.bits", 3)),
    *_with_field("four/strategies.json", ("metrics",), ("metrics", None), ("metrics.float", 3)),
    # Tables of measurements.
    *[
        refused(MEASURED, "latency.csv", given="quantized csv", edit=edit)
        for edit in (
            text("latency.csv", "what,is,this\n"),
            text("latency.csv", b"\xff\xfe\x00"),
            _line("latency.csv", 1, "a,b,c"),
            _line("latency.csv", 1, ",".join(["x"] * 25)),
            _line("latency.csv", 1, "m.tflite," + "0" * 16 + ",nan" + "," * 22),
            directory("latency.csv"),
            pipe("latency.csv"),
        )
    ],
    # Half of a run.
    refused("search --run_dir=.", "config.json is not there"),
    refused("search --run_dir=run", "config.json", edit=text("run/log.jsonl", "")),
    refused("search --run_dir=run", "run", edit=text("run", "a file")),
    refused("search --run_dir=run", "run", given="run", edit=closed("run"), user=True),
    refused(f"train --run_dir=run {TRAIN}", "run", given="space", edit=text("run", "a file")),
    refused(f"train --run_dir=run {TRAIN} --seed=1", "--seed=0", "--seed=1", given="run"),
    refused(f"train --run_dir=run {TRAIN.replace('bits=3', 'bits=4')}", "--bits=3", "--bits=4", given="run"),
    refused(f"train --run_dir=run {TRAIN.replace('nano.json', 'tiny')}", "--space", given="run"),
    refused(f"train --run_dir=seen {SEEN} --dataset=digits", "--dataset", given="seen"),
    right(SEARCHED.replace("run_dir=run", "run_dir='moved #1/run ö'"), given="run", edit=move("run", "moved #1/run ö")),
    right("evaluate --run_dir=link --bits=3", "test images", given="run", edit=link("link", "run")),
    right("evaluate --run_dir=/proc/self/cwd/run --bits=3", "test images", given="run"),
    right("evaluate --run_dir=.. --bits=3", "test images", given="run", inside="run/search"),
    right(EVALUATE, "test images", given="run", edit=closed("run", 0o555), user=True),
    right(EVALUATE, "test images", given="run", edit=text("run/checkpoints/supernet_b3/.step-00000009.npz.1.tmp", "x")),
]
