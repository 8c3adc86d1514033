"""Runs a file in LiteRT on an emulated ARM64 processor, as phones have, and compares its integers with this computer's.

    scripts/arm64_check.sh MODEL.tflite [...]

An ARM64 Python with LiteRT is put together from the package registries (Debian's arm64 packages, wheels for aarch64)
and run by QEMU's user mode emulation. Nothing is installed and no root is needed: all files lie in a cache directory.

Two operations differ between the processors. Softmax is LiteRT's own kernel, which computes with floats: about one in a
thousand of its values differs by one step (measured 2026-11-26: 0.9 to 1.3 in a thousand for 5 or 10 classes, 1 in
100,000 for 1,000 classes). Our networks end with logits. Packed weights run in kernels that round differently.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tflite_export.runtime import Runtime
from tfqnas.errors import UserError

_PACKAGES = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libcrypt1",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libexpat1",
    "libffi8",
    "libssl3",
    "libsqlite3-0",
    "libuuid1",
    "libtinfo6",
    "libncursesw6",
    "libreadline8",
    "libdb5.3",
    "libtirpc3",
    "libnsl2",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
)
_WHEELS = ("ai-edge-litert", "numpy", "flatbuffers", "protobuf", "ml_dtypes")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
# LiteRT's CPU detection crashes without a /proc/cpuinfo. The processor is a Cortex-A76 since QEMU's "max" emulates SME,
# with which LiteRT returns garbage.
_CPU = "cortex-a76"
_CPUINFO = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0b
CPU revision\t: 1

"""
_RUN = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model, pixels, output = sys.argv[1:]
interpreter, x = Interpreter(model_path=model, num_threads=1), np.load(pixels)
source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
results, size = [], 0
for start in range(0, len(x), 8):
    batch = x[start : start + 8]
    if len(batch) != size:
        interpreter.resize_tensor_input(source["index"], batch.shape)
        interpreter.allocate_tensors()
        size = len(batch)
    interpreter.set_tensor(source["index"], batch)
    interpreter.invoke()
    results.append(interpreter.get_tensor(result["index"]).copy())
    print(start + size, flush=True)
np.save(output, np.concatenate(results))
"""
_SECONDS = 900


def compare(
    path: str | pathlib.Path,
    pixels: np.ndarray | None = None,
    log: Callable[[str], None] = print,
    update: Callable[[float], object] | None = None,
) -> tuple[int, float, float]:
    """Runs a `.tflite` file on this computer and on the emulated ARM64 processor.

    Args:
        path: the file.
        pixels: images (n, height, width, channels) of the model's size, uint8 or the model's input type; None takes 64
            images of noise.
        log: called with each line of progress.
        update: called with the fraction of images done.

    Returns:
        `(number of images, fraction of images with identical integers, largest difference in steps)`.

    Raises:
        UserError: the model does not take integer images, or the emulator is not available or fails.
    """
    blob = pathlib.Path(path).read_bytes()
    here = Runtime(blob)
    shape, dtype = tuple(here.input["shape"][1:]), np.dtype(here.input["dtype"])
    if len(shape) != 3 or not np.issubdtype(dtype, np.integer):
        raise UserError(f"{path}: expected an input of integer images, it is {dtype} of {(1, *shape)}")
    pixels = noise(64, shape, dtype) if pixels is None else _of_type(np.asarray(pixels), dtype)
    expected, received = here.run(pixels), run(blob, pixels, log, update)
    difference = np.abs(expected.astype(np.float64) - received).reshape(len(pixels), -1).max(axis=1)
    return len(pixels), float((difference == 0).mean()), float(difference.max())


def _of_type(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts uint8 pixels to the type of a model's input: pixel - 128 for int8."""
    turned = pixels.dtype == np.uint8 and dtype == np.int8
    return (pixels.astype(np.int16) - 128).astype(np.int8) if turned else pixels


