"""Whatever is read back is refused with file and place if it is damaged: each reader with each kind of damage."""

import json
import pathlib
import re

import pytest

from tfqnas import records, spaces
from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import read_json, read_jsonl, read_regular
from tfqnas.search.directory import front_in, scored_in, settings_in
from tfqnas.search.latency import LatencyTable, pieces_of
from tfqnas.search.pareto import ParetoFront, Result
from tfqnas.search.search_config import SearchConfig
from tfqnas.settings import written
from tfqnas.train.run_config import RunConfig

TINY = spaces.get("tiny")
RESULT = {"arch": json.loads(TINY.smallest().to_json()), "accuracy": 0.5, "costs": {"mmacs": 1.5}, "extra": {}}
FRONT = {"by": "mmacs", "rows": [RESULT]}
TABLE = LatencyTable(TINY, "host", "ms", 1, 4, 10, 1, "today", {piece.key: 1.0 for piece in pieces_of(TINY)})
SEARCH = {
    **written(SearchConfig()),
    "space": "a",
    "supernet": "b",
    "latency_table_sha256": None,
    "latency_device": None,
}


def line(path):
    (result,) = scored_in(path.parent, TINY)
    return result


# A reader, the name of its file, what the file holds, and a path to a number in it.
READERS = {
    "run": (lambda p: RunConfig.from_json(read_regular(p), str(p)), "config.json", written(RunConfig()), ["seed"]),
    "space": (spaces.get, "space.json", json.loads(TINY.to_json()), ["stages", 1, "channels"]),
    "scores": (line, "scored.jsonl", RESULT, ["accuracy"]),
    "front": (
        lambda p: front_in(p.parent, TINY),
        "pareto.json",
        {"by": "mmacs", "rows": [RESULT]},
        ["rows", 0, "accuracy"],
    ),
    "search": (lambda p: settings_in(p.parent), "config.json", SEARCH, ["search_budget"]),
    "latency table": (LatencyTable.load, "table.json", json.loads(TABLE.to_json()), ["classes"]),
    "architecture": (lambda p: Arch.from_json(read_regular(p), str(p)), "arch.json", RESULT["arch"], ["resolution"]),
}
NUMBERS = {
    "null": "null",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "bool": "true",
    "text": '"1"',
    "list": "[1]",
    "object": '{"a": 1}',
    "10^400": "1" + "0" * 400,
    "1e400": "1e400",
    "5,000 digits": "7" * 5000,
    "10^12": "1000000000000",
    "negative": "-3",
    "nested": "[" * 100_000,
}
TEXTS = {
    "empty": lambda text: "",
    "blank": lambda text: " \n",
    "list instead": lambda text: f"[{text}]",
    "truncated": lambda text: text[: len(text) // 2],
    "twice": lambda text: text[:-1] + "," + text[1:],
    "extra": lambda text: '{"surplus": 1,' + text[1:],
    "deep": lambda text: "[" * 100_000 + "]" * 100_000,
    "binary": lambda text: "\x00\x01\udcff",
}


def written_to(tmp_path, reader, text):
    read, name, *_ = READERS[reader]
    path = tmp_path / name
    path.write_bytes((text + "\n" * name.endswith("l")).encode(errors="surrogateescape"))
    return read, path


def with_number(reader, text):
    """The file of a reader with another text in the place of a number."""
    value, path = json.loads(json.dumps(READERS[reader][2])), READERS[reader][3]
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = "HERE"
    return json.dumps(value).replace('"HERE"', text)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_whole_is_read_also_after_a_byte_order_mark(tmp_path, reader):
    text = json.dumps(READERS[reader][2])
    for before in ("", "\ufeff"):
        read, path = written_to(tmp_path, reader, before + text)
        assert read(path) is not None


@pytest.mark.parametrize("damage", NUMBERS)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_number_is_refused_with_file_and_place(tmp_path, reader, damage):
    if damage == "10^12" and reader == "architecture":
        damage = "negative"  # the space of an architecture knows its resolutions
    read, path = written_to(tmp_path, reader, with_number(reader, NUMBERS[damage]))
    with pytest.raises((UserError, ValueError), match=re.escape(path.name)) as caught:
        assert read(path) is None
    assert isinstance(caught.value, UserError)
    if damage != "nested":
        assert READERS[reader][3][-1] in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("damage", TEXTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_refused_by_name(tmp_path, reader, damage, capsys):
    read, path = written_to(tmp_path, reader, TEXTS[damage](json.dumps(READERS[reader][2])))
    if reader == "scores" and damage in ("empty", "blank", "truncated", "binary"):
        assert read_jsonl(path) == []  # a killed process leaves such lines, which are named and left out
        assert "line 1 is cut off or damaged" in capsys.readouterr().err
        return
    with pytest.raises(UserError, match=re.escape(path.name)):
        read(path)


@pytest.mark.parametrize("reader", ["space", "scores", "front", "latency table", "architecture"])
def test_every_missing_field_is_refused_by_name(tmp_path, reader):
    whole = READERS[reader][2]
    for name in whole:
        read, path = written_to(tmp_path, reader, json.dumps({k: v for k, v in whole.items() if k != name}))
        try:
            read(path)
        except UserError as error:
            assert f"missing field {name}" in str(error)
        else:
            assert name in ("extra", "factor", "offset", "validation", *(json.loads(TINY.to_json()).keys() - {"name"}))


def test_the_message_names_file_line_place_expected_and_received(tmp_path):
    path = tmp_path / "scored.jsonl"
    path.write_text(json.dumps(RESULT) + "\n" + json.dumps({**RESULT, "accuracy": None}) + "\n")
    with pytest.raises(UserError) as caught:
        scored_in(tmp_path, TINY)
    assert str(caught.value).startswith(
        f"{path}, line 2: accuracy: expected a number from 0 to 1, received null; mend or remove that line"
    )


def test_results_of_another_space_or_with_impossible_numbers_are_refused(tmp_path):
    other = json.loads(spaces.get("mbv3").smallest().to_json())
    for change, message in (
        ({"arch": other}, "this architecture is of the space 'mbv3'"),
        ({"accuracy": 7}, "accuracy: expected a number from 0 to 1, received 7"),
        ({"costs": {"mmacs": -1}}, "costs.mmacs: expected a number from 0 on, received -1"),
    ):
        (tmp_path / "scored.jsonl").write_text(json.dumps({**RESULT, **change}) + "\n")
        (tmp_path / "pareto.json").write_text(json.dumps({"by": "mmacs", "rows": [{**RESULT, **change}]}))
        with pytest.raises(UserError, match=re.escape(message)):
            scored_in(tmp_path, TINY)
        with pytest.raises(UserError, match=re.escape(message)):
            front_in(tmp_path, TINY)


def test_a_front_has_the_costs_that_it_is_of(tmp_path):
    with pytest.raises(UserError, match=r"rows\[0\].costs: missing ms"):
        ParetoFront.from_json({"by": "ms", "rows": [RESULT]})


def test_a_setting_that_was_written_and_is_missing_is_refused_and_one_that_came_later_is_told():
    kept = json.loads(RunConfig(batch_size=32).to_json())
    del kept["batch_size"]
    with pytest.raises(UserError, match="missing batch_size"):
        RunConfig.from_json(kept, "config.json", pytest.fail)
    del kept["settings"]  # an earlier version wrote no number of settings
    said = []
    assert RunConfig.from_json(kept, "config.json", said.append) == RunConfig()
    assert said == [
        "config.json: an earlier version wrote it; settings that came later have their defaults: batch_size"
    ]


def test_files_and_lines_that_are_too_large_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tfqnas.files._LONGEST_LINE", 100)
    (tmp_path / "a").write_text('{"a": "' + "x" * 200 + '"}\n')
    with pytest.raises(UserError, match="a, line 1: expected at most"):
        read_jsonl(tmp_path / "a")
    with pytest.raises(UserError, match="expected a file of at most"):
        read_regular(tmp_path / "a", largest=100)
    with pytest.raises(OSError, match="not a file"):
        read_json(tmp_path)


def test_a_search_by_a_searcher_that_is_not_known_here_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**SEARCH, "search": "of_a_plugin"}))
    settings, _ = settings_in(tmp_path)
    assert settings["search"] == "of_a_plugin" and settings["search_budget"] == SearchConfig().search_budget


