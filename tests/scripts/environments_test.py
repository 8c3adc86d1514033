"""The scripts that make environments and run in them: with a fake python, so nothing is downloaded."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

UTILITIES = [
    *("bash", "cat", "chmod", "cp", "dirname", "env", "find", "flock", "grep", "mkdir", "mv", "rm"),
    *("sha256sum", "shasum", "sleep", "tail", "touch"),
]

# Stands for every python and for the one in .venv; what happens in pip is the content of the file `pip`.
FAKE_PYTHON = """#!/usr/bin/env bash
here="$(dirname "$FAKE_CALLS")"
case "$1 $2" in
    "-c "*%d.%d*) case "$0" in *3.13*) [[ "$3" == 3.13 ]] ;; *) [[ "$3" == 3.11 ]] ;; esac ;;
    "-c "*version_info*) exit "${FAKE_UNSUITABLE:-0}" ;;
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
    assert "no Python 3.11, 3.12 or 3.13" in err and "found: none" in err
    checkout.program("python3", FAKE_PYTHON.replace("${FAKE_UNSUITABLE:-0}", "1").replace("3.11.9", "3.10.1"))
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
    code, _, err = checkout.run(FAKE_UNSUITABLE="1")
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
        ("quickstart.sh", ["--seed=1"], ["python tools/run.py --flagfile=digits_oqa --seed=1"]),
    ],
)
def test_what_the_commands_run(installed, script, arguments, expected):
    shutil.copy(installed.venv / "bin" / "python", installed.venv / "bin" / "ruff")
    code, _, err = installed.run(script, *arguments)
    assert (code, err) == (0, "")
    assert installed.made() == expected


OTHER_PYTEST = (
    "python -m pytest --quiet -m not slow and not tensorflow --numprocesses=auto --maxprocesses=4 --dist=loadfile "
    "--ignore=tests/packaging_test.py -x"
)


def test_quick_tests_run_with_each_other_python_that_is_there(installed):
    """3.12 is a name of 3.11, as pyenv's shims are, and 3.13 is what it says."""
    installed.program("python3.12", "#!/usr/bin/env bash\nexit 127\n")
    installed.program("python3.13")
    code, out, err = installed.run("scripts/other_pythons.sh", "-x")
    assert (code, err) == (0, "") and "no Python 3.12 on this machine" in out and "making .venv-3.13 with" in out
    venv, pip, pytest_call = installed.made()
    assert venv == "venv" and "-c constraints.txt" in pip and "tensorflow" not in pip and pytest_call == OTHER_PYTEST
    assert installed.run("scripts/other_pythons.sh", "-x")[0] == 0
    assert installed.made() == [OTHER_PYTEST]  # the environment is there


def test_packages_that_cannot_be_had_for_another_python_are_no_failure_but_a_failing_test_is(installed):
    installed.program("python3.13")
    installed.behave(pip='echo "no network"; exit 1')
    code, out, _ = installed.run("scripts/other_pythons.sh")
    assert code == 0 and "no network" in out and "nothing is tested with Python 3.13" in out
    installed.behave()
    installed.program("python3.13", FAKE_PYTHON.replace("*) echo", '"-m pytest") exit 1 ;;\n    *) echo'))
    assert installed.run("scripts/other_pythons.sh")[0] == 1


def test_scripts_can_be_executed():
    for name in ("quickstart.sh", "test.sh", ".ci/run", *(path.as_posix() for path in ROOT.glob("scripts/*.sh"))):
        assert os.access(ROOT / name, os.X_OK), name
