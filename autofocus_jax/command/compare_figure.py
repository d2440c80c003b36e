"""The drawing of `autofocus compare`: average precision, or agreement, against the pixels of a photograph."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from autofocus_jax.experiments import figure

_LINES = ("weak", "network", "either", "whole")  # kinds of rows whose points are joined, from fewest to most pixels


def draw(rows: Mapping[str, Mapping[str, Any]], key: str, label: str) -> Figure:
    """Draw the rows of a comparison, but for those on fixed canvases; call it by figure.save.

    Args:
        rows: by name, whose first word is its kind.
        key: of the score in a row.
        label: of the score.
    """
    sketch, (axis,) = figure.new(width=figure.PAGE / 2 + 1, height=3.2)
    shown = [(name.split()[0], row) for name, row in rows.items() if ", canvas" not in name and row[key] is not None]
    kinds = dict.fromkeys(itertools.chain(_LINES, (kind for kind, _ in shown)))
    for number, kind in enumerate(kinds):
        points = sorted((row["side"] ** 2 / 1e6, row[key]) for of, row in shown if of == kind)
        if points:
            style: dict[str, Any] = {} if kind in _LINES else {"linestyle": "none", "markersize": 6}
            pixels, scores = zip(*points)
            figure.line(axis, number, pixels, scores, kind, **style)
    figure.log_pixels(axis)
    axis.set(xlabel="pixels per photograph (millions)", ylabel=label)
    if shown:
        axis.legend(loc="best")
    return sketch
