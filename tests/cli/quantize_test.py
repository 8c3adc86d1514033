"""tools/quantize.py as a person uses it: one run, its files, and its messages."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

from tests.cli.calls import refused, tool
from tfqnas.dqss.result import quantized_tensors
from tfqnas.runs.model_files import load_model

FAST = ["--steps=4", "--tune_steps=2"]
NAMES = ["--weights=lsq,apot", "--inputs=lsq,mse", "--refine_images=16"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu", name="first")]
    layers += [keras.layers.Conv2D(4, 3, activation="relu", name="middle"), keras.layers.GlobalAveragePooling2D()]
    path = tmp_path_factory.mktemp("models") / "float.keras"
    keras.Sequential([*layers, keras.layers.Dense(10, name="last")], name="small").save(path)
    return path


def flags(model_file, output, *more):
    own = [] if "--mode=qat" in more else [*FAST, "--images=32"]
    return [f"--model={model_file}", "--dataset=digits", f"--output={output}", "--batch_size=16", *own, *more]


@pytest.mark.slow
def test_a_ptq_writes_model_tables_and_figures_and_says_what_comes_next(model_file, tmp_path):
    output = tmp_path / "out"
    code, out, err = tool("quantize", *flags(model_file, output, *NAMES))
    assert code == 0, err
    record = json.loads((output / "strategies.json").read_text())
    rows = list(csv.DictReader((output / "strategies.csv").read_text().splitlines()))
    assert [(r["layer"], r["role"]) for r in rows] == [
        ("first", "weights"),
        ("middle", "weights"),
        ("middle", "inputs"),
        ("last", "weights"),
        ("last", "inputs"),
    ]
    model = load_model(output / "model.keras")
    assert [q.bits for _, _, q in quantized_tensors(model)] == [int(r["bits"]) for r in rows] == [8, 4, 4, 8, 8]
    assert set(record["metrics"]["quantized"]) == {"accuracy", "agreement", "kl", "cosine"}
    assert "layer   role" in out and "float: accuracy " in out and "[1/6] guard" in err
    assert ("by the largest" in out) + ("by trying others" in out) + ("the best single strategy, " in out) == 1
    assert "[6/6] final  done" in err and "retracing" not in err
    assert (output / "strategies.svg").read_text().startswith("<?xml")
    with Image.open(output / "strategies.png") as image:
        assert image.width > 800
    apot = [r for r in rows if r["strategy"] == "apot"]
    assert ("--deployable leaves such strategies out" in out) == bool(apot)
    assert ("next: tfqnas export --model=" in out) == (not apot)
    # The same command shows what is there.
    code, again, err = tool("quantize", *flags(model_file, output, *NAMES))
    assert code == 0 and "search" not in err and again == out
    refused("--bits=3 differs from", "quantize", *flags(model_file, output, *NAMES, "--bits=3"))
    refused(
        "--evaluation_crop=0.5 differs from", "quantize", *flags(model_file, output, *NAMES, "--evaluation_crop=0.5")
    )
    refused(
        "--search_share: has no effect with --mode=ptq, it belongs to --mode=qat",
        "quantize",
        *flags(model_file, output, *NAMES, "--search_share=0.2"),
    )
    refused(
        "--images: has no effect with --mode=qat, it belongs to --mode=ptq",
        "quantize",
        *flags(model_file, output, "--mode=qat", "--images=64"),
    )


@pytest.mark.slow
def test_without_tuning_the_search_alone_is_shown(model_file, tmp_path):
    more = ["--tune_steps=0", "--guard=0", "--norefine"]
    code, out, err = tool("quantize", *flags(model_file, tmp_path / "out", *NAMES[:2], *more))
    assert code == 0, err
    assert "[1/1] search  done" in err and "chosen: by the largest coefficients; the loss on" in out


@pytest.mark.slow
def test_a_strategy_without_integers_is_warned_of_and_its_stand_in_at_the_ends_is_named(model_file, tmp_path):
    code, out, err = tool("quantize", *flags(model_file, tmp_path / "out", "--weights=apot", "--inputs=apot"))
    assert code == 0, err
    assert "weights of first, last: apot does not exist at 8 bits, so lsq takes its place\n" in out
    assert "warning: no integer model computes the strategies of 2 tensors" in out
    assert "--deployable leaves such strategies out" in out and "next:" not in out
    assert "  middle, weights: apot; no candidate could be exported\n" in out
    # The exporter names them all at once, and what could be instead.
    record = tmp_path / "out" / "strategies.json"
    found = json.loads(record.read_text())
    for choice in found["choices"]:
        choice["candidates"] = {"apot": 0.6, "lsq": 0.3, "mse": 0.1}
    record.write_text(json.dumps(found))
    code, _, err = tool(
        "export_tflite", f"--model={tmp_path}/out/model.keras", "--dataset=digits", f"--output={tmp_path}/m.tflite"
    )
    assert code == 1 and not (tmp_path / "m.tflite").exists()
    for role in ("weight", "input"):
        assert f"layer middle, {role}_quantizer: APoT is non-uniform" in err
    best = "middle, weights: lsq (coefficient 0.30); middle, inputs: lsq (coefficient 0.30)"
    assert best in err and "tfqnas quantize --deployable" in err


@pytest.mark.slow
def test_a_deployable_qat_is_exported(model_file, tmp_path):
    output = tmp_path / "out"
    more = [
        "--mode=qat",
        "--train_steps=8",
        "--checkpoint_steps=2",
        "--deployable",
        "--integer_aware",
        "--search_share=0.25",
        "--warm_up_share=0.25",
    ]
    code, out, err = tool(
        "quantize", *flags(model_file, output, "--weights=lsq,mse_per_channel", "--inputs=lsq,mse", *more)
    )
    assert code == 0, err
    assert "next: tfqnas export --model=" in out and list((output / "checkpoints").glob("step-*.npz"))
    rows = list(csv.DictReader((output / "strategies.csv").read_text().splitlines()))
    assert {r["layer"] for r in rows} == {"first", "middle", "last"} and "[2/3] search" in err
    assert len(load_model(output / "model.keras").layers) > 5  # with what an integer model rounds besides
    # What was done before a stop is neither done again nor counted.
    (output / "strategies.json").unlink()
    code, again, err = tool(
        "quantize", *flags(model_file, output, "--weights=lsq,mse_per_channel", "--inputs=lsq,mse", *more)
    )
    assert code == 0 and again == out and "[1/3] warm-up  already done" in err and "[2/3] search  already done" in err
    code, out, err = tool(
        "export_tflite",
        f"--model={output}/model.keras",
        "--dataset=digits",
        f"--output={tmp_path}/m.tflite",
        "--verify_images=64",
        "--max_accuracy_drop=100",
    )
    assert code == 0, err
    assert "written" in out and np.frombuffer((tmp_path / "m.tflite").read_bytes()[4:8], "S4")[0] == b"TFL3"


def test_what_cannot_be_is_refused_before_anything_is_loaded(model_file, tmp_path):
    refused("--weights: expected some of lsq", "quantize", *flags(model_file, tmp_path / "a", "--weights=lsk"))
    refused("--bits: expected a whole number from 2 to 16", "quantize", *flags(model_file, tmp_path / "b", "--bits=1"))
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_directory_of_something_else_and_too_few_images_are_refused(model_file, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused("it belongs to something else", "quantize", *flags(model_file, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    refused(
        "expected at least 2 batches of 16, received 8", "quantize", *flags(model_file, tmp_path / "c", "--images=8")
    )
