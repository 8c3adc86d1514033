"""The tools as a person uses them: one small run from images to models, then everything that reads it."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from tests.cli.calls import ROOT, process, refused, tool
from tests.report.browser import chromium
from tfqnas.arch import Arch
from tfqnas.cli import flagfiles
from tfqnas.data.data_config import DataConfig
from tfqnas.data.dataset import load

SPACE = {
    "name": "small",
    "resolutions": [12, 16],
    "stem_channels": 8,
    "head_channels": 16,
    "stages": [{"channels": 8, "stride": 1, "depths": [1, 2], "kernels": [3, 5], "expands": [2, 3], "se": True}],
}
FLAGS = [
    "--bits=3,2",
    "--batch_size=50",
    "--held_out=100",
    "--recalibration_images=100",
    "--largest_epochs=0.5",
    "--supernet_epochs=0.5",
    "--search_bins=2",
    "--search_per_bin=3",
    "--models=2",
    "--checkpoint_steps=5",
]


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "small.json"
    path.write_text(json.dumps(SPACE))
    return path


@pytest.fixture(scope="module")
def family(tmp_path_factory, space_file):
    """`(run directory, output)` of a finished run."""
    run_dir = tmp_path_factory.mktemp("runs") / "small"
    code, out, err = process(ROOT / "tools/run.py", f"--run_dir={run_dir}", f"--space={space_file}", *FLAGS)
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
            assert record["tflite_identical"] == 1 and record["tflite_compared"] == 397 and record["host_ms"] > 0
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
    assert "text.png: not an image that can be decoded" in err and "1 of 2 files could not be read" in err


def stored_in(path):
    """What a .tflite file says of itself."""
    from tflite_export.runtime import metadata_of

    return json.loads(metadata_of(path.read_bytes())["tfqnas"])


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
    assert re.search(r"^256 test images; (costs most: \S+, [\d.]+ points|no layer alone costs)", out, re.M), out
    assert re.search(r"^\[2/3\] compare  done in .* job \S+ left$", err, re.M), err
    stored = stored_in(output)
    top1 = {name: float(re.search(rf"{name} ([\d.]+)%", out)[1]) for name in ("keras", "reference", "litert")}
    assert {name: round(100 * stored["accuracy"][name], 2) for name in top1} == top1
    assert stored["accuracy"]["images"] == 397 and stored["normalization"] == "(x - 128) / 128"
    card = output.with_suffix(".md").read_text()
    assert "100.00% of 397 test images every integer" in card and f"{top1['litert']:.2f}%" in card
    assert stored["identical"] == 1 and stored["data"]["test"] == 397 and "--bits=2" in stored["made"]["command"]
    assert stored["made"]["command"] in card and stored["arch_key"] in card
    of_run = stored_in(run_dir / "models/b2_largest.tflite")
    assert of_run["accuracy"]["images"] == 397 and {"keras", "litert"} < set(of_run["accuracy"])
    other = tmp_path / "other.tflite"
    refused("is not written: top-1 falls", "export_tflite", *source, f"--output={other}", "--max_accuracy_drop=-100")
    assert not other.exists()
    refused("expected one of --model and --run_dir", "export_tflite", f"--output={other}")


@pytest.mark.slow
def test_mistakes_are_answered_with_what_was_expected(family, tmp_path):
    run_dir, _ = family
    refused("received nope", "run", f"--run_dir={tmp_path}/a", "--dataset=nope")
    refused("is not there", "search", f"--run_dir={tmp_path}/missing")
    refused("write", "evaluate", f"--run_dir={run_dir}", "--bits=2", f"--arch={run_dir}/search/b2/pareto.json#99")
    refused(
        "--bits: expected whole numbers separated by commas, received 4,x",
        "train",
        f"--run_dir={tmp_path}/b",
        "--bits=4,x",
    )
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.tensorflow
def test_names_that_are_nearly_right_are_answered_with_the_right_one(tmp_path):
    refused(
        "--search: expected one of ageing, coarse_to_fine, random, nsga2, received nsga3, did you mean nsga2?",
        "search",
        f"--run_dir={tmp_path}",
        "--search=nsga3",
    )
    refused("did you mean mbv3?", "train", "--space=mbv_3", f"--run_dir={tmp_path / 'run'}")
    refused(
        "--serch: this command has no such flag, did you mean --search?",
        "search",
        f"--run_dir={tmp_path}",
        "--serch=nsga2",
    )


def test_one_flagfile_describes_the_training_and_the_whole_run(tmp_path):
    """Flags that a tool does not know are refused before anything else: those of the search are known to train."""
    for name in ("train", "run"):
        refused(
            "--bits: expected falling bit widths from 16 to 2, received 2,3",
            name,
            "--flagfile=digits_oqa",
            f"--run_dir={tmp_path}/run",
            "--bits=2,3",
        )
    refused(
        "--search_budget: expected a whole number from 1 on, received 0",
        "search",
        "--flagfile=fashion_search",
        f"--run_dir={tmp_path}/run",
        "--search_budget=0",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_finetuned_model_is_exported_and_joins_the_report(family):
    run_dir, _ = family
    flags = [f"--run_dir={run_dir}", f"--finetune_arch={run_dir}/search/b2/pareto.json#0", "--finetune_bits=2"]
    refused(
        "--distillation=none: a finetuning has the settings of its run, there --distillation=auto",
        "train",
        *flags,
        "--distillation=none",
    )
    code, out, err = tool(
        "train",
        *flags,
        "--finetune_epochs=0.5",
        "--finetune_learning_rate=0.01",
        "--integer_aware",
        "--checkpoint_steps=7",
        "--batch_size=50",
    )
    assert code == 0, err
    (record,) = [json.loads(line) for line in (run_dir / "finetuned.jsonl").read_text().splitlines()]
    assert f"{record['file']}: {record['after']:.2%} on the test split" in out and (run_dir / record["tflite"]).exists()
    assert record["tflite_identical"] == 1 and f"{run_dir}/report.html" in out
    page = (run_dir / "report.html").read_text()
    assert page.count(f"<td>{record['model']}</td>") == 1


def key_of(record):
    return Arch.from_json(record["arch"]).key


@pytest.mark.slow
def test_the_report_of_a_run_on_a_phone_and_on_paper(family, tmp_path):
    """In a real browser: no complaint, nothing wider than the screen, the points are those of the search's files."""
    script = subprocess.run([ROOT / "scripts/chromium.sh"], capture_output=True, text=True)
    if script.returncode:
        pytest.skip(f"Chromium cannot be had: {script.stderr.strip()}")
    run_dir, _ = family
    records, fronts = [], []
    for bits in (3, 2):
        scored = [json.loads(line) for line in (run_dir / f"search/b{bits}/scored.jsonl").read_text().splitlines()]
        scored = [record for record in scored if "estimated" not in record["extra"]]
        front = json.loads((run_dir / f"search/b{bits}/pareto.json").read_text())["rows"]
        records += [(bits, key_of(record), record["accuracy"], record["costs"]) for record in scored]
        fronts += [(bits, key_of(row)) for row in front]
    with chromium(script.stdout.strip()) as browser:
        for media in ("phone", "print"):
            tab = browser.page(run_dir / "report.html", width=360, height=740, phone=media == "phone")
            if media == "print":
                tab.print_media()
            assert tab.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)") <= 360
            seen = tab.evaluate(
                "(() => { const data = JSON.parse(document.getElementById('fronts-data').textContent);"
                "const shown = s => [...document.querySelectorAll(s)].filter(e => e.getClientRects().length)"
                ".map(e => +e.dataset.i);"
                "return {points: data.points, dots: shown('.fronts .dots circle'), marks: shown('.front use')}; })()"
            )
            points = [(p["bits"], key_of(p), p["accuracy"], p["costs"]) for p in seen["points"]]
            assert points == records and sorted(seen["dots"]) == list(range(len(points)))
            assert sorted(points[i][:2] for i in seen["marks"]) == sorted(fronts)
            fetched = [request for request in tab.requests if not request.startswith("data:")]
            assert tab.complaints == [] and fetched == [(run_dir / "report.html").resolve().as_uri()]
        assert tab.pdf().startswith(b"%PDF")