def test_types_are_checked_to_their_depth():
    kind = dict[str, list[tuple[int, records.Share]]]
    assert records.conform({"a": [[1, 0.5]]}, kind, "x") == {"a": [(1, 0.5)]}
    with pytest.raises(UserError, match=r"^x: a\[1\]\[0\]: expected a whole number, received 1.5$"):
        records.conform({"a": [[1, 0.5], [1.5, 0]]}, kind, "x")
    with pytest.raises(UserError, match=r"^x: a\[0\]: expected a list of 2, received one of 1$"):
        records.conform({"a": [[1]]}, kind, "x")
    with pytest.raises(UserError, match="received 4 times|Infinity"):
        records.decode("[1e999]", "x")


def test_nothing_else_parses_json_of_runs_and_users():
    """One place reads JSON; what else parses it copies what was just written, forgets a damaged cache, or reads what
    another process of this program or its environment says."""
    known = {"records.py", "folder.py", "locks.py", "cluster.py"}
    root = pathlib.Path(records.__file__).parent
    copies = re.compile(r"json\.loads\((json\.dumps|[\w.]*arch\.to_json|self\.space\.to_json)")
    found = {
        path.name
        for path in root.rglob("*.py")
        for text in path.read_text().splitlines()
        if re.search(r"json\.loads?\(", text) and not copies.search(text)
    }
    assert found == known


def test_a_result_that_was_read_is_the_one_that_was_written(tmp_path):
    (tmp_path / "scored.jsonl").write_text(json.dumps(RESULT) + "\n")
    assert scored_in(tmp_path, TINY) == [Result(TINY.smallest(), 0.5, {"mmacs": 1.5}, {})]
