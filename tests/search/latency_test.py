"""Latency tables: sums over blocks with a correction, and what becomes of files that are something else."""

import dataclasses
import json

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.errors import UserError
from tfqnas.search.latency import LatencyTable, Piece, Validation, correction, pieces_of

TINY = spaces.get("tiny")
# A fixed stage of several blocks, a stage without further blocks, one with an odd expand ratio.
MIXED = spaces.SearchSpace(
    "mixed",
    (8, 10),
    8,
    (
        spaces.Stage(8, 2, (3,), (3,), (2,)),
        spaces.Stage(8, 1, (1,), (3, 5), (2, 4)),
        spaces.Stage(16, 2, (1, 3), (3,), (2.5, 4)),
    ),
    16,
)


def table(space, **changes):
    """A table of random values."""
    rng = np.random.default_rng(0)
    fields = {
        "device": "host x86-64 test",
        "unit": "ms",
        "threads": 2,
        "bits": 4,
        "classes": 10,
        "channels": 1,
        "when": "2026-11-22T10:00:00+00:00",
        "factor": 1.1,
        "offset": -0.2,
        "values": {piece.key: rng.uniform(0.01, 1) for piece in pieces_of(space)},
        "validation": Validation(("a", "b"), (1.0, 2.5), (1.25, 2.0)),
    }
    return LatencyTable(space, **fields | changes)


def block_by_block(found, arch):
    """The latency of an architecture, summed by hand."""
    space, r, values = found.space, arch.resolution, found.values
    total = values[f"r{r} begin"] + values[f"r{r} end"]
    depths, choices = iter(arch.depths), iter(zip(arch.kernels, arch.expands, strict=True))
    for number, stage in enumerate(space.stages, 1):
        for block in range(stage.depths[0] if stage.fixed else next(depths)):
            kernel, expand = (stage.kernels[0], stage.expands[0]) if stage.fixed else next(choices)
            total += values[f"r{r} stage{number} {'further' if block else 'first'} k{kernel} e{expand}"]
    return found.factor * total + found.offset


@pytest.mark.parametrize("space", [TINY, MIXED, spaces.get("mbv3")], ids=lambda space: space.name)
def test_codes_are_summed_block_by_block(space):
    found = table(space)
    codes = np.random.default_rng(1).integers(0, space.choice_counts, (100, len(space.genes)))
    archs = [space.decode(code) for code in codes]  # what codes say of blocks beyond the depth is random
    latencies = found.of_codes(codes)
    assert latencies.shape == (100,) and latencies.dtype == np.float64
    np.testing.assert_allclose(latencies, [block_by_block(found, arch) for arch in archs], rtol=1e-12)
    assert found.of(archs[0]) == pytest.approx(latencies[0], rel=1e-12)
    np.testing.assert_allclose(1.1 * found.sums(codes) - 0.2, latencies, rtol=1e-12)


def test_all_choices_have_a_piece_of_their_own():
    keys = [piece.key for piece in pieces_of(MIXED)]
    assert len(set(keys)) == len(keys) == 2 * (1 + 2 + 4 + 2 * 2 + 1)
    assert Piece("further", 10, 2, 3, 2.5).key == "r10 stage3 further k3 e2.5" in keys
    assert "r8 stage2 further k3 e2" not in keys  # that stage has one block
    assert len(pieces_of(TINY)) == 3 * (1 + 1 + 3 * 2 * 6 + 1)


def test_a_table_is_read_as_it_was_written(tmp_path):
    found = table(MIXED)
    assert LatencyTable.from_json(found.to_json()) == found
    assert LatencyTable.from_json(json.loads(found.to_json())) == found
    path = tmp_path / "table.json"
    path.write_text(found.to_json())
    assert LatencyTable.load(path, MIXED) == LatencyTable.load(str(path)) == found


def test_validation_by_hand():
    found = table(TINY).validation
    np.testing.assert_allclose(found.errors, [-0.2, 0.25])
    assert found.error == pytest.approx(0.225) and found.tau == 1
    assert np.isnan(Validation().error)


