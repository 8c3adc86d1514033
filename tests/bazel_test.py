"""BUILD covers what is there: its language is a part of Python, which evaluates it here. One test runs Bazel."""

import fnmatch
import pathlib
import re
import subprocess
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def glob(include, exclude=()):
    """Bazel's `glob`, which refuses a pattern that matches nothing. In Python, `**` at the end finds directories."""
    found = {}
    for pattern in include:
        paths = [path for path in ROOT.glob(pattern + "/*" * pattern.endswith("**")) if path.is_file()]
        assert paths, f"{pattern} matches nothing"
        found |= dict.fromkeys(path.relative_to(ROOT).as_posix() for path in paths)
    return sorted(path for path in found if not any(fnmatch.fnmatch(path, pattern) for pattern in exclude))


@pytest.fixture(scope="module")
def build():
    """The variables of BUILD, and as `targets` the arguments of every target."""
    names = {"targets": {}, "glob": glob, "requirement": "@pypi//:{}".format, "all_requirements": []}
    for rule in ("filegroup", "py_binary", "py_library", "py_test"):
        names[rule] = lambda **given: names["targets"].update({given["name"]: given})
    names.update(load=lambda *_: None, package=lambda **_: None)
    exec((ROOT / "BUILD").read_text(), names)
    return names


def test_every_file_of_the_libraries_is_in_one_target(build):
    libraries = [build["targets"][name] for name in ("library", "tfqnas", "tflite_export")]
    held = [path for library in libraries for path in library["srcs"] + library.get("data", [])]
    assert sorted(held) == glob(["tflite_export/**", "tfqnas/**"], exclude=["*.pyc"])


def test_every_tool_and_test_is_a_target_and_every_name_in_a_target_exists(build):
    targets = build["targets"]
    assert {path.removesuffix(".py") for path in glob(["tools/*.py", "tests/**/*_test.py"])} <= set(targets)
    names = {name for given in targets.values() for kind in ("srcs", "data", "deps") for name in given.get(kind, [])}
    files = {name for name in names if name[0] not in ":@"}
    assert {name[1:] for name in names if name[0] == ":"} <= set(targets)
    assert not [name for name in files if not (ROOT / name).is_file()]


def test_packages_and_python_are_those_of_pyproject(build):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert build["REQUIREMENTS"] == sorted(re.match(r"[\w-]+", text)[0] for text in project["dependencies"])
    versions = re.findall(r'python_version = "(.*)"', (ROOT / "MODULE.bazel").read_text())
    assert versions and all(project["requires-python"].startswith(f">={version},") for version in versions)


@pytest.mark.slow
def test_bazel_builds_all_and_runs_some_tests():
    done = subprocess.run([ROOT / "scripts/bazel_check.sh"], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
