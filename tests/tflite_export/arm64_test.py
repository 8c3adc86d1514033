"""The same integers on an emulated ARM64 processor."""

import dataclasses
import pathlib
import re
import subprocess
from functools import partial

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops.contract import activation, bilinear, graph_of, super_resolution
from tflite_export import arm64, export
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


@pytest.fixture(scope="module")
def on_arm64():
    """The emulated environment; skips where it cannot be had."""
    try:
        return arm64.environment()
    except UserError as error:  # no Debian, no registry: nothing else is skipped, a wrong result fails
        pytest.skip(f"the emulator cannot be had: {error}")


@pytest.fixture(scope="module")
def digits():
    """`digits(shape)`: uint8 test images of digits in that size, grey or as RGB of three crops."""
    from tfqnas.data.data_config import DataConfig
    from tfqnas.data.dataset import load
    from tfqnas.data.images import resized

    test = load(DataConfig(), held_out=1).test.images[:32]

    def make(shape):
        channels = [resized(np.roll(test, i, axis=2), shape[0]) for i in range(shape[2])]
        return np.rint(np.concatenate(channels, axis=-1) * 128 + 128).astype(np.uint8)

    return make


@pytest.fixture
def agreement(on_arm64, digits, tmp_path):
    """`agreement(model, **settings)`: what `compare` says of its file on real images."""

    def measure(model, change=lambda graph: graph, **settings):
        path, graph = tmp_path / "m.tflite", change(lower(model, images(model.input_shape[1:])))
        path.write_bytes(export(model, images(model.input_shape[1:]), **settings) if settings else write(graph))
        return arm64.compare(path, digits(model.input_shape[1:]))

    return measure


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bits"), [("hswish", 4), ("hswish", 3), ("relu-rgb", 2), ("hswish", 8)])
def test_a_file_computes_the_same_integers_on_arm64(kind, bits, subnets, agreement):
    model = subnets(bits, relu=kind != "hswish", channels=1 if kind == "hswish" else 3)
    assert agreement(model) == (32, 1.0, 0.0)


@pytest.mark.slow
def test_bytes_in_and_floats_out_are_the_same_on_arm64(subnets, agreement):
    assert agreement(subnets(3), input_type="uint8", output_type="float32") == (32, 1.0, 0.0)


def few_layers():
    from tests.tflite_export.models import chain, quantized

    return chain(keras.layers.Conv2D(6, 3, activation="relu"), quantized(name="inner"), shape=(8, 8, 1))


@pytest.mark.slow
def test_packed_files_run_on_arm64_and_differ_by_few_steps(subnets, agreement):
    """LiteRT's own kernels, which compute packed weights, round in another way: the same integers are not promised.

    Differences of one step cascade, so this is a network of few layers.
    """
    count, _, largest = agreement(few_layers(), storage="packed")
    assert count == 32 and largest <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["most", "bilinear", "super_resolution", "operations", "generated"])
def test_other_operations_compute_the_same_integers_on_arm64(kind, agreement):
    """Pools, padding, resizing, reshapes, gates, tables, sums on other grids; softmax has a test of its own."""
    from tests.graph import generated
    from tests.graph.models import SHAPE, of_operations, quantized, ready, residual_model
    from tests.tflite_export.models import functional

    build = {"most": residual_model, "operations": of_operations}
    build |= {"bilinear": lambda: functional(partial(bilinear, keras.layers), SHAPE)}
    build |= {"generated": partial(generated.model, 5)}
    build |= {"super_resolution": lambda: functional(partial(super_resolution, keras.layers), (6, 6, 4))}
    model = build[kind]()
    model = ready(quantized(model), images(model.input_shape[1:]))
    assert agreement(model, without_softmax) == (32, 1.0, 0.0)


def without_softmax(graph):
    *before, last = graph.ops
    return dataclasses.replace(graph, ops=tuple(before), outputs=last.inputs) if last.kind == "softmax" else graph


@pytest.mark.slow
def test_softmax_differs_by_a_step_in_a_thousandth_of_its_values_on_arm64(on_arm64, rng):
    """Floats are inside of LiteRT's kernel: what is printed as measured, not promised."""
    x, y = activation("x", (10,), np.float32([0.1])), activation("y", (10,), np.float32([1 / 256]), -128)
    blob = write(graph_of([x, y], "softmax", ("x",)))
    values = rng.integers(-128, 128, (2000, 10)).astype(np.int8)
    apart = np.abs(Runtime(blob).run(values).astype(int) - arm64.run(blob, values))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.005


def script(*arguments):
    command = ["scripts/arm64_check.sh", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_script_takes_test_images_and_shows_how_far_it_is(on_arm64, subnets, tmp_path):
    model = subnets(3)
    path, pixels = tmp_path / "m.tflite", tmp_path / "x.npz"
    path.write_bytes(export(model, images(model.input_shape[1:])))
    (tmp_path / "copy.tflite").write_bytes(path.read_bytes())
    np.savez(pixels, images=np.random.default_rng(0).integers(0, 256, (20, *model.input_shape[1:]), np.uint8))
    done = script(path, tmp_path / "copy.tflite", "--dataset=digits", "--count=24")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ARM64 in 100.00% of 24 test images of digits, largest difference 0") == 2
    assert re.search(r"^\[2/2\] \S+copy.tflite  done in", done.stderr, re.M) and "job" in done.stderr
    done = script(path, f"--images={pixels}")
    assert done.returncode == 0 and f"100.00% of 20 {pixels}" in done.stdout, done.stderr
    np.savez(pixels, images=np.zeros((20, 5, 5, 1), np.uint8))
    done = script(path, f"--images={pixels}")
    assert done.returncode == 1 and "expected images of (12, 12, 1), received (5, 5, 1)" in done.stderr


def test_a_missing_file_and_no_file_are_said(tmp_path):
    assert script().returncode == 2
    missing = script(tmp_path / "none.tflite")
    assert missing.returncode == 1 and "none.tflite" in missing.stderr and "Traceback" not in missing.stderr
    (tmp_path / "foreign.tflite").write_bytes(b"foreign")
    foreign = script(tmp_path / "foreign.tflite", "--images=none.npy")
    assert foreign.returncode == 1 and "foreign.tflite: not a .tflite model" in foreign.stderr


def test_without_the_packages_tools_it_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(arm64.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"expected apt-get \(Debian or Ubuntu\)"):
        arm64.environment()
    assert not list(tmp_path.rglob("arm64-*"))


def test_an_emulator_that_fails_or_never_ends_is_said(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="ARM64 check: sh failed with 3: why"):
        arm64._watched(["sh", "-c", "echo 8; echo why >&2; exit 3"], tmp_path, None, lambda n: None)
    monkeypatch.setattr(arm64, "_SECONDS", 0.2)
    with pytest.raises(UserError, match="did not end within"):
        arm64._watched(["sleep", "30"], tmp_path, None, lambda n: None)
    seen = []
    monkeypatch.setattr(arm64, "_SECONDS", 30)
    arm64._watched(["sh", "-c", "echo 8; echo noise; echo 16"], tmp_path, None, seen.append)
    assert seen == [8, 16]
