"""The list of commands."""

import importlib
import importlib.metadata
import os
import sys
import types

# The commands by purpose, for `tfqnas --help`. The module of `npu-check` is `npu_check`.
GROUPS = {
    "From images to integer models": {
        "run": "train, search, extract and export in one run directory",
        "train": "train one supernet for each bit width, or finetune a subnet",
        "search": "find the Pareto front of each supernet and extract its subnets",
        "export": "write the integer .tflite file of a model and compare the two",
        "prepare-data": "download and prepare a data set of TFDS",
    },
    "A model of your own": {
        "train-float": "train a float network to quantize",
        "quantize": "find the best quantizers for the layers of a model (DQSS)",
    },
    "What came of it": {
        "evaluate": "the accuracy of a model or of a subnet",
        "predict": "classify image files",
        "analyze": "the paper's analyses of the supernets of a run",
        "compare": "the fronts of several runs in one picture",
    },
    "Devices": {
        "benchmark": "measure the latency of .tflite files on phones or here",
        "latency-table": "measure the latency of a search space from its pieces",
        "npu-check": "compile .tflite files for an NPU",
    },
}
COMMANDS = [name for group in GROUPS.values() for name in group]


def module_of(name: str) -> types.ModuleType:
    """The module of a command."""
    return importlib.import_module(f"tfqnas.cli.{name.replace('-', '_')}")


def show(text: str) -> None:
    """Prints a text without an error if the reader cuts it short, as `tfqnas --help | head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python reports an error at its end


def overview() -> str:
    """The text of `tfqnas --help`, with a line for every command."""
    lines = ["tfqnas: quantized neural architecture search for mobile devices, in Keras.", ""]
    for heading, commands in GROUPS.items():
        lines += [f"{heading}:", *(f"  {name:<14} {text}" for name, text in commands.items()), ""]
    lines += [
        "tfqnas COMMAND --help explains a command and lists its flags.",
        "tfqnas doctor says what this machine lacks.",
    ]
    return "\n".join(lines)


def version() -> str:
    """The installed version, or that of the checkout."""
    try:
        return importlib.metadata.version("tfqnas")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"