@pytest.mark.slow
def test_another_budget_keeps_the_first_search_and_reuses_its_scores(family, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(family[0], copy)
    first = (copy / "search/b2/scored.jsonl").read_text()
    code, out, err = tool(
        "search",
        f"--run_dir={copy}",
        "--bits=2",
        "--search=nsga2",
        "--search_budget=4",
        "--search_population=4",
        "--max_file_kb=60",
        "--models=1",
    )
    assert code == 0, err
    assert "scores of earlier searches of this supernet are reused" in out and "[2/2] extract_b2" in out
    assert (copy / "search/b2.1/scored.jsonl").read_text() == first and (copy / "search/b2.1/models").exists()
    assert len((copy / "search/b2/scored.jsonl").read_text().splitlines()) == 4
    rows = json.loads((copy / "search/b2/pareto.json").read_text())["rows"]
    sizes = {key_of(row): row["costs"]["file_kB"] for row in rows}
    chosen = [record for record in json.loads((copy / "search/b2/models.json").read_text()) if key_of(record) in sizes]
    assert chosen
    for record in chosen:
        assert sizes[key_of(record)] == pytest.approx(record["tflite_kB"], rel=0.06)  # a few kB, with metadata


@pytest.mark.parametrize(
    "path", sorted([*flagfiles.FOLDER.glob("*.cfg"), *(ROOT / "studies").glob("*.cfg")]), ids=lambda path: path.name
)
def test_every_flagfile_describes_a_run_and_says_how_to_begin_it(path):
    from absl import flags

    from tfqnas.cli import command
    from tfqnas.search.search_config import SearchConfig
    from tfqnas.train.run_config import RunConfig

    holder = flags.FlagValues()
    lines = path.read_text().splitlines()
    other = common_study() if "study" in path.name else SearchConfig
    for settings in (RunConfig, other):
        command.define_flags(settings, holder)
    holder(["tool", *(line for line in lines if line.startswith("--"))])
    config = command.from_flags(RunConfig, holder)
    assert config.run_dir.startswith("runs/") and any(
        re.search(rf"--flagfile=(studies/)?{path.stem}\b", line) for line in lines[:4]
    )
    command.from_flags(other, holder)


def common_study():
    """The settings of `studies/inheritance.py`, which is no package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("inheritance", ROOT / "studies" / "inheritance.py")
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
    flags = [
        f"--dataset={tmp_path}/photos",
        f"--run_dir={tmp_path}/run",
        f"--space={space_file}",
        *FLAGS[3:],
        "--bits=3",
        "--batch_size=16",
        "--held_out=20",
        "--largest_epochs=12",
        "--crop_area=0.5",
        "--flip",
        "--warmup_epochs=1",
        "--evaluation_crop=0.9",
    ]
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
