"""What error messages of search spaces have in common."""


def where_in(stage=None, block=None, layer=None):
    """The beginning of an error message, "stage 2, block 1, expand: ": there stages count from 1, here from 0."""
    parts = [f"{what} {i + 1}" for what, i in (("stage", stage), ("block", block)) if i is not None]
    if layer is not None:
        parts.append(layer)
    return ", ".join(parts) + ": " if parts else ""
