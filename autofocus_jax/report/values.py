"""What a report shows, as plain values. Boxes are in the image frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.structures import Detections

LOST, WON, MISSED = "lost", "won", "missed"  # kinds of marks


class Figure(NamedTuple):
    """A number that stands at the top of a report."""

    value: str  # as "9.2 times"
    caption: str  # as "fewer pixels than slices of 640"


class Table(NamedTuple):
    """A table of texts; the first column names the rows."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: Sequence[str] = ()  # names of rows that stand out


class Point(NamedTuple):
    """A row of a table in the plot."""

    name: str  # as in the table
    kind: str  # points of a kind share color and shape
    pixels: float  # a photograph
    score: float


class Plot(NamedTuple):
    """Scores against pixels."""

    label: str  # of the scores
    points: Sequence[Point]


class FocusMap(NamedTuple):
    """A focus map and its place."""

    box: Sequence[float]  # xyxy, image px
    values: np.ndarray  # [rows, columns] in 0..1


class Pane(NamedTuple):
    """One view of a photograph: what a row, or one scale of it, found."""

    title: str
    note: str  # in words: what it cost, say
    found: Detections
    removed: Detections = Detections.none()  # by stacking: a border of their chip cuts them
    chips: np.ndarray = np.zeros((0, 4), np.float32)  # [c, 4], in the order in which they were made
    focus: Sequence[FocusMap] = ()
    marked: bool = False  # the marks of the photograph are drawn over it


class Mark(NamedTuple):
    """An object that was lost or won against the reference, or that neither found."""

    kind: str  # LOST, WON or MISSED
    box: Sequence[float]  # xyxy, image px
    label: int
    score: float  # of the detection that one side has; 1 for MISSED


class Photograph(NamedTuple):
    """A photograph with all that is shown over it."""

    name: str
    size: tuple[int, int]  # (height, width), px
    picture: bytes  # a JPEG of it, smaller (pictures.thumbnail)
    panes: Sequence[Pane]
    marks: Sequence[Mark] = ()
    crops: Sequence[tuple[int, bytes]] = ()  # (index into marks, JPEG of its surroundings)
    truth: Sequence[tuple[Sequence[float], int]] = ()  # (xyxy, label) of boxes that somebody drew


class Report(NamedTuple):
    """Everything on the page."""

    title: str
    categories: Sequence[str]
    figures: Sequence[Figure] = ()
    lines: Sequence[str] = ()  # sentences below the table
    tables: Sequence[Table] = ()
    plot: Plot | None = None
    photographs: Sequence[Photograph] = ()
    of_photographs: int | None = None  # how many there were; None if all are shown
    versus: str = ""  # the reference of lost and won, in words
    score: float = 0.25  # detections below it are hidden at first
