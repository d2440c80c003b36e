"""What every experiment returns, and how it is written: NAME.json, NAME.csv, NAME.svg, NAME.png, and a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from autofocus_jax.experiments import figure
from autofocus_jax.files import plain, write_json, write_text


class Track(Protocol):
    """Yields the items and shows how far it is, of `total` where the items have no length; `silent` shows nothing."""

    def __call__(self, items: Iterable, description: str, total: int | None = None) -> Iterable: ...


class Result(NamedTuple):
    """The numbers of an experiment and its picture; writing and printing them is the program's part."""

    summary: dict[str, Any]  # NAME.json: settings that matter, numbers, and the paper's, where it printed some
    rows: list[dict[str, Any]]  # NAME.csv: one dictionary a line, all with the same keys
    tables: tuple[Table, ...]  # printed
    draw: Callable[[], Figure] | None  # the picture, drawn in the style of figure.STYLE
    notes: tuple[str, ...] = ()  # printed below the tables and part of the JSON: what one must know to read them
    more: Mapping[str, Callable[[], Figure]] = {}  # further pictures: KEY -> what draws NAME_KEY.svg and NAME_KEY.png
    markdown: str = ""  # NAME.md, where there is some


def silent(items: Iterable, description: str, total: int | None = None) -> Iterable:
    """Return a Track that shows nothing."""
    return items


def write(result: Result, folder: Path, name: str) -> list[Path]:
    """Write an experiment's files into a folder, which is made, and return them.

    Raises:
        AutoFocusError: the files cannot be written.
    """
    content = {**result.summary, "rows": result.rows, "notes": list(result.notes)}
    files = [write_json(folder / f"{name}.json", content), write_csv(folder / f"{name}.csv", result.rows)]
    if result.markdown:
        files.append(write_text(folder / f"{name}.md", result.markdown))
    drawings = {} if result.draw is None else {name: result.draw}
    drawings |= {f"{name}_{key}": draw for key, draw in result.more.items()}
    return files + [file for stem, draw in drawings.items() for file in figure.save(draw, folder / stem)]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write CSV, whole or not at all, with the keys of the first row as heading. Missing values are empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in plain(row).items()} for row in rows)
    return write_text(path, text.getvalue())


def table(title: str, rows: Sequence[Mapping[str, Any]], formats: Mapping[str, str]) -> Table:
    """Return a rich table of the columns that `formats` names, each with its format as in "{:.1%}".

    None is shown as "-". Strings are shown as they are. A column of the paper's numbers ("paper ...") without a number
    is left out.
    """
    known = {heading for row in rows for heading, value in row.items() if value is not None}
    formats = {key: pattern for key, pattern in formats.items() if key in known or not key.startswith("paper")}
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, heading in enumerate(formats):
        result.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        result.add_row(*(_shown(row.get(heading), pattern) for heading, pattern in formats.items()))
    return result


def _shown(value: Any, pattern: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return value if isinstance(value, str) else pattern.format(value)
