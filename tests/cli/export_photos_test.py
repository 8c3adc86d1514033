"""tools/export_tflite.py --dataset=photos, without the process around it."""

import keras
import numpy as np
import pytest

from tests.cli.calls import tool
from tests.data.conftest import smooth
from tflite_export.runtime import Runtime, metadata_of
from tflite_export.verify import Verification
from tfqnas import LSQ, initialize, quantize, zoo
from tfqnas.data import photos, restoration
from tfqnas.dqss.result import Choice, DqssResult
from tfqnas.errors import UserError
from tfqnas.files import write_json
from tfqnas.quantizers import APoT, get
from tfqnas.runs import exporting_photos
from tfqnas.runs.model_files import load_model
from tfqnas.tasks import SuperResolution


@pytest.fixture
def prepared(monkeypatch):
    """Two smooth photos for training and one for the test."""
    found = photos.Photos([smooth(1, 60, 64), smooth(2, 50, 70)], [smooth(3, 48, 56)])
    monkeypatch.setattr(photos, "load", lambda data_dir: found)
    return found


def saved(path, integer_aware):
    keras.utils.set_random_seed(1)
    model = zoo.build("edsr", filters=4, blocks=1)
    if integer_aware:
        model = quantize(model, weights=LSQ(bits=6), inputs=LSQ(bits=6, signed=None), integer_aware=True)
        initialize(model, next(restoration.patches([smooth(1, 60, 64)], 2, 12, 4, 0))[0])
    model.save(path)
    return str(path)


def exported(path, output, *flags):
    own = ["--dataset=photos", "--input_size=12,16", "--calibration_images=8"]
    return tool("export_tflite", f"--model={path}", f"--output={output}", *own, *flags)


@pytest.mark.parametrize("integer_aware", [False, True])
def test_a_model_of_any_size_becomes_a_file_of_one(integer_aware, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting_photos, "COMPARED", 3)
    output = tmp_path / "m.tflite"
    path = saved(tmp_path / "m.keras", integer_aware)
    code, out, err = exported(path, output, "--max_psnr_drop=1", "--explain")
    assert code == 0, err
    assert "3 images: reference and LiteRT identical in 100.00% of them" in out and "PSNR alone" in out
    assert "| PSNR of 3 test images | |" in output.with_suffix(".md").read_text()
    runtime = Runtime(output.read_bytes())
    assert runtime.run(np.zeros((2, 12, 16, 3), np.int8)).shape == (2, 24, 32, 3)
    if not integer_aware:  # nothing has set a range for its output, so it is that of pixels
        assert runtime.output["quantization"] == (1 / 128, 0)
    assert b'"litert"' in metadata_of(output.read_bytes())["tfqnas"]


def test_crops_and_what_they_come_from_belong_together(prepared):
    lows, highs = exporting_photos.pairs(prepared.train, 2, (10, 12), 5, seed=0)
    assert lows.shape == (5, 10, 12, 3) and highs.shape == (5, 20, 24, 3)
    for low, high in zip(lows, highs, strict=True):
        inner = (restoration.downscaled(high, 2) - (low * 128 + 128))[2:-2, 2:-2]
        np.testing.assert_array_equal(inner, 0)


def test_other_models_and_sizes_are_refused(prepared, tmp_path):
    same = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same")], name="same")
    with pytest.raises(UserError, match="expected a super-resolution network for `dataset=photos`.* received same"):
        exporting_photos.prepared(same, None, (8, 8))
    with pytest.raises(UserError, match="input_size: expected at most 25,32, .* received 30,30"):
        exporting_photos.pairs(prepared.train, 2, (30, 30), 1, seed=0)


def test_more_memory_than_any_machine_has_is_refused_before_it_is_taken(prepared, tmp_path):
    model = load_model(saved(tmp_path / "m.keras", False))
    with pytest.raises(UserError, match=r"`calibration_images=2000000000`: so many images of 64 x 64 .* at most 8 GB"):
        exporting_photos.prepared(model, None, (64, 64), 2_000_000_000)


def test_levels_that_are_not_uniform_are_named_with_what_would_be(prepared, tmp_path):
    path = tmp_path / "model.keras"
    model = quantize(
        zoo.build("edsr", filters=4, blocks=1), weights=get("apot", 4, "weights"), inputs=LSQ(4, None), end_bits=4
    )
    initialize(model, next(restoration.patches(prepared.train, 2, 12, 4, 0))[0])
    model.save(path)
    layer = next(layer.name for layer in model.layers if isinstance(getattr(layer, "weight_quantizer", None), APoT))
    choice = Choice(layer, "weights", 4, "apot", {"apot": 0.7, "lsq": 0.3}, deployable=False)
    record = DqssResult(model, [choice], [], [], {"final": 0.0}).record()
    write_json(tmp_path / "strategies.json", {**record, "metrics": {}})
    code, _, err = exported(path, tmp_path / "m.tflite")
    assert code and "APoT is non-uniform" in err and f"{layer}, weights: lsq (coefficient 0.30)" in err
    assert not (tmp_path / "m.tflite").exists()


def test_files_that_compute_something_else_are_refused():
    scores, task = {"keras": 30.0, "reference": 29.96, "litert": 29.96}, SuperResolution(scale=2)

    def problem(identical, largest, allowed, exact=True):
        return Verification(4, 4, identical, largest, 1.0, scores, scores, exact, task).problem(allowed)

    assert problem(1.0, 0, None) is None  # 0.05 by default
    expected = "PSNR falls by 0.040 dB, from 30.00 dB to 29.96 dB; `max_psnr_drop` allows 0.03"
    assert expected in problem(1.0, 0, 0.03)
    assert "differ in 25.00% of 4 images, by up to 2 steps" in problem(0.75, 2, 1)
    assert problem(0.75, 2, 1, exact=False) is None
