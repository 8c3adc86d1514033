"""The tools on a space with bit widths to choose, from images to integer files."""

import json

import numpy as np
import PIL.Image
import pytest

from tests.cli.calls import refused, tool
from tests.cli.commands_test import FLAGS, SPACE
from tfqnas.arch import Arch

pytestmark = pytest.mark.slow
MIXED = {**SPACE, "name": "small_mixed", "weight_bits": [2, 4], "input_bits": [2, 4]}
COMMON = ["--batch_size=50", "--held_out=100", "--recalibration_images=100", "--checkpoint_steps=5"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mixed")
    (directory / "space.json").write_text(json.dumps(MIXED))
    code, out, err = tool(
        "run",
        f"--run_dir={directory}/run",
        f"--space={directory}/space.json",
        *COMMON,
        "--float_epochs=1",
        "--mixed_epochs=0.3,0.5",
        "--random_subnets=3",
        "--search=nsga2",
        "--search_budget=12",
        "--models=2",
        "--search_population=6",
    )
    assert code == 0, err
    assert "mixed_largest" in out and "fractional zero points" in out
    return directory / "run"


def test_a_run_ends_with_mixtures_as_exact_files(run_dir):
    records = json.loads((run_dir / "search/mixed/models.json").read_text())
    assert records[0]["model"] == "mixed_largest" and len(records) >= 2
    for record in records:
        assert record["bits"] == "mixed" and Arch.from_json(record["arch"]).bits is not None
        assert abs(record["before"] - record["after"]) < 0.01 and 0 <= record["before_snapping"] <= 1
        assert "tflite_refused" not in record and (run_dir / record["tflite"]).exists()


def test_the_same_command_goes_on_and_a_stage_that_is_done_is_not_trained_again(run_dir):
    lines = (run_dir / "log.jsonl").read_text().splitlines()
    stages = [json.loads(line)["stage"] for line in lines if '"finished"' in line]
    assert stages == ["float", "supernet_mixed_float", "supernet_mixed"]


def test_a_search_keeps_to_the_bit_widths_that_a_target_supports(run_dir):
    code, _, err = tool(
        "search",
        f"--run_dir={run_dir}",
        "--search=random",
        "--search_bins=1",
        "--search_per_bin=6",
        "--models=1",
        "--search_weight_bits=4",
        "--search_bits_by=tensor",
    )
    assert code == 0, err
    rows = json.loads((run_dir / "search/mixed/pareto.json").read_text())["rows"]
    archs = [Arch.from_json(row["arch"]) for row in rows]
    assert archs and all(weights == 4 for arch in archs for weights, _ in arch.bits)
    refused("--search_weight_bits: ", "search", f"--run_dir={run_dir}", "--search_weight_bits=3")
    refused("--search_bits_by: ", "search", f"--run_dir={run_dir}", "--search_bits_by=nothing")


def test_tools_take_the_mixed_supernet_by_its_name(run_dir, tmp_path):
    code, out, err = tool("evaluate", f"--run_dir={run_dir}", "--bits=mixed", "--arch=smallest")
    assert code == 0 and "in supernet_mixed" in out, err
    code, out, err = tool(
        "export_tflite",
        f"--run_dir={run_dir}",
        "--bits=mixed",
        "--arch=largest",
        f"--output={tmp_path}/m.tflite",
        "--max_accuracy_drop=100",
    )
    assert code == 0 and "identical in 100.00%" in out, err
    refused("--bits: expected one of this run's mixed, received 4", "evaluate", f"--run_dir={run_dir}", "--bits=4")


def test_a_mixture_is_finetuned_with_the_rounding_of_its_file(run_dir):
    code, out, err = tool(
        "train",
        f"--run_dir={run_dir}",
        "--finetune_arch=smallest",
        "--finetune_bits=mixed",
        "--finetune_epochs=0.3",
        "--finetune_learning_rate=0.01",
        "--integer_aware",
    )
    assert code == 0 and ".tflite" in out, err


def test_fronts_of_runs_on_the_same_images_are_compared(run_dir, tmp_path):
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    uniform = tmp_path / "uniform"
    code, _, err = tool("run", f"--run_dir={uniform}", f"--space={tmp_path}/space.json", *FLAGS, "--bits=4")
    assert code == 0, err
    code, out, err = tool("compare_fronts", f"--run_dirs={uniform},{run_dir}", f"--output={tmp_path}/fronts.png")
    assert code == 0, err
    assert "4 bits" in out and "mixed" in out and "100 held-out images" in out
    with PIL.Image.open(tmp_path / "fronts.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 20
    refused("is not there", "compare_fronts", f"--run_dirs={tmp_path}/none")
    refused("--cost: expected one of", "compare_fronts", f"--run_dirs={uniform}", "--cost=price")


def test_what_a_mixed_supernet_needs_is_asked_for(run_dir, tmp_path):
    space = run_dir.parent / "space.json"
    refused("--float_epochs: expected a positive number", "train", f"--run_dir={tmp_path}/a", f"--space={space}")
    refused(
        "--mixed_epochs: expected 2 values",
        "train",
        f"--run_dir={tmp_path}/b",
        f"--space={space}",
        "--float_epochs=1",
        "--mixed_epochs=1",
    )
    refused("such as tiny_qfa", "search", f"--run_dir={_uniform_run(tmp_path)}", "--search_weight_bits=4")


def _uniform_run(tmp_path):
    """A run directory of one bit width, whose settings alone are read."""
    from tfqnas.train.run_config import RunConfig

    config = RunConfig(run_dir=str(tmp_path / "c"), bits=(4,))
    (tmp_path / "c").mkdir()
    (tmp_path / "c/config.json").write_text(config.to_json())
    return tmp_path / "c"
