"""What a run's family is asked for, on a run that has trained nothing."""

import dataclasses

import pytest

from tfqnas.errors import UserError
from tfqnas.files import append_jsonl
from tfqnas.search import ParetoFront, Result
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def run(tmp_path, micro):
    from tfqnas.runs.run import Run

    (tmp_path / "micro.json").write_text(micro.to_json())
    return Run.create(RunConfig(run_dir=str(tmp_path / "run"), space=str(tmp_path / "micro.json"), bits=(4, 3, 2)))


def test_limits_need_to_suit_only_the_bit_widths_that_are_searched(run):
    from tfqnas.runs.family import Family

    smallest = [run.costs.of(run.space.smallest(), bits)["kB"] for bits in (4, 2)]
    family = Family(run, SearchConfig(max_kb=sum(smallest) / 2))
    assert list(family.progress(all_bits=[2])._work) == ["search_b2", "extract_b2"]
    with pytest.raises(UserError, match=r"search of the 4-bit supernet: `max_kb`: expected at least [\d.]+, the small"):
        family.progress()


def test_the_most_accurate_is_always_among_the_models():
    from tfqnas.runs.extraction import along

    @dataclasses.dataclass
    class Row:
        accuracy: float

    def rows(*accuracies):
        return [Row(accuracy) for accuracy in accuracies]

    assert along(rows(1, 2, 3, 4, 5), 3) == [0, 2, 4]
    assert along(rows(1, 5, 3, 4, 2), 3) == [0, 1, 4] and along(rows(1, 5, 3), 1) == [1]
    assert along(rows(5, 1, 1, 1), 2) == [0, 3] and along(rows(1, 2), 9) == [0, 1] and along([], 3) == []
    for best in range(9):
        chosen = along(rows(*(float(i == best) for i in range(9))), 4)
        assert best in chosen and len(chosen) == 4


def test_a_subnet_that_is_chosen_twice_is_extracted_once_and_has_both_names(run, monkeypatch):
    from tfqnas.files import read_json, write_json
    from tfqnas.runs import family as module

    extracted = []

    def extract_model(run, supernet, arch, path, more):
        extracted.append(path.name)
        path.parent.mkdir(exist_ok=True)
        path.with_name(f"{path.name}.keras").write_bytes(path.name.encode())
        record = {"model": path.name, "arch_key": arch.key, "file": f"models/{path.name}.keras"}
        write_json(path.with_name(f"{path.name}.json"), record)
        return record, None

    def export(run, record, model):
        (run.directory / "models" / f"{record['model']}.tflite").write_bytes(b"integers")
        return {"tflite": f"models/{record['model']}.tflite"}

    monkeypatch.setattr(module, "extract_model", extract_model)
    monkeypatch.setattr(module, "export_model", export)
    found = module.Family(run, SearchConfig(models=2))
    rows = [Result(run.space.smallest(), 0.5, {}), Result(run.space.largest(), 0.9, {})]
    monkeypatch.setattr(found, "front", lambda bits: ParetoFront(tuple(rows), "kB"))
    records = found.extract(4, Part(), supernet="supernet")
    assert extracted == ["b4_largest", "b4_0"]
    assert [r["model"] for r in records] == ["b4_largest", "b4_0", "b4_1"]
    twin = records[2]
    assert (run.directory / twin["file"]).read_bytes() == b"b4_largest" and twin["file"] == "models/b4_1.keras"
    assert (run.directory / twin["tflite"]).read_bytes() == b"integers"
    assert read_json(run.directory / "models/b4_1.json") == {
        "model": "b4_1",
        "arch_key": run.space.largest().key,
        "file": "models/b4_1.keras",
    }


class Part:
    def update(self, *args):
        pass


def test_finetuned_models_join_the_table_and_the_report(run):
    from tfqnas.runs.family import Family

    arch = run.space.largest()
    append_jsonl(run.directory / "log.jsonl", {"stage": "s", "step": 1, "loss": 1.0})
    family = Family(run, SearchConfig())
    record = {"model": "finetune_b2_x", "arch_key": arch.key, "arch": dataclasses.asdict(arch), "bits": 2}
    for after in (0.91, 0.92):  # done twice, the last one counts
        family.add_finetuned({**record, "after": after})
    assert [r["after"] for r in family.models()] == [0.92]
    page = (run.directory / "report.html").read_text()
    assert "finetune_b2_x" in page and "92.00%" in page and "91.00%" not in page


def test_the_table_tells_what_a_latency_table_predicts_from_what_was_measured_here(run):
    from tfqnas.runs import run_report

    record = {"model": "m", "host_ms": 0.25}
    assert "by table" not in str(run_report.columns([record])) and "By table" not in run_report.note([record])
    predicted = {**record, "predicted_latency_ms": 3.5, "latency_device": "space tiny on a phone"}
    headings = [column[1] for column in run_report.columns([record, predicted])]
    assert headings[-2:] == ["ms here", "ms by table"]
    assert "predicted by the latency table of space tiny on a phone" in run_report.note([record, predicted])


def test_the_report_shows_the_front_that_was_searched(run, rng, monkeypatch):
    """Along the first searched cost; not one made anew of another."""
    from tfqnas import report
    from tfqnas.runs import run_report
    from tfqnas.search import ParetoFront, model_costs
    from tfqnas.search.objectives import Objectives

    objectives = Objectives(run.space, model_costs(run.space, 2, 10, 1))
    archs = list(dict.fromkeys(run.space.sample(rng) for _ in range(30)))
    scores = [sum(arch.kernels) / 100 + i / 1000 for i, arch in enumerate(archs)]
    results = [Result(arch, score, objectives.record(arch)) for arch, score in zip(archs, scores, strict=True)]
    front = ParetoFront.of(results, ("kB", "mbitops"))
    assert front.rows != ParetoFront.of(results, "effective_mflops").rows
    directory = run.directory / "search" / "b2"
    directory.mkdir(parents=True)
    (directory / "pareto.json").write_text(front.to_json())
    for result in results:
        append_jsonl(directory / "scored.jsonl", dataclasses.asdict(result))
    append_jsonl(run.directory / "log.jsonl", {"stage": "s", "step": 1, "loss": 1.0})
    seen = {}
    distributions, figure = report.distributions, report.pareto_figure
    monkeypatch.setattr(report, "distributions", lambda *a: seen.update(fronts=a[1], by=a[2]) or distributions(*a))
    monkeypatch.setattr(report, "pareto_figure", lambda *a: seen.update(points=a[0], cost=a[4]) or figure(*a))
    run_report.write(run, {2: directory, 4: directory.with_name("b4")}, [])
    assert seen["by"] == seen["cost"] == "kB"
    assert [row["costs"]["kB"] for row in seen["fronts"][2]] == sorted(row.costs["kB"] for row in front.rows)
    assert sum(point["on_front"] for point in seen["points"][2]) == len(ParetoFront.of(results, "kB").rows)
