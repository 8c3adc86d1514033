"""LiteRT on an emulated ARM64 processor, the kind that phones have: does a file compute the same integers there?

    scripts/arm64_check.sh MODEL.tflite [...]

An ARM64 Python with LiteRT is put together from the package registries (Debian's arm64 packages, wheels for aarch64)
and run by QEMU's user mode emulation. Nothing is installed: all of it lies in a cache directory, and needs no root.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from tflite_export.runtime import Runtime
from tfqnas.errors import UserError

_PACKAGES = (
    "libc6", "libgcc-s1", "libstdc++6", "libcrypt1", "zlib1g", "libbz2-1.0", "liblzma5", "libexpat1", "libffi8",
    "libssl3", "libsqlite3-0", "libuuid1", "libtinfo6", "libncursesw6", "libreadline8", "libdb5.3", "libtirpc3",
    "libnsl2", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
)  # fmt: skip
_WHEELS = ("ai-edge-litert", "numpy", "flatbuffers", "protobuf", "ml_dtypes")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
# Without these LiteRT's CPU detection crashes. A Cortex-A76: QEMU's "max" emulates SME, and returns garbage.
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
interpreter.resize_tensor_input(source["index"], x.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(source["index"], x)
interpreter.invoke()
np.save(output, interpreter.get_tensor(result["index"]))
"""


def compare(path, images=64, log=print):
    """Runs a `.tflite` file on both processors.

    Args:
        path: of the file. images: how many, noise of several sizes. log: takes lines of progress.

    Returns:
        `(share of the images with the same integers, largest difference in steps)`.
    """
    blob = pathlib.Path(path).read_bytes()
    here = Runtime(blob)
    if len(here.input["shape"]) != 4 or not np.issubdtype(here.input["dtype"], np.integer):
        raise UserError(f"{path}: expected an input of integer images, it is {here.input['dtype'].__name__} of "
                        f"{tuple(here.input['shape'])}")  # fmt: skip
    pixels = _noise(images, here.input["shape"][1:], here.input["dtype"])
    expected, received = here.run(pixels), run(blob, pixels, log)
    difference = np.abs(expected.astype(np.float64) - received).reshape(images, -1).max(axis=1)
    return float((difference == 0).mean()), float(difference.max())


def _noise(count, shape, dtype):
    rng = np.random.default_rng(0)
    height, width, channels = shape
    x = np.zeros((count, *shape))
    for size in (1, 2, 4, 8):
        coarse = rng.normal(size=(count, -(-height // size), -(-width // size), channels)) * 40
        x += np.repeat(np.repeat(coarse, size, 1), size, 2)[:, :height, :width]
    info = np.iinfo(dtype)
    return np.clip(np.rint(x + (info.min + info.max + 1) / 2), info.min, info.max).astype(dtype)


def run(blob, pixels, log=print):
    """The output of a model for `pixels` on the emulated processor.

    Raises:
        UserError: where the emulator cannot be had, or fails.
    """
    home = environment(log)
    with tempfile.TemporaryDirectory() as directory:
        model, x, y = (pathlib.Path(directory) / name for name in ("m.tflite", "x.npy", "y.npy"))
        model.write_bytes(blob)
        np.save(x, pixels)
        root = home / "root"
        settings = {"QEMU_CPU": _CPU, "PYTHONPATH": str(home / "site"), "PYTHONHOME": str(root / "usr")}
        python = [home / "qemu/usr/bin/qemu-aarch64-static", "-L", root, root / "usr/bin/python3.11"]
        _call([*python, "-c", _RUN, model, x, y], directory, {**os.environ, **settings})
        return np.load(y)


def environment(log=print):
    """The directory of the emulated environment, made on first use (some 300 MB, a minute)."""
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in _WHEELS]
    recipe = hashlib.sha256(repr((_PACKAGES, versions, _CPUINFO)).encode()).hexdigest()[:12]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tfqnas"
    home = cache / f"arm64-{recipe}"
    if home.exists():
        return home
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise UserError(f"the ARM64 check: expected {tool}, of Debian or Ubuntu, to fetch the emulator with")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        directory = pathlib.Path(directory)
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


def _fetch_packages(directory):
    """Unpacks QEMU of this machine's architecture and the rest of ARM64's."""
    state = directory / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "debs"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": state / "state",
        "Dir::State::status": state / "status", "Dir::Cache": state / "cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _call([*apt, "update"], directory)
    _call([*apt, "download", *_PACKAGES], state / "debs")
    for package in (state / "debs").glob("*.deb"):
        _call(["dpkg-deb", "-x", package, directory / "root"], directory)
    _call(["apt-get", "-q", "download", "qemu-user-static"], directory)
    (package,) = directory.glob("qemu-user-static_*.deb")
    _call(["dpkg-deb", "-x", package, directory / "qemu"], directory)


def _fetch_wheels(site, versions):
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif shutil.which("pip"):
        pip = ["pip"]
    else:
        raise UserError("the ARM64 check: expected pip, to fetch LiteRT for ARM64 with")
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    _call([*pip, "install", "-q", "--target", site, *platforms, "--python-version", "3.11", "--implementation", "cp",
           "--only-binary=:all:", *versions], site.parent)  # fmt: skip


def _pretend_processor(root):
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(_CPUINFO)
    cpus = root / "sys/devices/system/cpu"
    cpus.mkdir(parents=True, exist_ok=True)
    for name in ("present", "possible"):
        (cpus / name).write_text("0\n")


def _call(command, directory, environ=None):
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=directory, env=environ, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        raise UserError(f"the ARM64 check: {command[0]} did not end within 15 minutes") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"the ARM64 check: {command[0]} failed with {done.returncode}: {lines[-1] if lines else ''}")


def main(paths):
    """Compares each file and returns 0 if all compute the same integers on both processors."""
    if not paths:
        print("usage: scripts/arm64_check.sh MODEL.tflite [...]", file=sys.stderr)
        return 2
    failed = 0
    for path in paths:
        try:
            same, largest = compare(path)
        except (UserError, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 1
        print(f"{path}: same integers here and on ARM64 in {same:.2%} of the images, largest difference {largest:g}")
        failed += same < 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
