"""What is installed, and the scripts that install it: with a fake python, so nothing is downloaded."""

import ast
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# -- the wheel ----------------------------------------------------------------------------------------


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


# -- the scripts --------------------------------------------------------------------------------------

UTILITIES = [
    *("bash", "cat", "chmod", "cp", "dirname", "env", "find", "flock", "grep", "mkdir", "mv", "rm"),
    *("sha256sum", "shasum", "sleep", "tail", "touch"),
]

# Stands for every python and for the one in .venv; what happens in pip is the content of the file `pip`.
FAKE_PYTHON = """#!/usr/bin/env bash
here="$(dirname "$FAKE_CALLS")"
case "$1 $2" in
    "-c "*version_info*) exit "${FAKE_NOT_311:-0}" ;;
    "-c "*) exit 0 ;;
    "--version ") echo "Python 3.11.9" ;;
    "-m venv") echo venv >>"$FAKE_CALLS"; mkdir -p "$3/bin"; . "$here/venv"; cp "$0" "$3/bin/python" ;;
    "-m pip") if [[ "$3" == install ]]; then echo "pip ${*:4}" >>"$FAKE_CALLS"; . "$here/pip"; fi ;;
    *) echo "python $*" >>"$FAKE_CALLS" ;;
esac
"""
HANG = 'touch "$here/hanging"; exec sleep 60'


