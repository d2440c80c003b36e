"""What `autofocus compare` says: the rows of comparison.json, the table, and the lines below it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from autofocus_jax.command.compare_rows import best_slices
from autofocus_jax.files import whole_file
from autofocus_jax.inference.comparison import Comparison
from autofocus_jax.inference.measure import PYRAMID, metrics
from autofocus_jax.metrics.agreement import IOU, SURE, agreement

# Key in comparison.json -> heading, format.
_SCORES = {"AP": "AP", "AP50": "AP50", "APs": "S", "APm": "M", "APl": "L"}
_COSTS = {
    "side": ("side", ".0f"), "net_side": ("net side", ".0f"), "canvases_per_image": ("canvases", ".1f"),
    "fill": ("fill", ".2f"), "cpu_ms": ("cpu ms", ".0f"), "ms": ("ms", ".0f"),
    "images_per_second": ("images/s", ".2f"),
}  # fmt: skip

Row = Mapping[str, Any]


def rows(comparison: Comparison, reference: str, boxes: bool) -> dict[str, dict[str, Any]]:
    """Return the rows of comparison.json by name.

    Args:
        comparison: what was run.
        reference: the row that others are compared with where there are no boxes.
        boxes: whether the dataset has ground truth.
    """
    return {name: _row(comparison, name, reference, boxes) for name in comparison.names}


def _row(comparison: Comparison, name: str, reference: str, boxes: bool) -> dict[str, Any]:
    measured = comparison.measurement(name)
    found, cost = metrics(measured), measured.cost
    row = {key: found[key] for key in (*_SCORES, "AP75") if boxes}
    if not boxes:
        agreed = agreement(comparison.detections(reference), comparison.detections(name))
        row = {"found": None if math.isnan(agreed.found) else 100 * agreed.found, "extra": agreed.extra}
    return row | {
        "side": found["side"], "net_side": math.sqrt(found["padded_pixels_per_image"]),
        "canvases_per_image": float(cost.runs.sum()) / cost.images, "fill": comparison.fill(name),
        "cpu_ms": 1000 * comparison.cpu(name) / comparison.images, "ms": 1000 / found["images_per_second"],
        "images_per_second": found["images_per_second"], "chips_per_image": found["chips_per_image"],
    }  # fmt: skip


def table(rows: Mapping[str, Row], title: str, boxes: bool) -> Table:
    """Return the table of the rows."""
    result = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    scores = _SCORES if boxes else {"found": "found %", "extra": "extra"}
    result.add_column("", no_wrap=True)
    for heading in (*scores.values(), *(heading for heading, _ in _COSTS.values())):
        result.add_column(heading, justify="right", no_wrap=True)
    for name, row in rows.items():
        shown = ["-" if row[key] is None else f"{row[key]:.1f}" for key in scores]
        result.add_row(name, *shown, *(format(row[key], how) for key, (_, how) in _COSTS.items()))
    return result


def gain(comparison: Comparison, whole: str, reference: str, boxes: bool, total: int) -> str:
    """Return what slices gain over the whole photograph in a sample, for how much work, and how long all take."""
    both = {name: _row(comparison, name, reference, boxes) for name in (whole, reference)}
    less, more = both[whole], both[reference]
    work = (more["net_side"] / less["net_side"]) ** 2
    per_image = comparison.running / comparison.images
    if boxes:
        before, after = less["AP50"], more["AP50"]
        gained = "nothing to score" if before is None else f"{after - before:+.1f} AP50"
    else:
        missed = "-" if less["found"] is None else f"{100 - less['found']:.0f}%"
        gained = f"{missed} of what they are sure of"
    text = (f"{comparison.images} photographs say: {reference} gain {gained} over the whole photograph, for {work:.0f} "
            f"times the work ({more['ms']:.0f} instead of {less['ms']:.0f} ms)")  # fmt: skip
    return f"{text}; all {total} take about {_duration(total * per_image)}"


def lines(rows: Mapping[str, Row], reference: str, boxes: bool) -> list[str]:
    """Return a line for each row of the cascade: what it gains or loses against slices at their best."""
    key = "AP" if boxes else "found"
    best = best_slices(rows, key) if boxes else reference
    said = []
    if not boxes:
        said.append(f"found: share of what {reference} find with a score of {SURE:g} or more that is found with an IoU "
                    f"of {IOU:g}; extra: such detections a photograph that they do not have")  # fmt: skip
    other = rows[best]
    for name, row in rows.items():
        if not _is_cascade(name) or row[key] is None or other[key] is None:
            continue
        difference = f"{row[key] - other[key]:+.1f} {key}" if boxes else f"{row[key]:.0f}% found"
        pixels, speed = _against(row, other)
        said.append(f"{name} against {best}: {difference}, {pixels:.1f} times fewer pixels, {speed:.1f} times the "
                    f"images/s: {speed / pixels:.2f} of what the pixels promise")  # fmt: skip
    return said


def promises(rows: Mapping[str, Row], reference: str) -> dict[str, dict[str, float]]:
    """Return, for each row of the cascade, the share of its saved pixels that becomes saved time, against another row.

    The share is the ratio of images/s over the ratio of pixels (`side` squared): 1 if images/s grow as pixels shrink.
    """
    others = [name for name in rows if name in (reference, PYRAMID)]
    kept = {}
    for name in filter(_is_cascade, rows):
        ratios = {other: _against(rows[name], rows[other]) for other in others}
        kept[name] = {other: speed / pixels for other, (pixels, speed) in ratios.items()}
    return kept


def _against(row: Row, other: Row) -> tuple[float, float]:
    """How many times fewer pixels, and how many times the images/s, a row has."""
    return (other["side"] / row["side"]) ** 2, row["images_per_second"] / other["images_per_second"]


def _is_cascade(name: str) -> bool:
    return name.startswith(("weak", "network", "either", "perfect"))


def write_tables(path: Path, shown: Sequence[Table], said: Sequence[str]) -> None:
    """Write the tables and the lines as text."""
    text = io.StringIO()
    for each in shown:
        Console(file=text, width=200).print(each)
    with whole_file(path) as place:
        place.write_text(text.getvalue() + "\n".join([*said, ""]), encoding="utf-8")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
