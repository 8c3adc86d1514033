"""The same integers on an emulated ARM64 processor."""

import pytest

from tests.export.conftest import images
from tflite_export import arm64
from tflite_export.lower import lower
from tflite_export.writer import write
from tfqnas.errors import UserError


def assert_same_on_arm64(model, tmp_path):
    try:
        arm64.environment()
    except UserError as error:  # no Debian, no registry: nothing else is skipped, a wrong result fails
        pytest.skip(f"the emulator cannot be had: {error}")
    path = tmp_path / "m.tflite"
    path.write_bytes(write(lower(model, images(model.input_shape[1:]))))
    assert arm64.compare(path, images=32) == (1.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bits"), [("hswish", 4), ("relu-rgb", 2), ("hswish", 8)])
def test_a_file_computes_the_same_integers_on_arm64(kind, bits, subnets, tmp_path):
    model = subnets(bits, relu=kind != "hswish", channels=1 if kind == "hswish" else 3)
    assert_same_on_arm64(model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["most", "bilinear"])
def test_other_operations_compute_the_same_integers_on_arm64(kind, tmp_path):
    """Pools, padding, resizing, reshapes, gates, softmax."""
    from tests.conversion_test import SHAPE, quantized, ready, residual_model
    from tests.export.lower_test import bilinear, functional

    x = images(SHAPE)
    model = residual_model() if kind == "most" else functional(bilinear, SHAPE)
    assert_same_on_arm64(ready(quantized(model), x), tmp_path)


def test_a_missing_file_and_no_file_are_said(capsys, tmp_path):
    assert arm64.main([]) == 2
    assert arm64.main([str(tmp_path / "none.tflite")]) == 1
    (tmp_path / "foreign.tflite").write_bytes(b"foreign")
    assert arm64.main([str(tmp_path / "foreign.tflite")]) == 1
    assert "foreign.tflite: not a .tflite model" in capsys.readouterr().err


def test_without_the_packages_tools_it_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(arm64.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="expected apt-get, of Debian"):
        arm64.environment()
    assert not list(tmp_path.rglob("arm64-*"))