def noise(count: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Images (count, *shape) of noise with grains of several sizes. They are the same on each call."""
    rng = np.random.default_rng(0)
    height, width, channels = shape
    x = np.zeros((count, *shape))
    for size in (1, 2, 4, 8):
        coarse = rng.normal(size=(count, -(-height // size), -(-width // size), channels)) * 40
        x += np.repeat(np.repeat(coarse, size, 1), size, 2)[:, :height, :width]
    info = np.iinfo(dtype)
    return np.clip(np.rint(x + (info.min + info.max + 1) / 2), info.min, info.max).astype(dtype)


def run(
    blob: bytes, pixels: np.ndarray, log: Callable[[str], None] = print, update: Callable[[float], object] | None = None
) -> np.ndarray:
    """The output of a `.tflite` file's content on the emulated processor; `log` and `update` are as in `compare`.

    Raises:
        UserError: the emulator is not available, or fails.
    """
    home = environment(log)
    with tempfile.TemporaryDirectory() as directory:
        model, x, y = (pathlib.Path(directory) / name for name in ("m.tflite", "x.npy", "y.npy"))
        model.write_bytes(blob)
        np.save(x, pixels)
        root = home / "root"
        settings = {"QEMU_CPU": _CPU, "PYTHONPATH": str(home / "site"), "PYTHONHOME": str(root / "usr")}
        python = [home / "qemu/usr/bin/qemu-aarch64-static", "-L", root, root / "usr/bin/python3.11"]
        words = [str(word) for word in (*python, "-c", _RUN, model, x, y)]
        _watched(words, directory, {**os.environ, **settings}, lambda n: update and update(n / len(pixels)))
        return np.load(y)


def environment(log: Callable[[str], None] = print) -> pathlib.Path:
    """The directory of the emulated environment, which is created on first use (about 300 MB, one minute)."""
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in _WHEELS]
    recipe = hashlib.sha256(repr((_PACKAGES, versions, _CPUINFO)).encode()).hexdigest()[:12]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tfqnas"
    home = cache / f"arm64-{recipe}"
    if home.exists():
        return home
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise UserError(f"the ARM64 check: expected {tool} (Debian or Ubuntu) to fetch the emulator")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        directory = pathlib.Path(temporary)
        log("fetching the emulator, an ARM64 Python and LiteRT")
        _fetch_packages(directory)
        _fetch_wheels(directory / "site", versions)
        made = directory / "made"
        made.mkdir()
        for name in ("qemu", "root", "site"):
            (directory / name).rename(made / name)
        _pretend_processor(made / "root")
        if not home.exists():  # another process may have been faster
            made.rename(home)
    return home


def _fetch_packages(directory: pathlib.Path) -> None:
    """Unpacks QEMU for this machine's architecture, and all other packages for ARM64."""
    state = directory / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "debs"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State": state / "state",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _call([*apt, "update"], directory)
    _call([*apt, "download", *_PACKAGES], state / "debs")
    for package in (state / "debs").glob("*.deb"):
        _call(["dpkg-deb", "-x", package, directory / "root"], directory)
    _call(["apt-get", "-q", "download", "qemu-user-static"], directory)
    (package,) = directory.glob("qemu-user-static_*.deb")
    _call(["dpkg-deb", "-x", package, directory / "qemu"], directory)


def _fetch_wheels(site: pathlib.Path, versions: Sequence[str]) -> None:
    # find_spec("pip") would make setuptools replace an imported distutils, with a warning.
    if importlib.metadata.packages_distributions().get("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif shutil.which("pip"):
        pip = ["pip"]
    else:
        raise UserError("the ARM64 check: expected pip to fetch LiteRT for ARM64")
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    _call(
        [
            *pip,
            "install",
            "-q",
            "--target",
            site,
            *platforms,
            "--python-version",
            "3.11",
            "--implementation",
            "cp",
            "--only-binary=:all:",
            *versions,
        ],
        site.parent,
    )


def _pretend_processor(root: pathlib.Path) -> None:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(_CPUINFO)
    cpus = root / "sys/devices/system/cpu"
    cpus.mkdir(parents=True, exist_ok=True)
    for name in ("present", "possible"):
        (cpus / name).write_text("0\n")


def _watched(
    words: Sequence[str], directory: str | pathlib.Path, environ: Mapping[str, str], done: Callable[[int], object]
) -> None:
    """Runs a command that prints the number of images it has finished, and passes each number to `done`."""
    with tempfile.TemporaryFile("w+") as errors:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": errors, "text": True}
        with subprocess.Popen(words, cwd=directory, env=environ, **pipes) as child:
            alarm = threading.Timer(_SECONDS, child.kill)
            alarm.start()
            try:
                for line in child.stdout or ():
                    if line.strip().isdecimal():
                        done(int(line))
            except BaseException:
                child.kill()
                raise
            finally:
                late = not alarm.is_alive()
                alarm.cancel()
        if child.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            how = f"did not end within {_SECONDS // 60} minutes" if late else f"failed with {child.returncode}"
            raise UserError(f"the ARM64 check: {words[0]} {how}: {lines[-1] if lines else ''}")


def _call(
    command: Sequence[str | pathlib.Path], directory: str | pathlib.Path, environ: Mapping[str, str] | None = None
) -> None:
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=directory, env=environ, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"the ARM64 check: {command[0]} did not end within {_SECONDS // 60} minutes") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"the ARM64 check: {command[0]} failed with {done.returncode}: {lines[-1] if lines else ''}")
