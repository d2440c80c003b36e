"""Shared style of all figures: the width of a column, colours for the colour-blind, SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autofocus_jax.structures import AutoFocusError

COLUMN, PAGE = 3.4, 7.0  # widths of a column and of a page of two columns, inches

# The palette of Okabe and Ito (2008). Yellow is too light for lines on white and is left out of COLORS.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#8A8A8A"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # of the lines of a plot, in this order
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # and their shapes, so that no line is told by its colour alone

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: the files are small and can be searched
    "svg.hashsalt": "autofocus_jax",  # the same figure gives the same file
}


def new(width: float = COLUMN, height: float = 2.4, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, list]:
    """Return a figure of width x height inches and its rows * columns axes, row by row, in the style of STYLE.

    Call it inside the `draw` of a Result, which runs in that style. options are those of Figure.subplots.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def line(axes: Axes, number: int, x, y, label: str, **options) -> None:
    """Draw the `number`-th line (from 0) of a plot, with its own colour and marker."""
    look = {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}
    axes.plot(x, y, label=label, **{**look, **options})


def log_pixels(axis: Axes) -> None:
    """Give an axis of pixels a logarithmic scale with plain numbers."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[-1] in "25" else "")


def paper_mark(axes: Axes, x, y, label: str | None = "paper") -> None:
    """Mark a number that the paper printed by a black star."""
    axes.plot(x, y, "*", color=BLACK, markersize=7, label=label, linestyle="none", zorder=5)


def save(draw: Callable[[], Figure], stem: Path, png_dpi: int = 200, svg_dpi: int = 100) -> list[Path]:
    """Draw a figure in the project's style and write STEM.svg and STEM.png.

    svg_dpi is the resolution of photographs in the figure; lines and text have none.

    Raises:
        AutoFocusError: the files cannot be written.
    """
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    with matplotlib.rc_context(STYLE):
        figure = draw()
        for file in files:
            metadata, dpi = ({"Date": None}, svg_dpi) if file.suffix == ".svg" else ({}, png_dpi)
            try:
                figure.savefig(file, dpi=dpi, metadata=metadata)
            except OSError as error:
                raise AutoFocusError(f"{file} cannot be written ({error.strerror}); choose another --output") from None
    return files
