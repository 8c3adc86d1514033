"""Compiles a `.tflite` file with the ahead-of-time LiteRT compiler of a phone vendor, Qualcomm or MediaTek.

The packages `ai-edge-litert-sdk-qualcomm` and `ai-edge-litert-sdk-mediatek` fetch the vendor's compiler when they are
installed.
"""

import importlib.util
import pathlib
import subprocess
import sys
import tempfile

from ai_edge_litert import schema_py_generated as schema

from tfqnas.errors import UserError, did_you_mean

# The default processor of each vendor, one that current phones have.
VENDORS = {"qualcomm": "SM8650", "mediatek": "MT6989"}
_COMPILE = """
import sys
from ai_edge_litert.aot import aot_compile
from ai_edge_litert.aot.vendors.{vendor} import target
path, output, soc = sys.argv[1:]
aot_compile.aot_compile(path, output_dir=output, target=target.Target(target.SocModel(soc)), keep_going=False)
"""


def left_to_cpu(path: str | pathlib.Path, target: str, timeout: float = 300) -> tuple[int, list[str]]:
    """Compiles a file in a separate process.

    Args:
        path: the file.
        target: a key of `VENDORS`, or a key and a processor such as "qualcomm:SM8750".
        timeout: seconds allowed for the compiler.

    Returns:
        `(number of operators in the file, names of the operators that are left to the CPU)`.

    Raises:
        UserError: the compiler is missing, takes too long or refuses the file.
    """
    vendor, _, soc = target.partition(":")
    if vendor not in VENDORS:
        raise UserError(f"target {target}: expected one of {', '.join(VENDORS)}{did_you_mean(target, VENDORS)}")
    package = f"ai_edge_litert_sdk_{vendor}"
    if importlib.util.find_spec(package) is None or not _has_libraries(package):
        raise UserError(
            f"target {target} needs {vendor.capitalize()}'s compiler: pip install {package.replace('_', '-')}, on "
            "x86-64 Linux with a connection to the internet (without one it installs empty)"
        )
    path = pathlib.Path(path).resolve()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", _COMPILE.format(vendor=vendor), str(path), directory, soc or VENDORS[vendor]]
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"{path}: the compiler for {target} did not end within {timeout:g} s") from None
        compiled = sorted(pathlib.Path(directory).rglob("*.tflite"))
        if done.returncode or not compiled:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no output"]
            raise UserError(f"{path}: the compiler for {target} failed: {lines[-1].strip()}")
        return len(operators(path.read_bytes())), remaining(compiled[0].read_bytes())


def _has_libraries(package: str) -> bool:
    """Whether the package has fetched the vendor's libraries."""
    spec = importlib.util.find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or ()
    return any(next(pathlib.Path(place).rglob("*.so*"), None) is not None for place in places)


def operators(blob: bytes) -> list[str]:
    """Names of the operators in the first subgraph of a `.tflite` file; custom operators have their custom names."""
    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [c.customCode.decode() if c.customCode else names[c.builtinCode] for c in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def remaining(blob: bytes) -> list[str]:
    """Names of the operators in a compiled file that are left to the CPU."""
    return [name for name in operators(blob) if name != "DISPATCH_OP"]
