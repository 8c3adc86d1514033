"""Compiles .tflite files for an NPU, and prints the operators left to the CPU, cycles, time and encoded weights.

    tfqnas npu-check m.tflite [more.tflite ...] --target=ethos-u85-256

The exit code is 1 if more than --max_cpu_operators operators of any file are left to the CPU.
"""

import contextlib
import dataclasses
import sys

from tflite_export import npu
from tfqnas import report
from tfqnas.cli import command
from tfqnas.errors import UserError
from tfqnas.progress import Progress

FLAGS = command.Flags()
TARGET = FLAGS.list(
    "target",
    ["ethos-u85-256"],
    f"some of {', '.join(npu.TARGETS)}; qualcomm, mediatek, or with a processor, qualcomm:SM8750",
)
ALLOWED = FLAGS.integer("max_cpu_operators", 0, "operators that may be left to the CPU", lower_bound=0)
TIMEOUT = FLAGS.float("timeout", 300, "seconds for each compilation", lower_bound=1)
# The words that this command takes besides flags.
WORDS = "MODEL.tflite [...]"


def main(words: list[str]) -> None:
    if not words:
        raise UserError("expected files: tfqnas npu-check MODEL.tflite [...]")
    asked = list(dict.fromkeys((path, target) for path in words for target in TARGET.value))
    progress, found = Progress([(f"{path}, {target}", 1) for path, target in asked], stream=sys.stderr), []
    for path, target in asked:
        with progress.part(f"{path}, {target}") if len(asked) > 1 else contextlib.nullcontext():
            found.append(npu.check(path, target, TIMEOUT.value))
    print(f"{report.table([dataclasses.asdict(r) for r in found], npu.COLUMNS)}\n\n{npu.NOTE}")
    for one in found:
        for operator in one.left:
            print(f"{one.model}, {one.target}: left to the CPU: {operator}")
    over = [one for one in found if one.cpu_operators > ALLOWED.value]
    if over:
        raise UserError(
            f"{over[0].model}: {over[0].cpu_operators} operators are left to the CPU on {over[0].target}, "
            f"`max_cpu_operators` allows {ALLOWED.value}" + (f"; {over[0].advice}" if over[0].advice else "")
        )
