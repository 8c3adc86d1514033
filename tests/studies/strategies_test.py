"""The studies of strategies, without their computations."""

import importlib
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import smooth
from tfqnas import zoo
from tfqnas.data import photos, restoration
from tfqnas.errors import UserError

pytestmark = pytest.mark.tensorflow

STUDIES = pathlib.Path(__file__).parents[2] / "studies"


@pytest.fixture
def study(monkeypatch):
    """Imports a module of studies/ by its name."""
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module


def test_only_what_is_missing_and_exists_is_computed(study):
    restoration_study = study("strategies_restoration")
    arguments = restoration_study.parsed(
        ["--model=runs/edsr_x2.keras", "--bits=8,4", "--strategies=dqss,dorefa,lsq", "--seeds=0,1"]
    )
    known = [{"network": "edsr_x2", "mode": "ptq", "bits": 4, "strategy": "lsq", "seed": 1, "psnr": 30.0}]
    cases = restoration_study.missing_cases(known, "edsr_x2", arguments, {})
    found = [(case["seed"], case["bits"], case["strategy"]) for case in cases]
    eight = (
        [(8, "dqss"), (8, "lsq")]
        if restoration_study.candidates_of("dorefa", 8) is None
        else [(8, "dqss"), (8, "dorefa"), (8, "lsq")]
    )
    assert found == [(0, *e) for e in eight] + [(0, 4, "dqss"), (0, 4, "dorefa"), (0, 4, "lsq")] + [
        (1, *e) for e in eight
    ] + [(1, 4, "dqss"), (1, 4, "dorefa")]
    assert restoration_study.candidates_of("pact", 4) == {"weights": ("dorefa",), "inputs": ("pact",)}
    with pytest.raises(SystemExit):
        restoration_study.parsed(["--model=m.keras", "--strategies=lunch"])


def test_single_strategies_learn_as_long_as_a_search_and_have_lsq_where_inputs_lie_below_zero(study):
    module = study("strategies")
    arguments = module.parsed(["classification", "--model=m.keras", "--steps=100", "--bits=4", "--seeds=0"])
    for signed, inputs in (
        (False, {"lsq": "lsq", "pact": "pact", "dorefa": "dorefa", "apot": "apot"}),
        (True, {"lsq": "lsq", "pact": None, "dorefa": "lsq", "apot": "lsq"}),
    ):
        for case in module.cases(arguments):
            config = module.settings_of(case, arguments, signed)
            if case.strategy == "dqss":
                assert (config.weights, config.inputs, config.steps, config.tune_steps) == ((), (), 100, 33)
            elif case.strategy in inputs:
                assert (config and config.inputs[0]) == inputs[case.strategy]
                assert config is None or config.steps + config.tune_steps == 299
    restoration_study = study("strategies_restoration")
    arguments = restoration_study.parsed(["--model=m.keras", "--steps=60", "--bits=4"])
    totals = {
        case["strategy"]: config.steps + config.tune_steps
        for case in restoration_study.missing_cases([], "m", arguments, {})
        for config in [restoration_study.config_of(case, arguments)]
    }
    assert totals.pop("dqss") == 80 and set(totals.values()) == {180}


def test_results_of_other_settings_are_refused(study, tmp_path):
    results = tmp_path / "r.jsonl"
    row = {"network": "m", "mode": "ptq", "bits": 4, "strategy": "lsq", "seed": 0, "psnr": 30.0}
    results.write_text(json.dumps({**row, "settings": {"steps": 60, "images": 128}}) + "\n")
    module = study("strategies_restoration")
    arguments = [f"--results={results}", "--model=m.keras", "--bits=4", "--strategies=lsq"]
    with pytest.raises(SystemExit, match="--steps=90: .* has results with --steps=60: give the same"):
        module.main(arguments)
    known, parsed = [json.loads(results.read_text())], module.parsed([*arguments, "--steps=60"])
    assert module.missing_cases(known, "m", parsed, module.settings_in(parsed)) == []