def test_what_a_table_holds_for_is_said_in_a_line():
    assert table(TINY).holds_for == "space tiny (4 bits, 10 classes, 1 channel) on host x86-64 test, 2 threads"
    found = table(TINY, unit="cycles", threads=None, device="Vela ethos-u55-128", channels=3)
    assert found.holds_for == "space tiny (4 bits, 10 classes, 3 channels) on Vela ethos-u55-128"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "us"}, "unit: expected one of ms, cycles, received 'us'"),
        ({"factor": 0}, "factor: expected a positive number, received 0"),
        ({"offset": "none"}, 'offset: expected a number, received "none"'),
        ({"values": []}, "values: expected an object, received an empty list"),
        ({"values": {"r24 begin": 1.0}}, "values: 116 missing, such as 'r24 end'"),
        ({"more": 1}, "unknown field more; known are space, device"),
        ({"space": {"name": "tiny"}}, "space: missing field resolutions"),
        ({"validation": {"archs": ["a"]}}, "validation: expected as many archs as predicted"),
        ({"validation": {"seen": []}}, "validation: unknown field seen"),
    ],
)
def test_damaged_tables_are_refused(change, message, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(json.loads(table(TINY).to_json()) | change))
    with pytest.raises(UserError, match=f"latency table {path}: {message}.*; tfqnas latency-table makes such files"):
        LatencyTable.load(path, TINY)


@pytest.mark.parametrize("value", [-0.1, float("nan"), None, "1", True])
def test_a_value_that_is_no_latency_is_refused(value):
    fields = json.loads(table(TINY).to_json())
    fields["values"]["r28 stage2 first k3 e4"] = value
    with pytest.raises(ValueError, match="r28 stage2 first k3 e4: expected a number from 0 on, received"):
        LatencyTable.from_json(fields)
    del fields["values"]["r28 stage2 first k3 e4"]
    with pytest.raises(ValueError, match="values: 1 missing, such as 'r28 stage2 first k3 e4'"):
        LatencyTable.from_json(json.dumps(fields))


def test_files_that_are_none_of_the_space_are_refused(tmp_path):
    path = tmp_path / "t.json"
    with pytest.raises(UserError, match="t.json: no such file; tfqnas latency-table makes one"):
        LatencyTable.load(path, TINY)
    path.write_text(table(TINY).to_json()[:-30])
    with pytest.raises(UserError, match="t.json: not valid JSON"):
        LatencyTable.load(path, TINY)
    path.write_text("[1]")
    with pytest.raises(UserError, match="t.json: expected an object, received a list"):
        LatencyTable.load(path, TINY)
    path.write_text(table(TINY).to_json())
    with pytest.raises(UserError, match="expected one of space mbv3, it is of tiny"):
        LatencyTable.load(path, spaces.get("mbv3"))
    other = dataclasses.replace(TINY, head_channels=64, resolutions=(24,))
    with pytest.raises(UserError, match="another space of that name, with other resolutions, head_channels"):
        LatencyTable.load(path, other)


def test_files_of_other_networks_are_refused(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(table(TINY).to_json())
    for bits in (4, 2, None, "mixed"):  # all below 8 run the same operations
        assert LatencyTable.load(path, TINY, bits, 10, 1) == table(TINY)
    with pytest.raises(UserError, match="t.json: expected one of networks of 100 classes, it is of 10"):
        LatencyTable.load(path, TINY, 4, 100, 1)
    with pytest.raises(UserError, match="t.json: expected one of networks of 3 channels, it is of 1"):
        LatencyTable.load(path, TINY, 4, 10, 3)
    with pytest.raises(UserError, match="expected one of networks of 8 bits, it is of 4 bits"):
        LatencyTable.load(path, TINY, 8, 10, 1)
    path.write_text(table(TINY, bits=8).to_json())
    with pytest.raises(UserError, match="of less than 8 bits, which all run the same operations, it is of 8 bits"):
        LatencyTable.load(path, TINY, 3, 10, 1)


def test_the_correction_finds_a_line_and_weighs_errors_by_what_was_measured(rng):
    sums = rng.uniform(1, 20, 12)
    assert correction(sums, 0.8 * sums + 0.3) == pytest.approx((0.8, 0.3))
    measured = 0.8 * sums + 0.3 + rng.normal(0, 0.1, 12)
    factor, offset = correction(sums, measured)

    def loss(factor, offset):
        return (((factor * sums + offset) / measured - 1) ** 2).sum()

    near = [loss(factor + a, offset + b) for a in (-1e-3, 0, 1e-3) for b in (-1e-2, 0, 1e-2)]
    assert min(near) == loss(factor, offset)


@pytest.mark.parametrize(("sums", "measured"), [([1, 2, 3], [3, 2, 1]), ([2, 2], [1, 3])])
def test_networks_that_do_not_rise_with_their_pieces_are_refused(sums, measured):
    with pytest.raises(UserError, match="do not rise with the sums of their pieces"):
        correction(sums, measured)
