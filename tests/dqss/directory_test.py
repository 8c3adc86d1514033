"""The directory of a quantized model belongs to one model and one set of settings."""

import keras
import numpy as np
import pytest

from tests.dqss.conftest import network
from tfqnas.dqss.directory import Directory
from tfqnas.dqss.result import DqssResult
from tfqnas.dqss.training import fingerprint
from tfqnas.errors import UserError
from tfqnas.runs.model_files import model_record

SETTINGS = {"mode": "qat", "bits": 4, "weights": ["lsq"]}


def test_it_goes_on_with_the_same_and_refuses_another_model_or_setting(tmp_path):
    Directory(tmp_path / "out", SETTINGS, "m.keras", "abc").checkpoints.save(1, {"v": np.zeros(2)}, {})
    assert not Directory(tmp_path / "out", SETTINGS, "m.keras", "abc").finished
    with pytest.raises(UserError, match=r"`model`: .* is of another model \(m.keras, abc\), received m.keras \(abd\)"):
        Directory(tmp_path / "out", SETTINGS, "m.keras", "abd")
    assert not Directory(tmp_path / "out", SETTINGS, "./m.keras", "abc").finished  # the same by another path
    with pytest.raises(UserError, match="`weights=lsq,mse` differs from .* which has `weights=lsq`: give the same, or"):
        Directory(tmp_path / "out", {**SETTINGS, "weights": ["lsq", "mse"]}, "m.keras", "abc")


def test_where_nothing_was_made_yet_other_settings_do_no_harm(tmp_path):
    Directory(tmp_path, SETTINGS, "m.keras", "abc")
    assert not Directory(tmp_path, {**SETTINGS, "bits": 3}, "m.keras", "abc").finished


def test_what_belongs_to_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="it belongs to something else"):
        Directory(tmp_path, SETTINGS, "m.keras", "abc")
    with pytest.raises(UserError, match="it belongs to something else"):
        Directory(tmp_path / "notes.txt", SETTINGS, "m.keras", "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_fingerprint_tells_weights_apart():
    one, two = network(), network()
    two.set_weights(one.get_weights())
    assert fingerprint(one) == fingerprint(two)
    two.get_layer("head").bias.assign(two.get_layer("head").bias.value + 1e-3)
    assert fingerprint(one) != fingerprint(two)


def test_a_result_without_quantizers_is_written_too(tmp_path):
    directory = Directory(tmp_path, SETTINGS, "m.keras", "abc")
    directory.write(
        DqssResult(network(), [], [], [], {"final": 0.0}), {"float": {"accuracy": 0.5}}, {"class_names": ["a", "b"]}
    )
    assert directory.finished and directory.results["metrics"] == {"float": {"accuracy": 0.5}}
    assert (tmp_path / "strategies.csv").read_text() == "layer\n" and not (tmp_path / ".model.keras").exists()
    classifier = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert model_record(tmp_path / "model.keras", classifier)["class_names"] == ["a", "b"]
    (tmp_path / "model.keras").unlink()
    assert not directory.finished