class Checkout:
    """A checkout with the scripts alone, and a PATH with a fake python and nothing else that could be one."""

    def __init__(self, directory: Path):
        self.root = directory / "checkout"
        self.bin = directory / "bin"
        self.bin.mkdir(parents=True)
        self.root.mkdir()
        for name in ("pyproject.toml", "constraints.txt", "setup.py", "quickstart.sh", "test.sh"):
            shutil.copy(ROOT / name, self.root)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        shutil.copytree(ROOT / ".ci", self.root / ".ci")
        for name in UTILITIES:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)
        self.calls = directory / "calls"
        self.venv = self.root / ".venv"
        self.hanging = directory / "hanging"
        self.program("python3.11")
        self.behave()

    def program(self, name, text=FAKE_PYTHON):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def behave(self, pip="", venv=""):
        (self.calls.parent / "pip").write_text(pip + "\n")
        (self.calls.parent / "venv").write_text(venv + "\n")

    def start(self, script="scripts/setup_env.sh", *arguments, **environment):
        environment = {"PATH": str(self.bin), "FAKE_CALLS": str(self.calls), "HOME": str(self.root), **environment}
        command, pipes = [str(self.root / script), *arguments], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, cwd="/", start_new_session=True, text=True, **pipes)

    def run(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def made(self):
        """What was called since the last time."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines

    def kill_when_hanging(self, process):
        deadline = time.monotonic() + 20
        while not self.hanging.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.hanging.unlink()

    def stamps(self):
        return [p.name for p in self.venv.glob(".tfqnas-*") if p.name != ".tfqnas-owned"]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.fixture
def installed(checkout):
    """A checkout with its environment."""
    assert checkout.run()[0] == 0
    checkout.made()
    return checkout


PIP = "pip --disable-pip-version-check --no-input -e .[dev] -c constraints.txt"


def test_set_up_makes_the_environment_once(checkout):
    code, out, err = checkout.run()
    assert (code, err) == (0, "")
    assert "making .venv" in out and "with pip" in out
    assert checkout.made() == ["venv", PIP]
    assert len(checkout.stamps()) == 1

    assert checkout.run() == (0, "", "")
    assert checkout.made() == []


@pytest.mark.parametrize("where", ["pip", "venv"])
def test_an_environment_whose_making_was_killed_is_made_anew(checkout, where):
    checkout.behave(**{where: HANG})
    checkout.kill_when_hanging(checkout.start())
    (checkout.venv / "half-unpacked").touch()
    assert checkout.stamps() == []
    checkout.made()

    checkout.behave()
    code, out, _ = checkout.run()
    assert code == 0 and "anew" in out
    assert checkout.made() == ["venv", PIP]
    assert not (checkout.venv / "half-unpacked").exists()
    assert len(checkout.stamps()) == 1
    assert sorted(p.name for p in checkout.root.glob(".venv*")) == [".venv", ".venv.lock"]


def test_a_failed_installation_says_which_step_and_is_repeated(checkout):
    checkout.behave(pip='echo "ERROR: No matching distribution found for tensorflow"; exit 1')
    code, _, err = checkout.run()
    assert code == 1
    assert "No matching distribution" in err and "installing the requirements: pip failed" in err
    assert checkout.stamps() == []
    checkout.behave()
    assert checkout.run()[0] == 0


def test_a_missing_python_is_said_with_what_was_looked_for(checkout):
    (checkout.bin / "python3.11").unlink()
    code, _, err = checkout.run()
    assert code == 1
    assert "no Python 3.11" in err and "found: none" in err
    checkout.program("python3", FAKE_PYTHON.replace("${FAKE_NOT_311:-0}", "1").replace("3.11.9", "3.10.1"))
    code, _, err = checkout.run()
    assert code == 1
    assert "python3 (Python 3.10.1)" in err
    assert not checkout.venv.exists()


def test_a_python_that_only_has_the_name_is_passed_over(checkout):
    checkout.program("python3.11", "#!/usr/bin/env bash\necho 'python3.11: command not found' >&2\nexit 127\n")
    checkout.program("python3")
    code, out, _ = checkout.run()
    assert code == 0
    assert f"{checkout.bin}/python3 (" in out


def test_a_python_that_was_asked_for_is_used_or_refused(checkout, tmp_path):
    (checkout.bin / "python3.11").rename(tmp_path / "mine")
    code, out, _ = checkout.run(TFQNAS_PYTHON=str(tmp_path / "mine"))
    assert code == 0 and str(tmp_path / "mine") in out
    shutil.rmtree(checkout.venv)
    code, _, err = checkout.run(TFQNAS_PYTHON="/nowhere/python")
    assert code == 1 and "TFQNAS_PYTHON=/nowhere/python" in err


def test_two_at_once_install_once(checkout):
    if not shutil.which("flock"):
        pytest.skip("no flock")
    checkout.behave(pip="sleep 0.3")
    both = [checkout.start(), checkout.start()]
    outputs = [process.communicate(timeout=30)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert checkout.made() == ["venv", PIP]
    assert sum("another set-up" in out for out in outputs) == 1


def test_changed_requirements_are_installed_into_the_environment(installed):
    (installed.venv / "mine").touch()
    with open(installed.root / "constraints.txt", "a") as file:
        file.write("six==1.17.0\n")
    code, out, _ = installed.run()
    assert code == 0 and "have changed" in out
    assert installed.made() == [PIP]
    assert (installed.venv / "mine").exists()
    assert len(installed.stamps()) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_uv_is_used_where_it_is_and_pip_where_uv_fails(checkout, fails):
    checkout.program(
        "uv",
        f"""#!/usr/bin/env bash
        echo "uv $1" >>"$FAKE_CALLS"
        if [[ "$1" == pip ]]; then exit {int(fails)}; fi
        for last; do :; done
        mkdir -p "$last/bin"; cp "{checkout.bin}/python3.11" "$last/bin/python"
        """,
    )
    code, out, _ = checkout.run()
    assert code == 0
    calls = [call for call in checkout.made() if call != "uv python"]
    assert calls == ["uv venv", "uv pip", *(["venv", PIP] if fails else [])]
    assert ("uv could not" in out) == fails
    assert len(checkout.stamps()) == 1


def test_an_environment_that_is_not_ours_is_used_and_never_removed(checkout):
    (checkout.venv / "bin").mkdir(parents=True)
    (checkout.venv / "mine").touch()
    shutil.copy(checkout.bin / "python3.11", checkout.venv / "bin" / "python")
    assert checkout.run()[0] == 0
    assert checkout.made() == [PIP]
    (stamp,) = checkout.stamps()
    (checkout.venv / stamp).unlink()
    code, _, err = checkout.run(FAKE_NOT_311="1")
    assert code == 1 and "Move it away" in err
    assert (checkout.venv / "mine").exists()


def test_a_copied_checkout_makes_its_own_environment(installed, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(installed.root, other, symlinks=True)
    installed.root, installed.venv = other, other / ".venv"
    code, out, _ = installed.run()
    assert code == 0 and "moved" in out
    assert installed.made() == ["venv", PIP]


CHECKS = ["python check .", "python format --quiet --check .", "python -m mypy"]
PYTEST = "python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder"


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("test.sh", [], [*CHECKS, f"{PYTEST} -m not slow"]),
        ("test.sh", ["--quick", "-x"], [*CHECKS, f"{PYTEST} -m not slow and not tensorflow -x"]),
        ("test.sh", ["--all"], [*CHECKS, PYTEST]),
        ("test.sh", ["-x", "--all", "tests/a b_test.py"], [*CHECKS, f"{PYTEST} -x tests/a b_test.py"]),
        ("test.sh", ["-k", "lsq"], [*CHECKS, f"{PYTEST} -m not slow -k lsq"]),
        (".ci/run", [], [*CHECKS, PYTEST]),
        ("quickstart.sh", ["--seed=1"], ["python tools/run.py --flagfile=configs/digits_oqa.cfg --seed=1"]),
    ],
)
def test_what_the_commands_run(installed, script, arguments, expected):
    shutil.copy(installed.venv / "bin" / "python", installed.venv / "bin" / "ruff")
    code, _, err = installed.run(script, *arguments)
    assert (code, err) == (0, "")
    assert installed.made() == expected


def test_scripts_can_be_executed():
    for name in ("quickstart.sh", "test.sh", ".ci/run", *(path.as_posix() for path in ROOT.glob("scripts/*.sh"))):
        assert os.access(ROOT / name, os.X_OK), name
