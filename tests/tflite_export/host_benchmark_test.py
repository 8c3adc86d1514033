"""Latency on this computer by LiteRT's benchmark."""

import numpy as np
import pytest

from tflite_export import host_benchmark, measurements
from tflite_export.benchmark_log import MeasurementFailed, MeasurementInvalid
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.writer import write
from tfqnas.errors import UserError


@pytest.fixture
def tiny_file(tmp_path):
    """A real model: one fully connected layer."""
    rng, one = np.random.default_rng(0), np.float32([0.05])
    tensors = [
        IntTensor("x", (16,), one),
        IntTensor("w", (4, 16), one, data=rng.integers(-128, 128, (4, 16)).astype(np.int8)),
        IntTensor("b", (4,), one * one, dtype="int32", data=np.zeros(4, np.int32)),
        IntTensor("y", (4,), one),
    ]
    path = tmp_path / "tiny.tflite"
    path.write_bytes(
        write(
            IntGraph({t.name: t for t in tensors}, (IntOp("fully_connected", ("x", "w", "b"), ("y",)),), ("x",), ("y",))
        )
    )
    return path


def test_this_computer_is_measured_by_litert_benchmark(tiny_file, tmp_path):
    host = host_benchmark.Host(runs=3)
    found = host.measure(measurements.Model.read(tiny_file), "cpu", threads=1)
    assert found.runs == 3 and found.min_us <= found.median_us <= found.max_us and found.init_us > 0
    assert found.memory_MB is None
    # Less than the 10 us to which litert-benchmark rounds, and not a multiple of them.
    assert 0 < found.min_us < 1000 and any(us % 10 for us in (found.avg_us, found.median_us, found.max_us))
    with pytest.raises(UserError, match="accelerator cpu_no_xnnpack: on this computer expected one of cpu, gpu"):
        host.measure(measurements.Model.read(tiny_file), "cpu_no_xnnpack", threads=1)
    (tmp_path / "cut.tflite").write_bytes(tiny_file.read_bytes()[:40])
    with pytest.raises(MeasurementFailed, match="litert-benchmark (was killed by signal|failed: )"):
        host.measure(measurements.Model.read(tmp_path / "cut.tflite"), "cpu", threads=1)
    with pytest.raises(MeasurementFailed, match="no result within 0.01 s"):
        host_benchmark.Host(timeout=0.01).measure(measurements.Model.read(tiny_file), "cpu", threads=1)


def test_what_the_gpu_of_this_computer_leaves_to_the_cpu_is_invalid():
    latency = dict.fromkeys(("init", "warmup_first", "avg", "min", "max", "median", "std", "p5", "p95"), 0.07)
    result = {"latency": {f"{key}_ms": value for key, value in latency.items()} | {"num_runs": 50}}
    whole = result | {"accelerators": ["GPU"], "fully_accelerated": True}
    assert host_benchmark.figures(whole, "gpu").avg_us == 70 and host_benchmark.figures(whole, "gpu").delegate == "GPU"
    for part in ({"fully_accelerated": False}, {"accelerators": ["GPU", "CPU"]}):
        with pytest.raises(MeasurementInvalid, match="fall-back to CPU"):
            host_benchmark.figures(whole | part, "gpu")
    result["latency"] |= {"avg_ms": 0.0, "min_ms": 0.0, "median_ms": 0.0}
    with pytest.raises(MeasurementInvalid, match="faster than litert-benchmark's times"):
        host_benchmark.figures(result, "cpu")
