"""evaluate, quantize and export of a segmentation network, as a person uses them."""

import keras
import pytest

from tests.cli.calls import refused, tool
from tests.tasks.scenes import network, write_scenes
from tfqnas.tasks import TaskConfig, examples_of


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("segmentation")
    write_scenes(root / "scenes", 60)
    keras.utils.set_random_seed(0)
    model = network()
    examples = examples_of(model, TaskConfig(dataset=str(root / "scenes")))
    model.compile(keras.optimizers.Adam(0.01), examples.task.keras_loss())
    model.fit(*examples.read("train", examples.numbers["train"]), batch_size=8, epochs=8, verbose=0)
    model.save(root / "m.keras")
    return root


@pytest.mark.slow
def test_a_segmentation_network_from_float_to_file(home):
    model, data = f"--model={home}/m.keras", f"--dataset={home}/scenes"
    code, out, err = tool("evaluate", model, data)
    assert code == 0, err
    assert "mean IoU of 12 test images of" in out
    fast = ["--steps=2", "--tune_steps=2", "--images=40", "--batch_size=8", "--weights=lsq", "--inputs=lsq"]
    code, out, err = tool("quantize", model, data, f"--output={home}/small", "--integer_aware", "--bits=8", *fast)
    assert code == 0, err
    assert "quantized: miou 0." in out and "agreement" in out and "next: tfqnas export" in out
    small, output = f"--model={home}/small/model.keras", f"--output={home}/m.tflite"
    code, out, err = tool("export_tflite", small, data, output, "--max_miou_drop=1")
    assert code == 0, err
    assert "12 images: reference and LiteRT identical in 100.00%" in out and "the same class of a pixel as the" in out
    assert "mean IoU: keras" in out
    card = (home / "m.md").read_text()
    assert "| mean IoU of 12 test images | |" in card and "the class of a pixel is the Keras model's" in card
    code, out, err = tool("evaluate", small, data, "--task=detection", f"--reference={home}/m.keras")
    assert code == 0 and "dB SQNR of raw outputs of 12 test images" in out, err
    code, out, err = tool("export_tflite", small, data, output, "--task=detection", "--explain")
    assert code == 0 and "SQNR of raw outputs: reference" in out and "SQNR of raw outputs alone" in out, err
    refused("--max_accuracy_drop: has no effect on segm", "export_tflite", small, data, output, "--max_accuracy_drop=1")
    refused("expected --reference, a model to compare with", "evaluate", small, data, "--task=detection")
