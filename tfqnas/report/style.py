"""Colours, names and limits that the pictures and the page share."""

from collections.abc import Sequence

from tfqnas.report.shown import Space

# Okabe and Ito's colours, which people with any colour vision can tell apart. Markers differ too, for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = tuple(zip(COLOURS, ("o", "s", "^", "D", "v", "P"), strict=True))
INK, GREY, GRID = "#222222", "#6b6b6b", "#e6e6e6"
# In reverse order, since bit widths take the first colours.
_KERNEL_COLOURS = COLOURS[::-1]

# Labels of the costs of a record; other costs keep their name.
COSTS = {
    "effective_mflops": "effective MFLOPs",
    "mmacs": "million MACs",
    "mbitops": "million BitOPs",
    "params": "parameters",
    "kB": "kB of weights",
    "file_kB": "kB of the .tflite",
    "latency_ms": "predicted latency, ms",
    "npu_cycles": "predicted NPU cycles",
}


# Label of a supernet: its bit width, a text, or None for floating point.
Label = int | str | None


def bits_label(label: Label) -> str:
    """The text for a label: "4 bits" for 4, "float" for None; a text stays as it is."""
    if label is None:
        return "float"
    return f"{label} bits" if isinstance(label, int) else str(label)


def cost_label(name: str) -> str:
    """The text for the name of a cost."""
    return COSTS.get(name, name)


def kernel_colours(kernels: Sequence[int]) -> dict[int, str]:
    """A colour for each kernel size, by its place among `kernels` in ascending order."""
    return {k: _KERNEL_COLOURS[i % len(_KERNEL_COLOURS)] for i, k in enumerate(sorted(set(kernels)))}


def space_kernel_colours(space: Space) -> dict[int, str]:
    """`kernel_colours` of all kernel sizes in a search space."""
    return kernel_colours([kernel for stage in space.stages for kernel in stage.kernels])


def accuracy_limits(every: Sequence[float], front: Sequence[float]) -> tuple[float, float]:
    """Lower and upper end of an axis of accuracies in per cent.

    The fronts get at least half of the height. The worst 2% of the subnets may lie outside, since they would squeeze
    the rest.
    """
    top, bottom = max(every), min(front) if front else min(every)
    height = max(top - bottom, 1.0)
    floor = max(min(bottom, sorted(every)[len(every) // 50]), bottom - height)
    return floor - 0.04 * (top - floor + 1), top + 0.06 * (top - floor + 1)
