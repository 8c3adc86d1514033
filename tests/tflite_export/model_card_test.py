import dataclasses
import re

import pytest

from tflite_export.model_card import command, model_card, versions
from tflite_export.verify import Verification

RECORD = {
    "model": "b4_3",
    "arch_key": "tiny-r24-d1",
    "bits": 4,
    "effective_mflops": 0.5,
    "mmacs": 12.25,
    "params": 41237,
    "kB": 52.53,
    "host_ms": 0.1234,
    "predicted_latency_ms": 0.5,
    "latency_device": "a phone",
    "after": 0.875,
    "arch": {"space": "tiny", "resolution": 24, "depths": [1, 2, 1], "bits": None},
    "class_names": ["cat", "dog"],
    "normalization": "(x - 128) / 128",
    "evaluation_crop": 0.875,
}
RESULT = Verification(400, 300, 1.0, 0.0, 0.99, {"litert": 0.8725}, {"keras": 0.87, "reference": 0.88, "litert": 0.88})
DATA = {"name": "pets", "train": 1400, "test": 400}
MADE = {"command": "python tools/run.py --run_dir='a b'", "versions": {"tfqnas": "0.1.0", "keras": "3.15.1"}}


def sections(card):
    return dict(re.findall(r"## (.+)\n\n((?:(?!## ).+\n|\n(?!## ))+)", card + "\n"))


def test_a_card_says_all_that_is_known():
    found = sections(model_card(RECORD, RESULT, DATA, MADE))
    assert list(found) == ["Data", "Architecture", "Costs", "Accuracy", "How it was checked", "How it was made"]
    assert "pets, 1,400 training and 400 test images" in found["Data"] and "2 (cat, dog)" in found["Data"]
    assert "87.5% of each side" in found["Data"]
    assert "resolution 24" in found["Architecture"] and "None" not in found["Architecture"]
    for text in ("0.500 million", "12.250 million", "41,237", "52.5 kB", "table of a phone: 0.500 ms", "0.12 ms"):
        assert text in found["Costs"]
    assert "400 test images" in found["Accuracy"]
    # Of all images alone: the reference's is of the 300 that were compared.
    assert re.findall(r"\d+\.\d+%", found["Accuracy"]) == ["87.50%", "87.25%"]
    assert "100.00% of 300 test images every integer" in found["How it was checked"]
    made = found["How it was made"]
    assert "    python tools/run.py --run_dir='a b'" in made and "keras 3.15.1" in made


@pytest.mark.parametrize(
    "result, expected",
    [
        (None, "LiteRT has not run the file"),
        (dataclasses.replace(RESULT, exact=False, identical=0.25), "identical on 25.00% of 300 test images"),
    ],
)
def test_a_card_says_what_was_not_checked(result, expected):
    card = model_card({}, result)
    assert expected in card and card.startswith("# Model")
    assert ("Not known" in card) == (result is None)


def test_the_command_can_be_repeated(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tool.py").touch()
    monkeypatch.setattr("sys.argv", [str(tmp_path / "tool.py"), "--run_dir=a b"])
    assert command() == "python tool.py '--run_dir=a b'"
    monkeypatch.setattr("sys.argv", ["tfqnas-run", "-x"])
    assert command() == "tfqnas-run -x"


@pytest.mark.tensorflow
def test_versions_are_those_installed():
    import keras

    assert versions()["keras"] == keras.__version__ and versions().keys() >= {"tfqnas", "ai-edge-litert"}
