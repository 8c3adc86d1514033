"""The tools as a person uses them: one small run from images to models, then everything that reads it."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from tfqnas.data.config import DataConfig
from tfqnas.data.dataset import load

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPACE = {
    "name": "small", "resolutions": [12, 16], "stem_channels": 8, "head_channels": 16,
    "stages": [
        {"channels": 8, "stride": 1, "depths": [1, 2], "kernels": [3, 5], "expands": [2, 3], "se": True},
    ],
}  # fmt: skip
FLAGS = [
    "--bits=3,2", "--batch_size=50", "--held_out=100", "--recalibration_images=100", "--largest_epochs=0.5",
    "--supernet_epochs=0.5", "--search_bins=2", "--search_per_bin=3", "--models=2", "--checkpoint_steps=5",
]  # fmt: skip


def tool(name, *arguments):
    """Runs a tool; returns `(exit code, standard output, standard error)`."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def refused(expected, name, *arguments):
    """Asserts that a tool ends with a message that contains `expected`, not 0, and no traceback."""
    code, out, err = tool(name, *arguments)
    assert code != 0, out
    assert expected in err, err
    assert "Traceback" not in err, err


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "small.json"
    path.write_text(json.dumps(SPACE))
    return path


@pytest.fixture(scope="module")
def family(tmp_path_factory, space_file):
    """`(run directory, output)` of a finished run."""
    run_dir = tmp_path_factory.mktemp("runs") / "small"
    code, out, err = tool("run", f"--run_dir={run_dir}", f"--space={space_file}", *FLAGS)
    assert code == 0, err
    return run_dir, out


@pytest.mark.slow
def test_a_run_ends_with_a_table_pictures_and_models(family):
    run_dir, out = family
    for name in ("pareto.png", "training.png"):
        with PIL.Image.open(run_dir / name) as picture:
            assert picture.width > 500 and len(np.unique(np.asarray(picture))) > 20
    assert "data:image/png;base64," in (run_dir / "report.html").read_text()
    for bits in (3, 2):
        records = json.loads((run_dir / "search" / f"b{bits}" / "models.json").read_text())
        assert records[0]["model"] == f"b{bits}_largest" and len(records) >= 2
        for record in records:
            assert (run_dir / record["file"]).exists()
            assert abs(record["before"] - record["after"]) < 0.01
            assert record["tflite_identical"] == 1 and record["latency_ms"] > 0
            assert (run_dir / record["tflite"]).stat().st_size == 1000 * record["tflite_kB"]
            assert re.search(rf"^{record['model']}\s+{re.escape(record['arch_key'])}\s+{bits}\s", out, re.M), out
    assert "job" in out and "left" in out
    assert "[7/7]" in out


@pytest.mark.slow
def test_a_finished_run_is_not_done_again(family, space_file):
    run_dir, _ = family
    before = (run_dir / "checkpoints" / "supernet_b2").stat().st_mtime_ns
    code, out, err = tool("run", f"--run_dir={run_dir}", f"--space={space_file}", *FLAGS)
    assert code == 0, err
    assert out.count("already done") == 3
    assert (run_dir / "checkpoints" / "supernet_b2").stat().st_mtime_ns == before


@pytest.mark.slow
def test_other_settings_in_the_same_directory_are_refused(family, space_file):
    run_dir, _ = family
    other = [flag for flag in FLAGS if "batch_size" not in flag]
    refused("--batch_size=50", "run", f"--run_dir={run_dir}", f"--space={space_file}", *other, "--batch_size=60")


@pytest.mark.slow
def test_evaluate_agrees_with_the_table(family):
    run_dir, _ = family
    record = json.loads((run_dir / "search" / "b2" / "models.json").read_text())[0]
    code, out, err = tool("evaluate", f"--model={run_dir / record['file']}", "--dataset=digits")
    assert code == 0, err
    assert f"{record['after']:.2%} of 397 test images" in out
    code, out, err = tool(
        "evaluate", f"--checkpoint={run_dir}/checkpoints/supernet_b2", f"--arch={run_dir}/models/b2_largest.json"
    )
    assert code == 0, err
    assert f"{record['before']:.2%} of 397 test images" in out


@pytest.mark.slow
def test_predict_names_classes_and_files_that_are_no_images(family, tmp_path):
    run_dir, _ = family
    images = load(DataConfig(), held_out=1).test.images
    picture, text = tmp_path / "digit.png", tmp_path / "text.png"
    PIL.Image.fromarray(images[0, ..., 0]).save(picture)
    text.write_text("no image")
    code, out, err = tool("predict", f"--model={run_dir}/models/b3_largest.keras", "--top=2", picture, text)
    assert code == 1
    assert re.search(r"digit\.png: \d [\d.]+%, \d [\d.]+%$", out.strip()), out
    assert "text.png: not a readable image" in err and "1 of 2 files could not be read" in err


