import importlib.metadata
import os
import subprocess
import sys

import pytest

from tfqnas import doctor


@pytest.fixture
def required(monkeypatch):
    """Sets what the metadata of tfqnas asks for, and what is installed."""

    def set_to(requirements, versions):
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: requirements)
        monkeypatch.setattr(importlib.metadata, "metadata", lambda name: {"Requires-Python": ">=3.11,<3.14"})
        monkeypatch.setattr(doctor, "version_of", versions.get)

    return set_to


@pytest.mark.parametrize(
    "version, wanted, ok",
    [
        ("1.4.0", ">=1.4,<2", True),
        ("2.0", "<2", False),
        ("2", "<2.0.1", True),
        ("1.3.9", ">=1.4", False),
        ("2.21.0+cpu", "==2.21", True),
        ("2.21.0rc1", ">=2.20", True),
        ("9", "", True),
        (None, "", False),
    ],
)
def test_versions_are_compared_number_by_number(version, wanted, ok, required):
    required([f"some{wanted}"], {"some": version})
    assert [(finding.name, finding.ok) for finding in doctor.packages()[1:]] == [("some", ok)]


def test_what_the_metadata_asks_for_is_looked_at_without_extras(required):
    required(["absl-py<2,>=1.4", "keras_tuner >=1.4.8", 'pytest>=8; extra == "dev"', 'x; python_version > "3"'], {})
    assert [finding.name for finding in doctor.packages()[1:]] == ["absl-py", "keras_tuner", "x"]


def test_a_checkout_that_is_not_installed_is_told_so(monkeypatch, capsys):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", absent)
    assert doctor.main() == 1
    assert "WRONG  tfqnas" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "ok"), [("3.10.9", False), ("3.11.0", True), ("3.13.1", True), ("3.14.0", False)])
def test_python_is_one_that_is_tested(version, ok, required, monkeypatch):
    required([], {})
    monkeypatch.setattr(doctor.platform, "python_version", lambda: version)
    (finding,) = doctor.packages()
    assert finding.ok is ok and (ok or "expected <3.14,>=3.11" in str(finding))


@pytest.mark.tensorflow
def test_everything_that_is_needed_is_here_and_it_says_so():
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFDS_DATA_DIR": "/nowhere"}
    done = subprocess.run([sys.executable, "-m", "tfqnas", "doctor"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout
    assert "all requirements are met" in done.stdout
    assert "CPU:0" in done.stdout and "WRONG" not in done.stdout
    assert "absent /nowhere" in done.stdout and "tfqnas prepare-data" in done.stdout


def test_what_is_missing_is_named_with_the_way_to_get_it(required, capsys):
    required(["tensorflow>=2.21,<2.22", "keras", "numpy"], {"tensorflow": "2.20.0", "numpy": "2.0"})
    assert doctor.main() == 1
    said = capsys.readouterr().out
    assert "WRONG  tensorflow" in said and "pip install 'tensorflow<2.22,>=2.21'" in said
    assert "WRONG  keras" in said and "not examined" in said
    assert "2 requirements are not met" in said
