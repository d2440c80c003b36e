"""A report as the text of one HTML file. Everything is inside: styles, script, data and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np

from autofocus_jax import files
from autofocus_jax.report import pictures, plot
from autofocus_jax.report.values import MISSED, Mark, Pane, Photograph, Report
from autofocus_jax.structures import Detections


def write(path: Path, report: Report) -> Path:
    """Write a report as an HTML file, whole or not at all, and return its path. Raises WriteError."""
    return files.write_text(path, page(report))


def page(report: Report) -> str:
    """Return the HTML text of a report. Names are text in it, whatever they hold.

    The photographs stand in the order of their number of lost and won objects, most first.
    """
    kept = sorted(report.photographs, key=lambda photograph: -differences(photograph))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autofocus_jax", "report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    text = environment.get_template("report.html.j2").render(
        report=report, index=_index(report, kept), photographs=[_content(one) for one in kept],
        drawing=plot.draw(report.plot) if report.plot is not None else None, style=_asset("report.css"),
        script=_asset("report.js"), strong={name for table in report.tables for name in table.strong},
    )  # fmt: skip
    return text.encode("utf-8", "replace").decode()  # a name that is no UTF-8 came with surrogates


def differences(photograph: Photograph) -> int:
    """Return the number of objects that a photograph lost or won."""
    return sum(mark.kind != MISSED for mark in photograph.marks)


def _asset(name: str) -> markupsafe.Markup:
    """Text of our own that stands in the page as it is."""
    return markupsafe.Markup(resources.files("autofocus_jax.report").joinpath(name).read_text(encoding="utf-8"))


def _index(report: Report, photographs: Sequence[Photograph]) -> dict[str, Any]:
    """What the page knows of all photographs before one of them is seen."""
    known = []
    for photograph in photographs:
        last = photograph.panes[-1].found if photograph.panes else Detections.none()
        known.append({
            "name": photograph.name, "size": list(photograph.size), "marks": _marks(photograph.marks),
            "scores": _round(last.scores, 3), "labels": last.labels.tolist(), "panes": len(photograph.panes),
            "objects": [int(label) for _, label in photograph.truth],
        })  # fmt: skip
    panes = [pane for photograph in photographs for pane in photograph.panes]
    marks = {mark.kind for photograph in photographs for mark in photograph.marks}
    shown = {
        "found": any(len(pane.found.scores) for pane in panes), "marks": bool(marks), "missed": MISSED in marks,
        "truth": any(photograph.truth for photograph in photographs),
        "chips": any(len(pane.chips) for pane in panes), "focus": any(pane.focus for pane in panes),
        "removed": any(len(pane.removed.scores) for pane in panes),
    }  # fmt: skip
    return {"categories": list(report.categories), "photographs": known, "shown": shown}


def _content(photograph: Photograph) -> dict[str, Any]:
    """What is read when a photograph is seen."""
    return {
        "picture": pictures.data_uri(photograph.picture, "jpeg"),
        "panes": [_pane(pane) for pane in photograph.panes],
        "crops": [
            {"mark": number, "picture": pictures.data_uri(data, "jpeg"),
             "area": pictures.surroundings(photograph.marks[number].box, photograph.size)}
            for number, data in photograph.crops
        ],
        "truth": [{"box": _round(box, 1), "label": int(label)} for box, label in photograph.truth],
    }  # fmt: skip


def _pane(pane: Pane) -> dict[str, Any]:
    focus = [{"box": _round(one.box, 1), "picture": pictures.data_uri(pictures.focus_png(one), "png")}
             for one in pane.focus if one.values.size]  # fmt: skip
    return {
        "title": pane.title, "note": pane.note, "found": _detections(pane.found),
        "removed": _detections(pane.removed), "marked": pane.marked, "chips": _round(pane.chips, 1), "focus": focus,
    }  # fmt: skip


def _detections(found: Detections) -> dict[str, Any]:
    return {"boxes": _round(found.boxes, 1), "scores": _round(found.scores, 3), "labels": found.labels.tolist()}


def _marks(marks: Sequence[Mark]) -> list[dict[str, Any]]:
    return [
        {"kind": mark.kind, "box": _round(mark.box, 1), "label": int(mark.label), "score": round(float(mark.score), 3)}
        for mark in marks
    ]


def _round(values: Any, digits: int) -> list:
    return np.round(np.asarray(values, np.float64), digits).tolist()
