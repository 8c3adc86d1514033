"""Common parts of the benchmarks, which are measurements in turn and a table of ratios."""

import dataclasses
import datetime
import importlib.metadata
import math
import os
import sys
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `target`: the highest value that is good, or None."""

    name: str
    value: float
    spread: str = ""
    target: float | None = None
    form: str = ".3f"

    sign = "<="  # between a good value and the target

    @property
    def verdict(self):
        if self.target is None:
            return ""
        return "met" if self.value <= self.target else "missed"


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_turn(functions, rounds):
    """Seconds of each function, float (functions, rounds), measured in turn after one call that is not counted."""
    for function in functions:
        function()
    return np.array([[seconds(function) for function in functions] for _ in range(rounds)]).T


def ratio_row(name, ours, theirs, target=None):
    """The row of the ratios of the rounds, `ours` and `theirs` float (rounds,) seconds."""
    low, middle, high = np.percentile(ours / theirs, (25, 50, 75))
    took = f"{np.median(ours) * 1e3:,.1f} / {np.median(theirs) * 1e3:,.1f} ms"
    return Row(name, middle, f"{low:.3f} to {high:.3f}   {took}", target)


def versions(*packages):
    """The date, and the versions of Python and of these packages, in one line."""
    python = ".".join(map(str, sys.version_info[:3]))
    installed = " ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    return f"{datetime.date.today()}, python {python}, {installed}, {os.cpu_count()} CPUs"


def show(rows):
    """Prints the rows as they come, below a heading."""
    print(f"{'':44} {'median':>11}  {'target':8} {'':7} quartiles, medians of both sides", flush=True)
    for row in rows:
        if not math.isfinite(row.value):
            raise SystemExit(f"{row.name}: expected a number, measured {row.value}")
        print(line(row), flush=True)


def line(row):
    value = format(row.value, row.form)
    target = "" if row.target is None else f"{row.sign} {row.target:.2f}"
    return f"{row.name:44} {value:>11}  {target:8} {row.verdict:7} {row.spread}".rstrip()
