"""Exported files on Arm's Ethos-U: nothing is left to the CPU."""

import flatbuffers
import pytest

from tests.export.conftest import images
from tflite_export import npu, npu_vendors
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


def test_without_a_vendors_compiler_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    for vendor in ("qualcomm", "mediatek:MT6991"):
        package = f"ai-edge-litert-sdk-{vendor.partition(':')[0]}"
        with pytest.raises(UserError, match=rf"target {vendor} needs .* compiler: pip install {package}"):
            npu.check(path, vendor)
    # Without a connection the package is there and the compiler is not.
    empty = tmp_path / "ai_edge_litert_sdk_qualcomm"
    empty.mkdir()
    (empty / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="installs empty"):
        npu.check(path, "qualcomm")
    (empty / "libQnn.so").touch()
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(90))
    with pytest.raises(UserError, match="m.tflite: the compiler for qualcomm:SM9 failed: .*SM9"):
        npu.check(path, "qualcomm:SM9")


def test_what_a_vendors_compiler_leaves_to_the_cpu_is_counted(subnets):
    from ai_edge_litert import schema_py_generated as schema

    model = subnets(4)
    blob = write(lower(model, images(model.input_shape[1:])))
    names = npu_vendors.operators(blob)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "HARD_SWISH"} < set(names)
    compiled = schema.ModelT.InitFromPackedBuf(blob, 0)  # all but the h-swishes in one operator of the vendor's
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.CUSTOM, customCode="DISPATCH_OP")
    compiled.operatorCodes.append(code)
    graph = compiled.subgraphs[0]
    kept = [op for op, name in zip(graph.operators, names, strict=True) if name == "HARD_SWISH"]
    graph.operators = [schema.OperatorT(opcodeIndex=len(compiled.operatorCodes) - 1), *kept]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(compiled.Pack(builder), b"TFL3")
    assert npu_vendors.remaining(bytes(builder.Output())) == ["HARD_SWISH"] * len(kept)
