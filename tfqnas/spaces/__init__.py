"""Search spaces: `get("mbv3")` returns a built-in space, `get("path/to/space.json")` reads your own."""

import pathlib

from tfqnas.errors import did_you_mean
from tfqnas.files import read_regular
from tfqnas.spaces.base import SearchSpace
from tfqnas.spaces.blocks import Block, Gene, Stage, make_divisible
from tfqnas.spaces.mbv2 import MBV2
from tfqnas.spaces.mbv3 import MBV3, MBV3_QFA, MBV3_RELU
from tfqnas.spaces.tiny import TINY, TINY_QFA, TINY_RELU

__all__ = ["Block", "Gene", "SearchSpace", "Stage", "get", "make_divisible", "names"]

_SPACES = {space.name: space for space in (MBV3, MBV3_RELU, MBV2, TINY, TINY_RELU, MBV3_QFA, TINY_QFA)}


def names() -> tuple[str, ...]:
    """Names of the built-in spaces."""
    return tuple(_SPACES)


def get(name_or_path: str | pathlib.Path) -> SearchSpace:
    """A search space by its name, or from the JSON file (`*.json`, see `SearchSpace.to_json`) at a path.

    Raises:
        ValueError: the name is unknown, or the file does not describe a space.
        OSError: the file cannot be read.
    """
    name = str(name_or_path)
    if name in _SPACES:
        return _SPACES[name]
    if name.endswith(".json"):
        return SearchSpace.from_json(read_regular(name), where=name)
    hint = did_you_mean(name, names())
    raise ValueError(f"search space {name!r}: expected {', '.join(names())} or a path to a .json file{hint}")
