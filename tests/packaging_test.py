"""What is installed: the wheel, the source distribution, and the packages that they require."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import processes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy, because building leaves files behind."""
    copy = tmp_path_factory.mktemp("copy") / "tfqnas"
    skipped = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")

    def ignored(directory, names):  # runs/ holds results, tfqnas/runs/ is a package
        return skipped(directory, names) | ({"runs"} if Path(directory) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=ignored)
    code = "import setuptools.build_meta as build; print(build.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_libraries_and_no_other(wheel):
    files = {path for top in ("tfqnas", "tflite_export") for path in (ROOT / top).rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for path in files if path.parent.name != "__pycache__"}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == expected


PROGRAM = """
import atexit, sys
from importlib import metadata
sys.path.insert(0, sys.argv.pop(1))
(package,) = metadata.distributions(name="tfqnas", path=sys.path[:1])
(script,) = package.entry_points
main = script.load()
assert script.name == "tfqnas" and sys.modules[main.__module__].__file__.startswith(sys.path[0])
atexit.register(lambda: print({"absl", "keras", "numpy", "tensorflow"} & set(sys.modules), file=sys.stderr))
main()
"""


def test_the_only_program_of_the_wheel_shows_its_commands_and_loads_no_tensorflow(wheel, tmp_path):
    command = [sys.executable, "-c", PROGRAM, wheel, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "set()\n")
    assert "tfqnas COMMAND --help" in done.stdout


@pytest.fixture(scope="module")
def installation(wheel, tmp_path_factory):
    """A directory in which the wheel is installed, without its requirements."""
    path = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", path, wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.slow
@pytest.mark.tensorflow
def test_an_installation_without_a_checkout_does_the_main_job(installation, tmp_path):
    """From an empty directory, with a flag file by its name, to an integer model and its use."""
    environment = {**os.environ, "PYTHONPATH": str(installation), "HOME": str(tmp_path / "home")}

    def tfqnas(*words):
        code = "import sys; from tfqnas.cli import main; sys.argv[0] = 'tfqnas'; main.main()"
        done = processes.run(["-c", code, *map(str, words)], cwd=tmp_path, env=environment)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    assert "tfqnas COMMAND --help" in tfqnas("--help") and str(ROOT) not in tfqnas("train", "--help")
    assert tfqnas("--version").startswith("tfqnas 0")
    short = ["--bits=3", "--space=nano.json", "--batch_size=50", "--recalibration_images=100", "--warmup_epochs=0"]
    short += [
        "--largest_epochs=0.04",
        "--supernet_epochs=0.04",
        "--search=nsga2",
        "--search_budget=6",
        "--search_population=3",
    ]
    short += ["--random_subnets=0", "--supernet_learning_rate=0.02"]
    space = {"name": "nano", "resolutions": [8], "stem_channels": 8, "head_channels": 16}
    stage = {"channels": 8, "stride": 1, "depths": [1], "kernels": [3, 5], "expands": [2], "se": False}
    (tmp_path / "nano.json").write_text(json.dumps({**space, "stages": [stage]}))
    assert "report.html" in tfqnas("run", "--flagfile=digits_oqa", "--run_dir=mine", *short)
    model = "mine/models/b3_largest.keras"
    # Two steps of training leave a network whose classes depend on the rounding of 8 bits.
    flags = [f"--model={model}", "--dataset=digits", "--output=m.tflite", "--max_accuracy_drop=5"]
    assert "identical in 100.00%" in tfqnas("export", *flags)
    assert "397 test images of digits" in tfqnas("evaluate", f"--model={model}", "--dataset=digits")
    import PIL.Image

    PIL.Image.new("L", (8, 8), 99).save(tmp_path / "picture.png")
    assert re.search(r"picture\.png: \d [\d.]+%", tfqnas("predict", f"--model={model}", "picture.png"))
    made = {path.name for path in tmp_path.iterdir()}
    assert made <= {"home", "mine", "nano.json", "picture.png", "m.tflite", "m.md"}


def test_the_source_distribution_builds_the_same_wheel(wheel, tmp_path):
    """It holds what a build needs and no more, and no file of the checkout's own."""
    copy = wheel.parents[1]
    code = "import setuptools.build_meta as build; print(build.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = (copy / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    tops = {path.name for path in source.iterdir()}
    needed = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "setup.py", "tflite_export", "tfqnas"}
    assert tops - {"tfqnas.egg-info", "MANIFEST.in"} == needed
    code = "import setuptools.build_meta as build; print(build.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (again,) = source.glob("*.whl")
    names = [sorted(zipfile.ZipFile(path).namelist()) for path in (wheel, again)]
    assert names[0] == names[1]


def test_constraints_pin_every_requirement_and_what_those_require():
    """Otherwise two installations differ, and Bazel, which takes no package that the lock does not name, fails."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if re.match(r"[A-Za-z]", line)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {"pyproject.toml": sum(project["optional-dependencies"].values(), project["dependencies"])}
    for package in metadata.distributions():
        if canonicalize_name(package.name) in pinned:
            required[package.name] = package.requires or []
    assert len(required) > 100
    for package, texts in required.items():
        for requirement in map(Requirement, texts):
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            assert not needed or canonicalize_name(requirement.name) in pinned, f"{package} requires {requirement}"


def test_everything_imported_is_a_declared_dependency():
    given = metadata.packages_distributions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    imported = {}
    for path in (path for top in ("tfqnas", "tflite_export", "tools") for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0]: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported[node.module.split(".")[0]] = path
    others = imported.keys() - sys.stdlib_module_names - {"tfqnas", "tflite_export"}
    assert {"keras", "numpy", "absl"} <= others
    undeclared = [name for name in others if not declared & {canonicalize_name(d) for d in given.get(name, ())}]
    assert not undeclared, {name: str(imported[name]) for name in undeclared}


@pytest.mark.tensorflow
@pytest.mark.parametrize("package", ["tfqnas", "tfqnas.dqss", "tfqnas.zoo", "tflite_export"])
def test_names_that_are_loaded_on_use_exist(package):
    module = importlib.import_module(package)
    assert module.__all__ and all(getattr(module, name) is not None for name in module.__all__)
