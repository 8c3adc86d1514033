"""The common parts of the error messages of search spaces."""

from typing import Any


def where_in(stage: int | None = None, block: int | None = None, layer: str | None = None) -> str:
    """The beginning of an error message such as "stage 2, block 1, expand: ", which counts from 1; arguments from 0."""
    parts = [f"{what} {i + 1}" for what, i in (("stage", stage), ("block", block)) if i is not None]
    if layer is not None:
        parts.append(layer)
    return ", ".join(parts) + ": " if parts else ""


def difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """The first difference of two spaces, dictionaries of their fields: "stage 2: kernels 3,5 there, 3,5,7 here"."""
    for name, value in ours.items():
        there = theirs[name]
        if name == "stages" and len(there) == len(value):
            pairs = enumerate(zip(there, value, strict=True))
            if found := [where_in(s) + difference(*pair) for s, pair in pairs if pair[0] != pair[1]]:
                return found[0]
        elif there != value:
            if name == "stages":
                there, value = len(there), len(value)
            return f"{name} {_text(there)} there, {_text(value)} here"
    return ""


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
