"""Asks an NPU's compiler which operators of a `.tflite` file the NPU runs, and how fast.

Arm's Ethos-U is compiled for by Vela (`pip install ethos-u-vela`), phones by their vendors' compilers (`npu_vendors`).
"""

import csv
import dataclasses
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from tflite_export import npu_vendors
from tflite_export.runtime import read_model, tensor_types
from tfqnas.errors import SettingError, UserError, did_you_mean

TARGETS = (
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
)
COLUMNS = (
    ("model", "model"),
    ("target", "target"),
    ("npu_operators", "on NPU"),
    ("cpu_operators", "on CPU"),
    ("cycles", "cycles", ",.0f"),
    ("milliseconds", "ms", ".3f"),
    ("weight_kB", "weights kB", ".1f"),
    ("encoded_kB", "encoded kB", ".1f"),
)
NOTE = (
    "Cycles and milliseconds are the compiler's estimate for its default system configuration, not a measurement. "
    "Encoded: the weights as the compiler compresses them."
)


@dataclasses.dataclass(frozen=True)
class NpuReport:
    """A compiler's report on a file. The last four fields are None if the compiler does not report them.

    Args:
        model: name of the file.
        target: as in `check`.
        npu_operators, cpu_operators: numbers of compiled operators that run on the NPU and on the CPU.
        left: descriptions of the operators on the CPU.
        cycles: cycles of one inference.
        milliseconds: the time of these cycles at the target's clock.
        weight_kB, encoded_kB: size of the weights in the file and as the compiler stores them, in 1,000 bytes.
    """

    model: str
    target: str
    npu_operators: int
    cpu_operators: int
    left: tuple[str, ...]
    cycles: float | None = None
    milliseconds: float | None = None
    weight_kB: float | None = None
    encoded_kB: float | None = None

    @property
    def advice(self) -> str | None:
        """A way to get operators off the CPU, or None."""
        if any("Passthrough" in operator or "DEQUANTIZE" in operator.upper() for operator in self.left):
            return "float logits are made on the CPU: export with `output_type=int8`"
        return None


def check(path: str | pathlib.Path, target: str = "ethos-u85-256", timeout: float = 300) -> NpuReport:
    """Compiles a `.tflite` file for a target, in a separate process since the compiler crashes on some files.

    Args:
        path: the file.
        target: one of `TARGETS`, or a vendor's target as in `npu_vendors.left_to_cpu`.
        timeout: seconds allowed for the compiler.

    Raises:
        UserError: the compiler is missing, takes too long, crashes or refuses the file; or the file is not a complete
            `.tflite` model, or has packed weights.
    """
    path = pathlib.Path(path)
    if target.partition(":")[0] in npu_vendors.VENDORS:
        count, left = npu_vendors.left_to_cpu(path, target, timeout)
        return NpuReport(path.name, target, count - len(left), len(left), tuple(left))
    if target not in TARGETS:
        known = (*TARGETS, *npu_vendors.VENDORS)
        raise SettingError("target", f"one of {', '.join(known)}", target, did_you_mean(target, known))
    if importlib.util.find_spec("ethosu") is None:
        raise UserError("the NPU check needs Arm's compiler: pip install ethos-u-vela, or pip install tfqnas[npu]")
    _refuse_files_that_crash_it(path)
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "-m",
            "ethosu.vela",
            str(path.resolve()),
            "--accelerator-config",
            target,
            "--output-dir",
            directory,
            "--verbose-performance",
            "--show-cpu-operations",
        ]
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"{path}: the compiler for {target} did not end within {timeout:g} s") from None
        if done.returncode:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"failed: {lines[-1].strip()}"
            raise UserError(f"{path}: the compiler for {target} {how}")
        (summary,) = pathlib.Path(directory).glob("*_summary_*.csv")
        with summary.open() as file:
            row = next(csv.DictReader(file))
    return _report(path, target, done.stdout, row)


def _refuse_files_that_crash_it(path: pathlib.Path) -> None:
    blob = read_model(path)
    try:
        types = tensor_types(blob)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if packed := types & {"int4", "int2"}:
        raise UserError(
            f"{path}: packed weights ({', '.join(sorted(packed))}), which the compiler does not take: "
            "export with `storage=int8`"
        )


def _report(path: pathlib.Path, target: str, printed: str, row: Mapping[str, str]) -> NpuReport:
    counts = {kind: re.search(rf"^{kind} operators = (\d+)", printed, re.MULTILINE) for kind in ("CPU", "NPU")}
    on_npu, on_cpu = counts["NPU"], counts["CPU"]
    if on_npu is None or on_cpu is None:
        raise UserError(f"{path}: the compiler for {target} does not say how many operators run on the CPU")
    return NpuReport(
        model=path.name,
        target=target,
        npu_operators=int(on_npu[1]),
        cpu_operators=int(on_cpu[1]),
        left=tuple(re.findall(r"^\s*CPU: (.+)$", printed, re.MULTILINE)),
        cycles=float(row["cycles_total"]),
        milliseconds=1000 * float(row["inference_time"]),
        weight_kB=float(row["total_original_weights"]) / 1000,
        encoded_kB=float(row["total_npu_encoded_weights"]) / 1000,
    )
