"""Formats tables as text, and writes a self-contained HTML page."""

import base64
import html
import json
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from tfqnas.files import write_atomically

# A row of a table, or the data of an item in a figure.
Record = Mapping[str, Any]
# A column of a table, see `table`.
Column = str | tuple[str, ...]


def table(rows: Sequence[Record], columns: Sequence[Column]) -> str:
    """Formats rows as aligned text, with numbers aligned right.

    Args:
        rows: mappings; a missing or None value shows as "-".
        columns: each a key, or `(key, heading)`, or `(key, heading, specification for format())`.
    """
    headings, cells, right = _cells(rows, columns)
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    lines = [headings, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


@dataclass(frozen=True)
class Table:
    """A table in a page, with rows and columns as for `table`."""

    rows: Sequence[Record]
    columns: Sequence[Column]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file, embedded in the page."""

    path: str | Path
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a command."""

    text: str


@dataclass(frozen=True)
class Html:
    """Markup for the page, and the names of script files in this directory that it needs."""

    markup: str
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading with its content: paragraphs (str), `Table`, `Picture`, `Code`, `Html`."""

    heading: str
    items: Sequence[Any] = ()


def write_html(path: str | Path, title: str, sections: Sequence[Section]) -> Path:
    """Writes a self-contained page of `Section`s atomically. Pictures are embedded, and text is escaped."""
    body = "\n".join(_section(section) for section in sections)
    items = [item for section in sections for item in section.items]
    names = dict.fromkeys(name for item in items if isinstance(item, Html) for name in item.scripts)
    scripts = "\n".join(f"<script>\n{_file(name)}</script>" for name in names)
    fields = {"title": html.escape(title), "body": body, "scripts": scripts, "style": _file("page.css")}
    return write_atomically(path, Template(_PAGE).substitute(fields, policy=_POLICY))


def data_script(name: str, value: Any) -> str:
    """Markup with a value as JSON, which a script reads as `document.getElementById(name).textContent`.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold.
    """
    # Without "<" the JSON contains neither an end tag nor a comment.
    data = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{html.escape(name)}">{data}</script>'


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _cells(rows: Sequence[Record], columns: Sequence[Column]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Headings, formatted cells, and for each column whether it holds numbers."""
    full = [(c, c, "") if isinstance(c, str) else (*c, "")[:3] for c in columns]
    cells = [[_cell(row.get(key), spec) for key, _, spec in full] for row in rows]
    right = []
    for key, _, _ in full:
        values = [row[key] for row in rows if row.get(key) is not None]
        right.append(bool(values) and all(isinstance(value, numbers.Real) for value in values))
    return [heading for _, heading, _ in full], cells, right


def _cell(value: Any, spec: str) -> str:
    if value is None:
        return "-"
    return format(value, spec) if spec and isinstance(value, numbers.Real) else str(value)


def _section(section: Section) -> str:
    items = "\n".join(_item(item) for item in section.items)
    return f"<section>\n<h2>{html.escape(section.heading)}</h2>\n{items}\n</section>"


def _item(item: Any) -> str:
    match item:
        case str():
            return f"<p>{html.escape(item)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Picture(path, caption):
            data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
            name = html.escape(caption or Path(path).stem, quote=True)
            legend = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
            return f'<figure><img alt="{name}" src="data:image/png;base64,{data}">{legend}</figure>'
        case Table(rows, columns, caption):
            return _html_table(rows, columns, caption)
        case Html(markup):
            return markup
    raise TypeError(f"a section holds str, Table, Picture, Code and Html, not {type(item).__name__}")


def _html_table(rows: Sequence[Record], columns: Sequence[Column], caption: str) -> str:
    headings, cells, right = _cells(rows, columns)

    def line(tag: str, values: Sequence[str]) -> str:
        filled = (
            f"<{tag}{' class=n' if to_right else ''}>{html.escape(value)}</{tag}>"
            for value, to_right in zip(values, right, strict=True)
        )
        return f"<tr>{''.join(filled)}</tr>"

    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    body = "\n".join(line("td", row) for row in cells)
    head = f"<thead>{line('th', headings)}</thead>"
    return f"<div class=wide><table>{title}{head}\n<tbody>{body}</tbody></table></div>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<h1>$title</h1>
$body
$scripts
</body>
</html>
"""
# Makes the browser refuse content from anywhere else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
