"""The tool that measures latency tables, with a device whose latencies are sums over operations."""

import json
import pathlib

import numpy as np
import pytest

from tests import processes
from tfqnas import spaces
from tfqnas.errors import UserError
from tfqnas.runs import latency_pieces
from tfqnas.search.latency import LatencyTable, pieces_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = spaces.get("tiny")
# LiteRT runs each file, but what counts is 50 for the call and a number for each operation, so that no clock decides.
TOOL = """
import math
from ai_edge_litert import schema_py_generated as schema
from tflite_export import meters
from tfqnas.cli.main import run

def measure(self, blob, run=meters.HostMeter.measure):
    assert run(self, blob) > 0
    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    graph, total = model.subgraphs[0], 50
    for op in graph.operators:
        weights = graph.tensors[op.inputs[1]].shape if len(op.inputs) == 3 else [1]
        total += math.prod(graph.tensors[op.outputs[0]].shape) * math.prod(weights[1:])
    return float(total)

meters.HostMeter.measure = measure
run("latency-table")
"""


def tool(*arguments):
    done = processes.run(["-c", TOOL, "--seconds=0.0001", *arguments], cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_table_predicts_whole_networks_and_is_measured_on_after_a_kill(micro, tmp_path):
    space, output, log = tmp_path / "micro.json", tmp_path / "t.json", tmp_path / "t.jsonl"
    space.write_text(micro.to_json())
    flags = [
        f"--space={space}",
        "--classes=10",
        "--channels=1",
        f"--output={output}",
        "--rounds=2",
        "--fit_models=3",
        "--validation_models=4",
    ]
    code, out, err = tool(*flags)
    assert code == 0, err
    pieces = len(pieces_of(micro))
    assert f"{pieces} pieces and 7 whole networks on host " in out
    assert f"{2 * (pieces + 8)} measurements in 2 rounds" in out
    table = LatencyTable.load(output, micro)
    # Only the product behind a stage's last block is not the same in all subnets: its table is of deep ones.
    assert table.validation.error < 0.02 and table.validation.tau > 0.9 and len(table.validation.archs) == 4
    assert table.factor == pytest.approx(1, abs=0.05)
    assert f"Kendall tau {table.validation.tau:.2f}" in out and f"--latency_table={output} --max_latency_ms=" in out
    for arch in table.validation.archs:
        assert out.count(f"\n{arch} ") == 1

    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * (pieces + 8)
    log.write_text("".join(lines[:-3]) + lines[-3][:9])
    output.unlink()
    code, out, err = tool(*flags)
    assert code == 0, err
    assert "3 measurements in 1 round," in out
    again = LatencyTable.load(output, micro)
    assert (again.values, again.validation) == (table.values, table.validation)

    code, out, err = tool(*flags, "--bits=8")
    assert code == 1 and f"{log} holds measurements of something else: bits 4, this command has 8" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected one of --space and --run_dir"),
        (("--space=tiny", "--classes=10"), "--channels: expected a number with --space, received nothing"),
        (
            ("--run_dir=runs/x", "--classes=10"),
            "--classes: has no effect with --run_dir, which has them, it belongs to --space",
        ),
        (
            ("--space=tiny", "--classes=9", "--channels=1", "--device=vela"),
            "--seconds: has no effect with --device=vela, it belongs to --device=host",
        ),
        (
            ("--space=tiny", "--classes=9", "--channels=1", "--apk=a"),
            "--apk: has no effect with --device=host, it belongs to --device=android",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, tmp_path):
    code, _, err = tool(f"--output={tmp_path}/t.json", *flags)
    assert code == 1 and message in err and "Traceback" not in err


def test_each_round_measures_everything_in_an_order_of_its_own():
    targets = latency_pieces.Targets.chosen(TINY, 3, 2, seed=0)
    assert targets.fit[:2] == (TINY.smallest(), TINY.largest()) and len({*targets.fit, *targets.validation}) == 5
    jobs, names = targets.schedule(3, seed=1), set(targets.by_name)
    assert len(names) == len(pieces_of(TINY)) + 1 + 5
    rounds = [[name for name, number in jobs if number == r] for r in range(3)]
    assert all(set(r) == names and len(r) == len(names) for r in rounds)
    assert rounds[0] != rounds[1] and jobs == targets.schedule(3, seed=1) != targets.schedule(3, seed=2)


def test_pieces_are_cut_from_networks_of_their_choices():
    for piece in pieces_of(TINY):
        arch = latency_pieces.with_choices_of(TINY, piece)
        TINY.validate(arch)
        assert arch.depths == (2, 2, 2) and arch.resolution == 24
        if piece.stage:  # the first stage is fixed
            assert set(arch.kernels) == {piece.kernel} and set(arch.expands) == {piece.expand}
    assert len({latency_pieces.with_choices_of(TINY, piece) for piece in pieces_of(TINY)}) == 6


def test_a_table_is_exact_where_latencies_are_sums(rng):
    targets = latency_pieces.Targets.chosen(TINY, 4, 5, seed=0)
    call, values = 0.25, {piece.key: rng.uniform(0.1, 1) for piece in pieces_of(TINY)}
    medians = {latency_pieces.NOTHING: call} | {key: call + value for key, value in values.items()}
    for arch in (*targets.fit, *targets.validation):
        blocks, choices = TINY.blocks(arch), iter(zip(arch.kernels, arch.expands, strict=True))
        keys = [f"r{arch.resolution} begin", f"r{arch.resolution} end"]
        for block in blocks:
            kernel, expand = next(choices) if block.stage else (3, 1)
            part = "further" if block.index else "first"
            keys.append(f"r{arch.resolution} stage{block.stage + 1} {part} k{kernel} e{expand}")
        medians[arch.key] = call + 2 * sum(values[key] for key in keys)
    about = {"device": "d", "unit": "ms", "threads": 1, "bits": 4, "classes": 10, "channels": 1, "when": "now"}
    table = targets.table(medians, **about)
    assert (table.factor, table.offset) == (pytest.approx(2), pytest.approx(call))
    assert table.validation.error < 1e-9
    np.testing.assert_allclose([table.values[key] for key in values], list(values.values()))


def test_a_log_keeps_what_was_measured(tmp_path):
    path, about = tmp_path / "t.jsonl", {"device": "d", "space": {"name": "tiny", "sizes": (1, 2)}}
    log = latency_pieces.Log(path, about)
    for number, value in enumerate((3.0, 1.0, 2.0)):
        log.add("a", number, value)
    path.write_text(path.read_text()[:-4])
    log = latency_pieces.Log(path, about)
    assert ("a", 1) in log and ("a", 2) not in log
    log.add("a", 2, 9.0)
    assert latency_pieces.Log(path, about).medians([("a", r) for r in range(3)]) == {"a": 3.0}
    with pytest.raises(UserError, match="device d, this command has e"):
        latency_pieces.Log(path, about | {"device": "e"})
    with pytest.raises(UserError, match="another space than the tiny of this command"):
        latency_pieces.Log(path, about | {"space": {"name": "tiny", "sizes": (1, 3)}})
    path.write_text(json.dumps({"other": 1}) + "\n")
    with pytest.raises(UserError, match="t.jsonl, line 1: unknown field other; known are .* mend or remove that line"):
        latency_pieces.Log(path, about)


def test_more_networks_than_the_space_has_are_refused():
    space = TINY.pruned(TINY.largest())
    with pytest.raises(UserError, match="expected at most the 1 subnets of space"):
        latency_pieces.Targets.chosen(space, 2, 2, seed=0)
