"""The table that an evaluation prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

# Key in metrics.json -> heading; a table has the columns that its rows have.
_POINTS = {
    "AP": "AP", "AP50": "AP50", "AP70": "AP70", "AP75": "AP75", "APs": "S", "APm": "M", "APl": "L",
    "AP50area": "AP50 area", "AP70area": "AP70 area",
}  # fmt: skip


def table(rows: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """A table with a line for each row of metrics.json; pixels as the side of a square, as in the paper's Table 1."""
    shown = {key: heading for key, heading in _POINTS.items() if all(key in row for row in rows.values())}
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    result.add_column("", no_wrap=True)
    for heading in ("pixels", *shown.values(), "images/s", "chips per image and scale"):
        result.add_column(heading, justify="right", no_wrap=True)
    for name, row in rows.items():
        points = ["-" if row[key] is None else f"{row[key]:.1f}" for key in shown]
        chips = " / ".join(f"{count:.1f}" for count in row["chips_per_image"])
        result.add_row(name, f"{row['side']:.0f}²", *points, f"{row['images_per_second']:.2f}", chips)
    return result


def comparison(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line: what AutoFocus saves against the pyramid and what it gains or loses."""
    pyramid, autofocus = rows["pyramid"], rows["autofocus"]
    line = (
        f"AutoFocus against the pyramid: {pyramid['pixels_per_image'] / autofocus['pixels_per_image']:.2f} times fewer "
        f"pixels, {autofocus['images_per_second'] / pyramid['images_per_second']:.2f} times the images/s"
    )
    key = headline(pyramid)
    if pyramid[key] is None:
        return line
    return f"{line}, {autofocus[key] - pyramid[key]:+.1f} {key}"


def headline(row: Mapping[str, Any]) -> str:
    """The key of the number that a row of metrics.json is judged by: AP, or AP50 of VOC."""
    return "AP" if "AP" in row else "AP50"
