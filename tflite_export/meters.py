"""Meters give one latency per `.tflite` file for a latency table, on this computer, a phone or an NPU's compiler."""

import contextlib
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from tflite_export import host_benchmark, npu
from tflite_export.android import Device
from tflite_export.measurements import Model
from tfqnas.errors import UserError, did_you_mean

# Inferences that are not counted: the first ones allocate memory and start with cold caches.
_WARM_UP = 2
_FEWEST = 3


class HostMeter:
    """Measures on this computer with LiteRT in this process.

    `litert-benchmark` would take seconds to start, and it rounds to 10 microseconds.

    Args:
        threads: number of CPU threads.
        seconds: how long each file is run; the result is the median time of an inference.
        clock: a function that returns seconds; replaced in tests.
    """

    unit, rounds = "ms", 7

    def __init__(self, threads: int = 1, seconds: float = 0.05, clock: Callable[[], float] = time.perf_counter) -> None:
        self.threads, self._seconds, self._clock = threads, seconds, clock
        self.device = f"host {platform.machine().replace('_', '-')} {host_benchmark.Host().name}"
        self.takes = seconds + 0.03  # seconds that a measurement takes at least

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(self, blob: bytes) -> float:
        """Milliseconds of one inference; `blob` is the content of a `.tflite` file."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=blob, num_threads=self.threads)
        interpreter.allocate_tensors()
        (place,) = interpreter.get_input_details()
        pixels = np.random.default_rng(0).integers(-128, 128, place["shape"], np.int8)
        interpreter.set_tensor(place["index"], pixels)
        for _ in range(_WARM_UP):
            interpreter.invoke()
        times: list[float] = []
        began = self._clock()
        while len(times) < _FEWEST or self._clock() - began < self._seconds:
            start = self._clock()
            interpreter.invoke()
            times.append(self._clock() - start)
        return 1000 * float(np.median(times))


class AndroidMeter:
    """Measures on a phone with TensorFlow Lite's benchmark.

    Args:
        device: `android.Device`, not yet entered.
        accelerator: a key of `android.ACCELERATORS`.
        threads: number of CPU threads.
        pause: seconds before each measurement, to let the device cool.
        sleep: replaced in tests.
    """

    unit, rounds, takes = "ms", 1, 4.0

    def __init__(
        self,
        device: Device,
        accelerator: str = "cpu",
        threads: int = 1,
        pause: float = 0.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._phone, self._accelerator, self.threads = device, accelerator, threads
        self._pause, self._sleep = pause, sleep
        self.device = f"Android: {device.name}, {device.system}, {accelerator}"
        self.takes = self.takes + pause

    def __enter__(self) -> Self:
        self._phone.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        return self._phone.__exit__(*problem)

    def measure(self, blob: bytes) -> float:
        """Milliseconds of one inference: the median, or the average if the tool is too old to report medians."""
        self._sleep(self._pause)
        with _written(blob) as path:
            found = self._phone.measure(Model.read(path), self._accelerator, self.threads)
        return (found.avg_us if found.median_us is None else found.median_us) / 1000


class VelaMeter:
    """Estimates an Ethos-U's latency with Arm's compiler. The result is always the same for the same file.

    Args:
        target: one of `npu.TARGETS`.
        unit: "cycles", or "ms" at the target's clock.
        timeout: seconds allowed for one compilation.
    """

    rounds, threads, takes = 1, None, 3.0

    def __init__(self, target: str = "ethos-u55-128", unit: str = "cycles", timeout: float = 300) -> None:
        if target not in npu.TARGETS:
            hint = did_you_mean(target, npu.TARGETS)
            raise UserError(f"target {target}: expected one of {', '.join(npu.TARGETS)}{hint}")
        self._target, self.unit, self._timeout = target, unit, timeout
        self.device = f"Vela {target}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(self, blob: bytes) -> float:
        """Cycles or milliseconds of one inference; raises `UserError` if operators are left to the CPU."""
        with _written(blob) as path:
            report = npu.check(path, self._target, self._timeout)
        if report.cpu_operators:
            raise UserError(
                f"{self._target} leaves operators to the CPU, which its estimate does not count: "
                f"{'; '.join(report.left[:3])}"
            )
        found = report.cycles if self.unit == "cycles" else report.milliseconds
        assert found is not None  # Vela reports both
        return found


@contextlib.contextmanager
def _written(blob: bytes) -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.tflite"
        path.write_bytes(blob)
        yield path
