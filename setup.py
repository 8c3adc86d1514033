"""What pyproject.toml cannot say: which packages are installed, and where they are built."""

from setuptools import find_packages, setup

LIBRARIES = ["tfqnas", "tflite_export"]  # top-level packages; tests, benchmarks and configs stay in the checkout

setup(
    packages=find_packages(include=[pattern for name in LIBRARIES for pattern in (name, f"{name}.*")]),
    # Not build/: where file names ignore case, that is Bazel's BUILD.
    options={"build": {"build_base": ".build"}},
)
