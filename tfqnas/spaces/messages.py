"""The common part of the error messages of search spaces."""


def where_in(stage: int | None = None, block: int | None = None, layer: str | None = None) -> str:
    """The beginning of an error message such as "stage 2, block 1, expand: ", which counts from 1; arguments from 0."""
    parts = [f"{what} {i + 1}" for what, i in (("stage", stage), ("block", block)) if i is not None]
    if layer is not None:
        parts.append(layer)
    return ", ".join(parts) + ": " if parts else ""
