"""Imports point one way (docs/design.md). What each room may know is listed here; a new room needs a line."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# These know no room; those that read settings, write files or talk to people may use them.
HELPERS = {"errors", "files", "locks", "progress", "records", "report", "settings"}
NETWORKS = {"arch", "spaces", "cost", "quantizers", "layers", "supernet", "subnet", "graph"}
LIBRARY = NETWORKS | {"data", "tasks", "train", "search", "scoring", "dqss", "zoo"} | HELPERS
ROOMS = {
    "errors": set(),
    "records": {"errors"},
    "files": {"errors", "locks", "records"},
    "locks": {"errors"},
    "progress": set(),
    "settings": {"errors", "records"},
    "report": {"errors", "files"},
    "arch": {"errors", "records"},
    "spaces": {"arch", "errors", "files", "records"},
    "cost": {"arch", "spaces", "errors"},
    "search": {"arch", "spaces", "cost"} | HELPERS,
    "quantizers": {"errors"},
    "layers": {"quantizers", "errors"},  # plain numbers or tensors, never an Arch
    "graph": {
        "layers",
        "quantizers",
        "errors",
        "files",
    },  # what a Keras model computes, for quantize and for the exporter
    "supernet": {"arch", "spaces", "quantizers", "layers", "errors"},
    "subnet": {"arch", "spaces", "quantizers", "layers", "supernet", "errors"},
    "data": HELPERS,
    "tasks": {"data"} | HELPERS,  # what outputs are for, and their scores
    "train": NETWORKS | {"data"} | HELPERS,
    "scoring": NETWORKS | {"data", "train", "search"} | HELPERS,
    "dqss": NETWORKS | {"data", "tasks", "train", "search"} | HELPERS,
    "zoo": NETWORKS | {"data", "tasks", "train"} | HELPERS,
    "runs": LIBRARY,  # the application; it may use the exporter
    "integrations": LIBRARY | {"runs"},
    "doctor": set(),
    "cli": LIBRARY | {"runs", "integrations", "doctor"},
    "__init__": LIBRARY,  # by name only, on first use
    "__main__": {"cli"},
}
# Rooms that may use the exporter.
EXPORTING = {"runs", "integrations", "cli"}
TENSORFLOW = {"tensorflow", "keras", "tf_keras", "tensorflow_datasets", "tensorflow_model_optimization"}
WITHOUT_TENSORFLOW = {"arch", "spaces", "cost", "search"} | HELPERS
# keras-tuner itself loads Keras.
MAY_LOAD_TENSORFLOW = {"tfqnas.integrations.keras_tuner.tuner"}


class Source(NamedTuple):
    name: str  # dotted, as imported: tfqnas.search.pareto, tools.train
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        return [*self.name.split("."), "__init__"][1]


@functools.cache
def sources() -> dict[str, Source]:
    found = {}
    for top in ("tfqnas", "tools", "tflite_export"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = Source(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


def imports(source: Source):
    """(module, line) of every import, wherever it stands; `from a import b` is a.b where that is a module."""
    package = source.name.split(".")
    if source.path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                longer = f"{module}.{alias.name}"
                # `from absl import flags` and the like name modules that are not here to be looked up.
                yield ((longer if longer in sources() or module in ("absl", "tensorflow") else module), node.lineno)


def within(module: str, names) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


def offences(rule) -> list[str]:
    """Where `rule(source, module)` says why an import is wrong."""
    return [
        f"{source.path.relative_to(ROOT)}:{line}: {reason}"
        for source in sources().values()
        for module, line in imports(source)
        if (reason := rule(source, module))
    ]


def library() -> list[str]:
    return [name for name in sources() if within(name, {"tfqnas"})]


def test_the_library_is_found():
    assert {"tfqnas.arch", "tfqnas.cost", "tfqnas.supernet", "tfqnas.spaces"} <= set(sources())


def test_every_room_is_in_the_plan():
    unknown = {sources()[name].room for name in library()} - set(ROOMS)
    assert not unknown, f"say in {Path(__file__).name} and in docs/design.md what these may import: {unknown}"


def test_the_plan_has_no_circles():
    def below(room, seen=()):
        assert room not in seen, f"circle: {' -> '.join((*seen, room))}"
        for other in ROOMS[room]:
            below(other, (*seen, room))

    for room in ROOMS:
        below(room)


def circle(graph):
    """A list of names that import each other in a ring, the first again at its end; None if there is none."""
    done, path = set(), []

    def walk(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        found = next(filter(None, map(walk, sorted(graph.get(name, ())))), None)
        done.add(path.pop())
        return found

    return next(filter(None, map(walk, sorted(graph))), None)


def test_no_files_import_each_other_in_a_circle():
    """Wherever an import stands: inside of a function it only hides the circle."""
    graph = {name: {module for module, _ in imports(one) if module in sources()} for name, one in sources().items()}
    found = circle(graph)
    assert not found, f"circle: {' -> '.join(found)}"


def test_circles_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"a"}}) == ["a", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_rooms_import_only_what_the_plan_gives_them():
    def rule(source, module):
        if not (within(source.name, {"tfqnas"}) and within(module, {"tfqnas"}) and module != "tfqnas"):
            return None
        room = module.split(".")[1]
        if room == source.room or room in ROOMS.get(source.room, ()):
            return None
        return f"{source.room} must not import {module}"

    assert not offences(rule)


def test_search_and_all_below_it_do_without_tensorflow():
    def rule(source, module):
        named = within(source.name, {f"tfqnas.{room}" for room in WITHOUT_TENSORFLOW})
        if named and within(module, TENSORFLOW):
            return f"{source.room} must not import {module}"
        return None

    assert not offences(rule)


def test_only_tools_import_the_command_line_and_few_rooms_the_exporter():
    def rule(source, module):
        if within(module, {"tfqnas.cli"}) and not within(source.name, {"tools", "tfqnas.cli", "tfqnas.__main__"}):
            return "only tools/ may import tfqnas.cli"
        if within(module, {"tflite_export"}) and within(source.name, {"tfqnas"}) and source.room not in EXPORTING:
            return f"{source.room} must not import tflite_export"
        if within(source.name, {"tools"}) and module != "tfqnas.cli.main":
            return "a file of tools/ imports tfqnas.cli.main.run and nothing else"
        return None

    assert not offences(rule)


def test_in_the_exporter_few_know_the_library_and_its_models():
    """An IntGraph, what it computes and its file need neither Keras nor TensorFlow; all may raise a `UserError`."""
    know_the_library = {
        f"tflite_export.{name}" for name in ("lower", "emitting", "folding", "calibrate", "explain", "biases")
    }
    know_keras = know_the_library
    know_tasks = {"tflite_export.verify", "tflite_export.model_card"}  # what outputs are for, without Keras

    def rule(source, module):
        if not within(source.name, {"tflite_export"}) or module == "tfqnas.errors.UserError":
            return None
        allowed = within(module, {"tfqnas.errors", "tfqnas.files", "tfqnas.records"}) or source.name in know_the_library
        allowed = allowed or (source.name in know_tasks and within(module, {"tfqnas.tasks"}))
        if within(module, {"tfqnas"}) and not allowed:
            return f"{source.name} must not import {module}"
        if within(module, TENSORFLOW) and source.name not in know_keras:
            return f"{source.name} must not import {module}"
        return None

    assert not offences(rule)


def test_only_the_command_line_reads_flags():
    def rule(source, module):
        read = within(module, {"absl.flags", "absl.app", "argparse"})
        return f"{module} belongs in tfqnas/cli/" if read and source.room != "cli" else None

    assert not offences(rule)


# Flags of other programs, and a property of CSS, by the file that writes them.
FOREIGN = {
    "tfqnas.report.distributions": "--fronts",
    "tflite_export.android": (
        "--use_xnnpack --use_gpu --require_full_delegation --graph --num_threads --num_runs --es"
    ),
    "tflite_export.host_benchmark": (
        "--use_gpu --require_full_delegation --model --num_threads --num_runs --result_json"
    ),
    "tflite_export.npu": "--accelerator-config --output-dir --verbose-performance --show-cpu-operations",
    "tflite_export.arm64": "--platform --target --python-version --implementation --only-binary",
}


def texts(tree):
    """Every string of a module with its line; what an f-string fills in is "{}"."""
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            inside |= {id(part) for part in node.values}
            yield "".join(map(str, parts)), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value, node.lineno


def test_the_library_names_settings_and_the_command_line_flags():
    """A message or a docstring may name a command to run, with its flags: "run tfqnas search --run_dir=..."."""
    written = [
        f"{source.path.relative_to(ROOT)}:{line}: {flag} is a flag, name the setting in backquotes"
        for source in sources().values()
        if within(source.name, {"tfqnas", "tflite_export"}) and not within(source.name, {"tfqnas.cli"})
        for text, line in texts(source.tree)
        for flag in re.findall(r"(?<![\w-])--[\w{][\w-]*", re.sub(r"tfqnas [a-z-]+( --[\w=./{}]+)+", "", text))
        if flag not in FOREIGN.get(source.name, "").split()
    ]
    assert not written, "\n".join(written)


def test_only_the_integration_knows_tf_keras():
    def rule(source, module):
        legacy = within(module, {"tf_keras", "tensorflow_model_optimization"})
        return (
            f"{module} belongs in integrations/tfmot.py or keras2.py"
            if legacy and source.name not in ("tfqnas.integrations.tfmot", "tfqnas.integrations.keras2")
            else None
        )

    assert not offences(rule)


def test_one_file_reads_what_keras_keeps_to_itself():
    private = {"_functional", "_inbound_nodes", "_keras_history", "_nodes_by_depth", "_operations", "_outbound_nodes"}
    found = {
        source.name
        for source in sources().values()
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Attribute) and node.attr in private)
        or (isinstance(node, ast.Constant) and node.value in private)
    }
    assert found == {"tfqnas.graph.keras_internals"}


def test_keras_is_never_reached_through_tensorflow():
    assert not offences(lambda _, module: within(module, {"tensorflow.keras"}) and f"import keras, not {module}")
    written = [
        f"{source.path.relative_to(ROOT)}:{node.lineno}: write keras, not tf.keras"
        for source in sources().values()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "keras"
        and isinstance(node.value, ast.Name)
        and node.value.id in ("tf", "tensorflow")
    ]
    assert not written


def test_tests_mirror_the_tree():
    """Each directory of modules has its directory of tests, which is named without tfqnas/; no other has tests."""
    modules = {source.path.parent.relative_to(ROOT) for source in sources().values()} - {Path("tools"), Path("tfqnas")}
    mirrored = {Path(*path.parts[1:]) if path.parts[0] == "tfqnas" else path for path in modules}
    tests = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*_test.py")} - {Path()}
    assert not mirrored - tests
    others = {Path("campaign")}  # trials of all
    assert not [path for path in tests - mirrored - others if not (ROOT / path).is_dir()]


def test_importing_search_and_all_below_it_loads_no_tensorflow():
    modules = [
        name for name in library() if sources()[name].room in WITHOUT_TENSORFLOW and name not in MAY_LOAD_TENSORFLOW
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = {sorted(TENSORFLOW)!r}\n"
        "    loaded = [other for other in loaded if other in sys.modules]\n"
        "    if loaded: sys.exit(f'importing {name} loads {loaded}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import tensorflow as tf", "tensorflow"),
        ("from tfqnas import arch", "tfqnas.arch"),
        ("from tfqnas.arch import Arch", "tfqnas.arch"),
        ("from . import pareto", "tfqnas.search.pareto"),
        ("from .. import cost", "tfqnas.cost"),
        ("from ..arch import Arch", "tfqnas.arch"),
        ("def f():\n    from absl import flags", "absl.flags"),
        ("from tensorflow import keras", "tensorflow.keras"),
    ],
)
def test_imports_are_seen_in_every_form(text, expected):
    source = Source("tfqnas.search.some", ROOT / "tfqnas/search/some.py", ast.parse(text))
    assert [module for module, _ in imports(source)] == [expected]