def test_the_report_of_restoration_has_what_is_there(study, tmp_path, capsys):
    results, figure = tmp_path / "r.jsonl", tmp_path / "r.png"
    rows = [("", 32, "float", 32.4), ("", 32, "bicubic", 31.35)]
    rows += [("ptq", b, s, p) for b, s, p in ((8, "dqss", 32.37), (4, "dqss", 31.0), (4, "lsq", 30.5))]
    keys = ("mode", "bits", "strategy", "psnr")
    records = [{"network": "edsr_x2", **dict(zip(keys, r, strict=True)), "seed": 0, "ssim": 0.9} for r in rows]
    results.write_text("\n".join(map(json.dumps, records)) + "\n")
    study("strategies_restoration").main(["--report", f"--results={results}", f"--figure={figure}"])
    lines = capsys.readouterr().out.splitlines()
    assert "| edsr_x2 | ptq | 4 | dqss | 31.00 | -1.40 | 0.9000 |  |" in lines
    with Image.open(figure) as image:
        assert image.width > 400


def test_the_interval_is_that_of_a_mean_over_photos(study):
    interval = study("strategies_zoo").interval
    assert interval([42] * 12, 42) == (1.0, 1.0)
    same = np.random.default_rng(0).integers(0, 43, 400)
    low, high = interval(same, 42)
    half = 1.96 * same.std() / 42 / 20  # the normal approximation, for many photos
    np.testing.assert_allclose((low, high), (same.mean() / 42 - half, same.mean() / 42 + half), atol=0.004)


def test_the_report_of_the_zoo_compares_on_the_same_crops(study, tmp_path, capsys):
    results, figure = tmp_path / "z.jsonl", tmp_path / "z.png"
    shared = {
        "network": "efficientnet_lite0",
        "mode": "ptq",
        "seed": 0,
        "kl": 0.1,
        "cosine": 0.99,
        "right": 18,
        "of": 20,
        "crops": 10,
    }
    records = [
        {**shared, "bits": 6, "strategy": "dqss", "agreement": 0.9, "same": [9, 9, 9]},
        {**shared, "bits": 6, "strategy": "lsq", "agreement": 0.8, "same": [8, 8, 8]},
    ]
    results.write_text("\n".join(map(json.dumps, records)) + "\n")
    study("strategies_zoo").main(["--report", f"--results={results}", f"--figure={figure}"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "| lsq |" in line)
    assert "| 80.0% | 80.0% to 80.0% | +10.0 (+10.0 to +10.0) | 0.100 | 0.9900 | 18 of 20 | 70% to 97% |" in row
    assert figure.stat().st_size > 5_000


def test_crops_stand_beside_each_other_with_their_psnr(study, tmp_path, monkeypatch):
    found = photos.Photos([], [smooth(3, 49, 57)], (), ("cat",))
    monkeypatch.setattr(photos, "load", lambda data_dir: found)
    crops, model = study("restoration_crops"), zoo.build("edsr", filters=4, blocks=1)
    ((name, row),) = crops.rows_of([("float", model)], [("cat", 10, 12)], 16)
    assert name == "cat" and [label for label, *_ in row] == ["original", "bicubic", "float"]
    original, low = found.test[0][:48, :56], restoration.downscaled(found.test[0], 2)
    np.testing.assert_array_equal(row[0][1], original[10:26, 12:28])
    np.testing.assert_array_equal(row[2][1], zoo.upscaled(model, low)[10:26, 12:28])
    assert row[1][2] == restoration.psnr_y(restoration.bicubic(low, 2)[10:26, 12:28], original[10:26, 12:28], 0)
    assert row[2][3] == restoration.psnr_y(zoo.upscaled(model, low), original, 2)
    crops.draw([(name, row)], tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5_000
    for place in (("dog", 0, 0), ("cat", 40, 0)):
        with pytest.raises(UserError, match="--crops: "):
            crops.rows_of([("float", model)], [place], 16)
