"""Measures the latency of `.tflite` files on this computer with `litert-benchmark`.

The results go to the same table as a phone's (`android.py`).
"""

import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, Self

from tflite_export.benchmark_log import Measurement, MeasurementFailed, MeasurementInvalid
from tflite_export.measurements import Model
from tfqnas.errors import UserError

ACCELERATORS = {"cpu": (), "gpu": ("--use_gpu", "--require_full_delegation")}
# The module of the command litert-benchmark rounds times to 10 microseconds, which gives 0 for small networks. This
# process therefore replaces its `round`. `figures` notices a version that rounds anyway.
_TOOL = """
import sys
from ai_edge_litert.tools import benchmark_litert_model as tool
tool.round = lambda number, digits=None: number
sys.exit(tool.main())
"""


class Host:
    """This computer, with the same interface as `android.Device`.

    Args:
        runs: number of timed inferences.
        timeout: seconds allowed for one measurement.
    """

    via = "litert-benchmark"

    def __init__(self, runs: int = 50, timeout: float = 300) -> None:
        self._runs, self._timeout = runs, timeout
        self.serial = platform.node() or "host"
        self.name = _processor()
        self.system = f"{platform.system()} {platform.release()} ({platform.machine()})"
        self.ram_MB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(self, model: Model, accelerator: str, threads: int) -> Measurement:
        """Times a `measurements.Model` in a separate process, since LiteRT crashes on broken files.

        Returns:
            `Measurement` without memory, which `litert-benchmark` does not report.

        Raises:
            UserError: the accelerator is not a key of `ACCELERATORS`.
            MeasurementFailed: the tool crashed, hung or refused the model.
            MeasurementInvalid: another accelerator did the work, or the times are rounded to zero.
        """
        if accelerator not in ACCELERATORS:
            raise UserError(f"accelerator {accelerator}: on this computer expected one of {', '.join(ACCELERATORS)}")
        with tempfile.TemporaryDirectory() as directory:
            result = pathlib.Path(directory) / "result.json"
            command = [
                sys.executable,
                "-c",
                _TOOL,
                f"--model={model.path}",
                f"--num_threads={threads}",
                f"--num_runs={self._runs}",
                f"--result_json={result}",
                *ACCELERATORS[accelerator],
            ]
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=self._timeout,
                )
            except subprocess.TimeoutExpired:
                raise MeasurementFailed(f"no result within {self._timeout:g} s") from None
            if done.returncode or not result.exists():
                raise MeasurementFailed(f"litert-benchmark {_why(done.returncode, done.stdout)}")
            return figures(json.loads(result.read_text()), accelerator)


def figures(result: Mapping[str, Any], accelerator: str) -> Measurement:
    """The `Measurement` in the JSON of `litert-benchmark --result_json`, whose times are in milliseconds."""
    if accelerator == "gpu" and not (result["fully_accelerated"] and result["accelerators"] == ["GPU"]):
        raise MeasurementInvalid("fall-back to CPU: the GPU does not execute the whole model")
    ms = result["latency"]
    us = {key.removesuffix("_ms"): round(1000 * value, 3) for key, value in ms.items() if key.endswith("_ms")}
    if us["avg"] <= 0 or us["median"] <= 0:
        raise MeasurementInvalid("faster than litert-benchmark's times, which it rounds to 10 us")
    return Measurement(
        runs=ms["num_runs"],
        avg_us=us["avg"],
        std_us=us["std"] if ms["num_runs"] > 1 else None,
        min_us=us["min"],
        max_us=us["max"],
        p5_us=us["p5"],
        median_us=us["median"],
        p95_us=us["p95"],
        first_us=us["warmup_first"],
        init_us=us["init"],
        memory_MB=None,
        init_memory_MB=None,
        delegate="GPU" if accelerator == "gpu" else "",
    )


def _why(code: int, printed: str) -> str:
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    # LiteRT logs the reason before it raises an exception without one.
    said = re.findall(r"^ERROR: \[.*?\] *(\S.*)$", printed, re.MULTILINE) or re.findall(
        r"^(\w*Error: .*|.*: No module named .*)$", printed, re.MULTILINE
    )
    return f"failed: {said[0] if said else f'exit code {code}'}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