@pytest.mark.slow
def test_an_exported_file_was_run_and_compared(family, tmp_path):
    run_dir, _ = family
    source = [f"--run_dir={run_dir}", "--bits=2", "--arch=largest"]
    output = tmp_path / "m.tflite"
    code, out, err = tool("export_tflite", *source, f"--output={output}", "--explain", "--max_accuracy_drop=100")
    assert code == 0, err
    assert re.search(r"397 images: reference and LiteRT identical in 100.00% of them, largest difference 0 steps", out)
    assert re.search(r"^top-1: keras [\d.]+%, reference ([\d.]+%), litert \1$", out, re.M), out
    assert re.search(r"^stage1_block1_expand +2 ", out, re.M)
    assert output.read_bytes()[4:8] == b"TFL3" and f"written: {output}" in out
    other = tmp_path / "other.tflite"
    refused("is not written: top-1 falls", "export_tflite", *source, f"--output={other}", "--max_accuracy_drop=-100")
    assert not other.exists()
    refused("expected one of --model and --run_dir", "export_tflite", f"--output={other}")


@pytest.mark.slow
def test_mistakes_are_answered_with_what_was_expected(family, tmp_path):
    run_dir, _ = family
    refused("received 'nope'", "run", f"--run_dir={tmp_path}/a", "--dataset=nope")
    refused("is not there", "search", f"--run_dir={tmp_path}/missing")
    refused("write", "evaluate", f"--run_dir={run_dir}", "--bits=2", f"--arch={run_dir}/search/b2/pareto.json#99")
    refused("--bits: expected ints separated by commas, received 4,x", "train", f"--run_dir={tmp_path}/b", "--bits=4,x")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_help_lists_the_settings_without_tensorflow():
    code, out, _ = tool("train", "--helpfull")
    assert "--supernet_learning_rate" in out and "peak learning rate of each supernet" in out
    assert code != 0  # absl's own convention


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.cfg")), ids=lambda path: path.name)
def test_every_flagfile_describes_a_run_and_says_how_to_begin_it(path):
    from absl import flags

    from tfqnas.search.config import SearchConfig
    from tfqnas.train.config import RunConfig
    from tfqnas_tools import common

    holder = flags.FlagValues()
    lines = path.read_text().splitlines()
    other = common_study() if "study" in path.name else SearchConfig
    for settings in (RunConfig, other):
        common.define_flags(settings, holder)
    holder(["tool", *(line for line in lines if line.startswith("--"))])
    config = common.from_flags(RunConfig, holder)
    assert config.run_dir.startswith("runs/") and any(f"--flagfile=configs/{path.name}" in line for line in lines[:4])
    common.from_flags(other, holder)
    if other is SearchConfig:
        common.from_flags(SearchConfig, holder).check()


def common_study():
    """The settings of `benchmarks/inheritance.py`, which is no package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("inheritance", ROOT / "benchmarks" / "inheritance.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["inheritance"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.StudyConfig


@pytest.mark.slow
def test_a_folder_of_photos_becomes_a_model_that_classifies_them(tmp_path, space_file):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(60):
            pixels = np.clip(rng.normal(level, 30, (14 + i % 5, 20, 3)), 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.{('jpg', 'png')[i % 2]}")
    (tmp_path / "photos/dark/broken.jpg").write_bytes(b"broken")
    flags = [f"--dataset={tmp_path}/photos", f"--run_dir={tmp_path}/run", f"--space={space_file}", *FLAGS[3:],
             "--bits=3", "--batch_size=16", "--held_out=20", "--largest_epochs=12", "--crop_area=0.5", "--flip",
             "--warmup_epochs=1", "--evaluation_crop=0.9"]  # fmt: skip
    refused("photos/dark/broken.jpg: not an image that can be decoded", "run", *flags)
    code, out, err = tool("run", *flags, "--max_bad_images=1")
    assert code == 0, err
    assert "1 of 121 images cannot be read and are skipped" in out
    model = f"{tmp_path}/run/models/b3_largest.keras"
    record = json.loads((tmp_path / "run/models/b3_largest.json").read_text())
    assert record["class_names"] == ["dark", "light"] and record["evaluation_crop"] == 0.9 and record["after"] > 0.8
    code, out, err = tool("evaluate", f"--model={model}", f"--dataset={tmp_path}/photos", "--max_bad_images=1")
    assert code == 0, err
    assert f"{record['after']:.2%} of 24 test images" in out
    code, out, err = tool("predict", f"--model={model}", tmp_path / "photos/light/1.png")
    assert code == 0 and re.search(r"1\.png: (light|dark) [\d.]+%", out), err
