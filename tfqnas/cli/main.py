"""`tfqnas COMMAND`: which commands there are, and the way into each."""

import contextlib
import importlib
import os
import sys

from tfqnas.errors import did_you_mean

# What `tfqnas --help` shows: the commands by what one wants to do. The module of `npu-check` is `npu_check`.
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
        "quantize": "quantize a trained model with the best quantizer for each layer (DQSS)",
    },
    "What came of it": {
        "evaluate": "the accuracy of a model or of a subnet",
        "predict": "classify image files",
        "analyze": "the paper's analyses of the supernets of a run",
        "compare": "the fronts of several runs in one picture",
    },
    "Devices": {
        "benchmark": "measure the latency of .tflite files on phones or on this computer",
        "latency-table": "measure the latency of a search space from its pieces",
        "npu-check": "compile .tflite files for an NPU",
    },
}
COMMANDS = [name for group in GROUPS.values() for name in group]


def main() -> None:
    """The program `tfqnas`."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "-help", "--help", "help"):
        with contextlib.suppress(BrokenPipeError):  # `tfqnas --help | head`
            print(overview(), flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0 if given else 2)
    name = given[0]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS).replace("_", "-")
        print(f"error: expected a command, received {name}{hint}; tfqnas --help lists them", file=sys.stderr)
        sys.exit(2)
    run(name, f"tfqnas {name}", given[1:])


def run(name: str, program: str | None = None, arguments: list[str] | None = None) -> None:
    """Runs one command.

    Args:
        name: one of `COMMANDS`.
        program: how the command was called, for messages; by default the path of the running script.
        arguments: flags and words, by default those of the process.
    """
    from tfqnas.cli import command  # absl, which `tfqnas --help` can do without

    module = importlib.import_module(f"tfqnas.cli.{name.replace('-', '_')}")
    command.run(module, program or sys.argv[0], sys.argv[1:] if arguments is None else arguments)


def overview() -> str:
    """What `tfqnas --help` prints: every command with a line of its own."""
    lines = ["tfqnas: quantized neural architecture search for mobile devices, in Keras and TensorFlow.", ""]
    for heading, commands in GROUPS.items():
        lines += [f"{heading}:", *(f"  {name:<14} {text}" for name, text in commands.items()), ""]
    return "\n".join([*lines, "tfqnas COMMAND --help explains a command and lists its flags."])
