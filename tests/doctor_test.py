import os
import subprocess
import sys

import pytest

from tfqnas import doctor

REQUIREMENTS = ["absl-py<2,>=1.4", "keras_tuner >=1.4.8", 'pytest>=8; extra == "dev"', "importlib_resources"]


@pytest.mark.parametrize(
    "distribution, wanted",
    [("absl-py", [("<", (2,)), (">=", (1, 4))]), ("keras-tuner", [(">=", (1, 4, 8))]), ("pytest", []), ("numpy", [])],
)
def test_what_is_wanted_is_read_from_the_metadata(distribution, wanted):
    assert doctor.wanted_of(distribution, REQUIREMENTS) == wanted


@pytest.mark.parametrize(
    "version, wanted, expected",
    [
        ("1.4.0", [(">=", (1, 4)), ("<", (2,))], True),
        ("2.0", [("<", (2,))], False),
        ("2", [("<", (2, 0, 1))], True),
        ("1.3.9", [(">=", (1, 4))], False),
        ("2.21.0+cpu", [("==", (2, 21))], True),
        ("9", [], True),
    ],
)
def test_versions_are_compared_number_by_number(version, wanted, expected):
    assert doctor.fits(version, wanted) == expected


def test_everything_that_is_needed_is_here_and_it_says_so():
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFDS_DATA_DIR": "/nowhere"}
    done = subprocess.run([sys.executable, "-m", "tfqnas.doctor"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout
    assert "all that is needed is there" in done.stdout
    assert "CPU:0" in done.stdout and "WRONG" not in done.stdout
    assert "absent /nowhere" in done.stdout and "prepare_data.py" in done.stdout


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch, capsys):
    versions = {name: "99.0" for name, _ in doctor.NEEDED} | {"tensorflow": "2.20.0", "keras": None}
    monkeypatch.setattr(doctor, "version_of", versions.get)
    wanted = {"tensorflow": [(">=", (2, 21)), ("<", (2, 22))]}
    monkeypatch.setattr(doctor, "wanted_of", lambda name: wanted.get(name, []))
    assert doctor.main() == 1
    said = capsys.readouterr().out
    assert "WRONG  tensorflow" in said and "pip install 'tensorflow>=2.21,<2.22'" in said
    assert "WRONG  keras" in said and "not looked at" in said
    assert "2 of what is needed is wrong" in said


def test_all_distributions_that_setup_asks_for_are_looked_at():
    import importlib.metadata
    import re

    asked = {re.match(r"[\w.-]+", r).group() for r in importlib.metadata.requires("tfqnas") if "extra ==" not in r}
    known = {name for name, _ in doctor.NEEDED}
    assert {n for n in asked if not any(doctor._same(n, k) for k in known)} <= {"flatbuffers", "importlib_resources"}
