"""Exported files on Arm's Ethos-U: nothing is left to the CPU."""

import pathlib
import re
import subprocess
import sys

import flatbuffers
import pytest

from tests.tflite_export.conftest import images
from tflite_export import export, npu, npu_vendors
from tflite_export.lower import lower
from tflite_export.writer import write
from tfqnas import spaces
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(("kind", "bits", "target"), [("hswish", 4, "ethos-u85-256"), ("relu-rgb", 2, "ethos-u55-128")])
def test_all_operators_run_on_the_npu(kind, bits, target, subnets, tmp_path):
    model = subnets(bits, relu=kind != "hswish", channels=1 if kind == "hswish" else 3)
    path = tmp_path / "m.tflite"
    path.write_bytes(write(lower(model, images(model.input_shape[1:]))))
    report = npu.check(path, target)
    assert report.cpu_operators == 0 and report.left == () and report.npu_operators > 20
    assert report.cycles > 1000 and 0 < report.milliseconds < 10
    assert report.encoded_kB > 0 and report.weight_kB > 1


@pytest.fixture(scope="module")
def four_bits(subnets):
    """A model, and images for it."""
    model = subnets(4, relu=True, channels=3)
    return model, images(model.input_shape[1:], 8)


def test_mistakes_are_answered(tmp_path, monkeypatch, four_bits):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(b"no model at all")
    with pytest.raises(UserError, match="foreign.tflite: not a .tflite file"):
        npu.check(path)
    with pytest.raises(UserError, match="target: expected one of ethos-u55-32.* received ethos-u99"):
        npu.check(path, "ethos-u99")
    blob = export(*four_bits)
    for part in (b"\x1c\x00\x00\x00TFL3" + bytes(90), blob[: len(blob) // 2]):
        path.write_bytes(part)
        with pytest.raises(UserError, match="foreign.tflite: not a .tflite model that LiteRT can load"):
            npu.check(path)
    path.write_bytes(blob)
    with pytest.raises(UserError, match="did not end within 0.01 s"):
        npu.check(path, timeout=0.01)
    path.write_bytes(export(*four_bits, storage="packed"))
    with pytest.raises(UserError, match=r"packed weights \(int4\), .*: export with `storage=int8`"):
        npu.check(path)
    monkeypatch.setattr(npu.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install ethos-u-vela"):
        npu.check(path)


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch, four_bits):
    path = tmp_path / "m.tflite"
    path.write_bytes(export(*four_bits))
    failed = [npu.subprocess.CompletedProcess([], code, "", "it says\n  why\n") for code in (1, -8)]
    monkeypatch.setattr(npu.subprocess, "run", lambda *a, **k: failed.pop(0))
    with pytest.raises(UserError, match="the compiler for ethos-u85-256 failed: why"):
        npu.check(path)
    with pytest.raises(UserError, match="the compiler for ethos-u85-256 was killed by signal 8"):
        npu.check(path)


def test_float_logits_are_left_to_the_cpu_and_it_is_said_what_to_do(tmp_path, four_bits):
    path = tmp_path / "float.tflite"
    path.write_bytes(export(*four_bits, output_type="float32"))
    report = npu.check(path)
    assert report.cpu_operators == 1 and "`output_type=int8`" in report.advice
    path.write_bytes(export(*four_bits, input_type="uint8"))
    assert npu.check(path).cpu_operators == 0 and npu.check(path).advice is None
    (tmp_path / "float.tflite").write_bytes(export(*four_bits, output_type="float32"))
    tool = [sys.executable, ROOT / "tools/npu_check.py", path, path, "--target=ethos-u85-256,ethos-u55-128"]
    done = subprocess.run(tool, capture_output=True, text=True)
    assert done.returncode == 1 and "allows 0; float logits are made on the CPU: export with" in done.stderr
    assert re.search(r"^\[2/2\] .*ethos-u55-128  done", done.stderr, re.M) and "job" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("space", ["tiny", "mbv2", "mbv3_relu", "mbv3"])
def test_the_smallest_subnets_run_on_the_npu(space, tmp_path, make_supernet, cut):
    """h-swish and squeeze-excite of mbv3 are for U85 alone."""
    smallest = spaces.get(space).pruned(spaces.get(space).smallest())
    model, _ = cut(make_supernet(smallest, channels=1 if space == "tiny" else 3), smallest.largest())
    path = tmp_path / f"{space}.tflite"
    path.write_bytes(export(model, images(model.input_shape[1:], 8)))
    for target in ("ethos-u85-256", *(() if space == "mbv3" else ("ethos-u55-128",))):
        assert npu.check(path, target).left == (), target


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
