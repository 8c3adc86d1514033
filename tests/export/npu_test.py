"""Exported files on Arm's Ethos-U: nothing is left to the CPU."""

import pytest

from tests.export.conftest import images
from tflite_export import npu
from tflite_export.lower import lower
from tflite_export.writer import write
from tfqnas.errors import UserError


@pytest.mark.parametrize(("kind", "bits", "target"), [("hswish", 4, "ethos-u85-256"), ("relu-rgb", 2, "ethos-u55-128")])
def test_all_operators_run_on_the_npu(kind, bits, target, subnets, tmp_path):
    model = subnets(bits, relu=kind != "hswish", channels=1 if kind == "hswish" else 3)
    path = tmp_path / "m.tflite"
    path.write_bytes(write(lower(model, images(model.input_shape[1:]))))
    report = npu.check(path, target)
    assert report.cpu_operators == 0 and report.left == () and report.npu_operators > 20
    assert report.cycles > 1000 and 0 < report.milliseconds < 10
    assert report.encoded_kB > 0 and report.weight_kB > 1


def test_mistakes_are_answered(tmp_path, monkeypatch):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(b"no model at all")
    with pytest.raises(UserError, match="foreign.tflite: not a .tflite file"):
        npu.check(path)
    with pytest.raises(UserError, match="target ethos-u99: expected one of ethos-u55-32"):
        npu.check(path, "ethos-u99")
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(90))
    with pytest.raises(UserError, match="the compiler for ethos-u85-256 (failed|was killed)"):
        npu.check(path)
    with pytest.raises(UserError, match="did not end within 0.01 s"):
        npu.check(path, timeout=0.01)
    monkeypatch.setattr(npu.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install ethos-u-vela"):
        npu.check(path)
