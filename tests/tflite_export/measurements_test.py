"""The table of measurements: written line by line, read again, continued after a kill."""

import csv
import dataclasses
import datetime
import errno

import pytest

from tflite_export import android, measurements
from tfqnas.errors import UserError


def row(**changes):
    values = dict.fromkeys(field.name for field in dataclasses.fields(measurements.Row)) | {
        "model": "a, b.tflite",
        "sha256": "0123456789012345",
        "file_kB": 134.3,
        "serial": "R58N",
        "via": "app",
        "accelerator": "cpu",
        "threads": 4,
        "device": "Pixel",
        "system": 'Android "14"',
        "delegate": "",
        "status": "ok",
        "when": "2026-11-21T10:00:00+00:00",
    }
    return measurements.Row(**values | changes)


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "latency.csv"
    table = measurements.MeasurementTable(path)
    rows = [row(avg_us=2950340.0, runs=50, p95_us=62), row(threads=1, status='failed: it, "said"')]
    for one in rows:
        table.append(one)
    assert measurements.MeasurementTable(path).rows == rows == table.rows
    with path.open() as file:
        assert [line["avg_us"] for line in csv.DictReader(file)] == ["2950340.0", ""]


@pytest.mark.parametrize("cut", [1, 30, 90])
def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path, cut):
    path = tmp_path / "latency.csv"
    table = measurements.MeasurementTable(path)
    table.append(row())
    table.append(row(threads=1))
    path.write_bytes(path.read_bytes()[:-cut])
    again = measurements.MeasurementTable(path)
    assert [one.threads for one in again.rows] == [4]
    again.append(row(threads=2))
    assert [one.threads for one in measurements.MeasurementTable(path).rows] == [4, 2]


def test_a_table_that_was_killed_within_its_first_line_begins_anew(tmp_path):
    path = tmp_path / "latency.csv"
    path.write_text("model,sha2")
    measurements.MeasurementTable(path).append(row())
    assert measurements.MeasurementTable(path).rows == [row()]


def test_other_files_are_not_written_to(tmp_path):
    path = tmp_path / "results.csv"
    for content in ("name,ms\nm,3\n", "notes without an end"):
        path.write_text(content)
        with pytest.raises(UserError, match="its first line is not that of a latency table; choose another `output`"):
            measurements.MeasurementTable(path)
        assert path.read_text() == content
    measurements.MeasurementTable(tmp_path / "latency.csv").append(row())
    with open(tmp_path / "latency.csv", "a") as file:
        file.write("one,two\n")
    with pytest.raises(UserError, match="latency.csv, line 3: not a row of this table"):
        measurements.MeasurementTable(tmp_path / "latency.csv")


def test_on_a_full_disk_the_rows_before_are_kept(tmp_path, monkeypatch):
    table = measurements.MeasurementTable(tmp_path / "latency.csv")
    table.append(row())
    before = table.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(android.os, "fsync", full)
    with pytest.raises(UserError, match=r"a row cannot be written \(No space left.*the rows before it are kept"):
        table.append(row(threads=1))
    assert table.path.read_bytes() == before
    with pytest.raises(UserError, match="No space left on device"):
        measurements.MeasurementTable("/dev/full")


def test_a_failed_measurement_is_repeated_and_its_last_row_counts(fake):
    model = measurements.Model.read(fake.model())
    table = measurements.MeasurementTable(fake.models / "latency.csv")
    moment = datetime.datetime(2026, 11, 21, 10, tzinfo=datetime.UTC)
    fake.be(logs={"gpu": "fallback"})
    with fake.device() as device:
        todo = measurements.jobs(device, [model, model], ["cpu", "gpu"], [1])
        rows = list(measurements.measure_all(todo, table, now=lambda: moment))
        assert [one.status.split(":")[0] for one in rows] == ["ok", "invalid"]
        assert rows[1].avg_us is None and rows[0].when == "2026-11-21T10:00:00+00:00"
        fake.be()
        table = measurements.MeasurementTable(table.path)
        todo = [job for job in todo if not table.holds(job.key)]
        assert [job.accelerator for job in todo] == ["gpu"]
        list(measurements.measure_all(todo, table))
    assert [one.status for one in measurements.MeasurementTable(table.path).rows] == ["ok", "ok"]
    assert len(table.path.read_text().splitlines()) == 4  # nothing that was written is taken back
    changed = measurements.Model.read(fake.model(content=b"other weights"))
    assert not table.holds(measurements.jobs(device, [changed], ["cpu"], [1])[0].key)  # the same name, another file


def test_with_a_lost_device_its_list_ends(fake):
    models = [measurements.Model.read(fake.model(f"{n}.tflite", bytes([n]))) for n in range(3)]
    table = measurements.MeasurementTable(fake.models / "latency.csv")
    pauses = []
    with fake.device() as device:
        todo = measurements.jobs(device, models, ["cpu"], [1])
        first = next(measurements.measure_all(todo[:1], table))
        fake.be(lost_after=0)
        rows = list(measurements.measure_all(todo[1:], table, pause=5, sleep=pauses.append))
    assert first.status == "ok" and [one.status for one in rows] == [
        "failed: device lost: R58N: device 'R58N' not found"
    ]
    assert not pauses and [one.status for one in measurements.MeasurementTable(table.path).rows] == [
        "ok",
        rows[0].status,
    ]


def test_models_are_found_by_pattern_and_checked(fake):
    paths = [fake.model(name, name.encode()) for name in ("a.tflite", "b.tflite", "c[1].tflite")]
    pattern = str(fake.models / "?.tflite")
    assert [model.path for model in measurements.find_models([pattern, str(paths[2])])] == list(map(str, paths))
    fake.model("copy.tflite", b"a.tflite")
    assert len(measurements.find_models([str(fake.models / "*")])) == 3
    with pytest.raises(UserError, match=r"nothing\*.tflite: no such file"):
        measurements.find_models([str(fake.models / "nothing*.tflite")])
    (fake.models / "d.tflite").write_bytes(b"foreign")
    with pytest.raises(UserError, match=r"d.tflite: not a .tflite file .*expected b'TFL3'"):
        measurements.find_models([str(fake.models / "d.*")])


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "-1", "fast", "7" * 5000, "x" * 200_000])
def test_a_time_that_is_none_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "latency.csv"
    columns = [field.name for field in dataclasses.fields(measurements.Row)]
    numbers = {"file_kB", "threads", "runs", "avg_us"}
    values = {name: "1" if name in numbers else "ok" if name in _TEXT_COLUMNS else "" for name in columns}
    path.write_text(",".join(columns) + "\n" + ",".join(values.values()) + "\n")
    assert len(measurements.MeasurementTable(path).rows) == 1
    path.write_text(",".join(columns) + "\n" + ",".join({**values, "avg_us": text}.values()) + "\n")
    with pytest.raises(UserError, match="latency.csv.*(line 2: .*avg_us: expected a number|field larger)"):
        measurements.MeasurementTable(path)


_TEXT_COLUMNS = {"model", "sha256", "device", "serial", "system", "via", "accelerator", "delegate", "status", "when"}
