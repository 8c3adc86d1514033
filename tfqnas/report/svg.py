"""SVG as text, and axes that fit every width.

Positions in a plot are percentages, and sizes of marks and text are pixels. A plot thus fills the available width on a
phone, a desktop and paper, and its text stays readable without a script.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

# The shapes of matplotlib's markers of the same names, about 9 pixels wide.
MARKERS = {
    "o": "M-4.6 0a4.6 4.6 0 1 0 9.2 0a4.6 4.6 0 1 0-9.2 0z",
    "s": "M-4.2-4.2h8.4v8.4h-8.4z",
    "^": "M0-5.4 5.2 4.2h-10.4z",
    "D": "M0-5.6 5.6 0 0 5.6-5.6 0z",
    "v": "M0 5.4 5.2-4.2h-10.4z",
    "P": "M-1.8-5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z",
}


def tag(name: str, content: str = "", /, **attributes: Any) -> str:
    """An element with `content` as markup. In attribute names a trailing "_" is dropped and others become "-".

    Raises:
        ValueError: a number is not finite. A browser would silently leave the element out.
    """
    words = [name, *(f'{_name(key)}="{_value(key, value)}"' for key, value in attributes.items() if value is not None)]
    return f"<{' '.join(words)}>{content}</{name}>"


def text(words: object, /, **attributes: Any) -> str:
    """A text element with escaped text."""
    return tag("text", html.escape(str(words)), **attributes)


def percent(share: float) -> str:
    """A fraction of the plot's width or height as a percentage."""
    return f"{_value('share', 100 * share)}%"


def stretched(path: str, **attributes: Any) -> str:
    """A line over the whole plot, stretched from a canvas of 1000 by 1000, since paths cannot use percentages."""
    line = tag("path", d=path, vector_effect="non-scaling-stroke", fill="none")
    box = {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
    return tag("svg", line, **box, **attributes)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(key: str, value: object) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key}: expected a finite number, received {value}")
        return f"{value:.4f}".rstrip("0").rstrip(".") if value else "0"
    return html.escape(str(value))


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], margin: float = 0.04) -> Self:
        """A scale over all values with a margin on both sides, logarithmic if they differ more than tenfold."""
        low, high = min(values), max(values)
        if 0 < 10 * low < high:
            room = (high / low) ** margin
            return cls(low / room, high * room, True)
        room = margin * ((high - low) or abs(high) or 1.0)
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """The place of a value as a fraction: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 7) -> list[float]:
        """At most `most` round numbers on the axis."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        for step in (power, 2 * power, 5 * power, 10 * power):
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            if last - first < most:
                break
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits, stride in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), stride) for stride in range(1, len(decades) + 1))):
            ticks = [float(f"{d}e{decade}") for decade in decades[::stride] for d in digits]
            ticks = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(ticks) <= most:
                return ticks
        return ticks


def number(value: float) -> str:
    """The label of a tick, such as "0.05", "1.5k" or "2M"."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.6g}{letter}"
    return f"{value:.6g}"


def x_axis(scale: Scale, label: str, **attributes: Any) -> str:
    """Ticks and title below the plot. With many labels every other one has the class "thin", for narrow screens."""
    marks = [tag("line", x1=0, x2="100%", y1="100%", y2="100%", class_="base")]
    ticks = scale.ticks()
    for i, tick in enumerate(ticks):
        x = percent(scale.share(tick))
        marks.append(tag("rect", x=x, y="100%", width=1, height=5, class_="notch"))
        thin = "thin" if len(ticks) > 5 and i % 2 else None
        marks.append(text(number(tick), x=x, y="100%", dy="1.5em", text_anchor="middle", class_=thin))
    marks.append(text(label, x="50%", y="100%", dy="3em", text_anchor="middle", class_="title"))
    return tag("g", "".join(marks), **{"class_": "x axis", **attributes})


def y_axis(scale: Scale) -> str:
    """Grid lines and labels to the left of the plot."""
    marks = []
    for tick in scale.ticks(6):
        y = percent(1 - scale.share(tick))
        marks.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        marks.append(text(number(tick), x="-8", y=y, dy=".33em", text_anchor="end"))
    return tag("g", "".join(marks), class_="y axis")
