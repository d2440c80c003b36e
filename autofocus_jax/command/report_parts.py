"""Parts of a report, made of what a run leaves behind: panes of stages, lost and won objects, tables, pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table as RichTable

from autofocus_jax.focus.cascade import Stage
from autofocus_jax.foreign.magnification import KNOWN, best_scores
from autofocus_jax.metrics.agreement import SURE, known
from autofocus_jax.report import pictures
from autofocus_jax.report.values import LOST, MISSED, WON, FocusMap, Mark, Pane, Photograph, Table
from autofocus_jax.structures import Detections, GroundTruth, Scale
from autofocus_jax.visualize.panels import work


def above(found: Detections, score: float) -> Detections:
    """Return the detections with a score of at least `score`."""
    return Detections(*(field[found.scores >= score] for field in found))


def stage_panes(stages: Sequence[Stage], scales: Sequence[Scale], size: tuple[int, int], score: float) -> list[Pane]:
    """Return a pane for each scale: its focus map, chips, detections, and those that stacking removed.

    Args:
        stages: of one image, one for each scale.
        scales: the pyramid.
        size: (height, width) of the image, px.
        score: detections below it are left out.
    """
    return [
        Pane(f"scale {number}", work(size, stage, scale), above(stage.kept, score), above(stage.removed, score),
             stage.chips, _focus(stage))
        for number, (stage, scale) in enumerate(zip(stages, scales, strict=True), 1)
    ]  # fmt: skip


def looked_closer(pane: Pane, stages: Sequence[Stage]) -> Pane:
    """Return a pane with the focus map of scale 1 and the chips of scale 2, which it led to."""
    return pane._replace(focus=_focus(stages[0]), chips=stages[1].chips) if len(stages) > 1 else pane


def marks(reference: Detections, ours: Detections, truth: GroundTruth | None) -> list[Mark]:
    """Return the objects that detections lost and won against a reference, surest first, then those that both miss.

    With boxes of truth an object is found by a detection of its class with an IoU of 0.5 and a score of 0.25. Without,
    a detection of 0.5 or more is lost or won that has no such partner on the other side.

    Args:
        reference: detections of one image.
        ours: other detections of it.
        truth: its boxes, or None.
    """
    if truth is None:
        sides = ((LOST, reference, ours), (WON, ours, reference))
        found = [
            Mark(kind, box.tolist(), int(label), float(score))
            for kind, one, other in sides
            for box, score, label in zip(*(field[~known(one, other)] for field in above(one, SURE)))
        ]
        return sorted(found, key=lambda mark: -mark.score)
    boxes, labels = truth.boxes[~truth.ignore], truth.labels[~truth.ignore]
    before, after = (best_scores(boxes, labels, side) for side in (reference, ours))
    found = []
    for box, label, one, other in zip(boxes, labels, before, after):
        if (one >= KNOWN) == (other >= KNOWN):
            kind, score = MISSED, 1.0
        else:
            kind, score = (LOST, one) if one >= KNOWN else (WON, other)
        if kind != MISSED or one < KNOWN:
            found.append(Mark(kind, box.tolist(), int(label), float(score)))
    return sorted(found, key=lambda mark: (mark.kind == MISSED, -mark.score))


def pictured(
    name: str, image: np.ndarray, panes: Sequence[Pane], share: int, found: Sequence[Mark] = (),
    truth: GroundTruth | None = None,
) -> Photograph:  # fmt: skip
    """Return a photograph of a report with its pictures.

    Args:
        name: what it is called.
        image: [h, w, 3] uint8 RGB.
        panes: what is shown over it.
        share: bytes of its pictures; a quarter of them may go to crops.
        found: lost and won objects, best first.
        truth: its boxes, if there are any.
    """
    crops = pictures.crops(image, [mark for mark in found if mark.kind != MISSED], share // 4)
    rest = share - sum(len(data) for _, data in crops)
    boxes = [] if truth is None else [
        (box.tolist(), int(label)) for box, label, ignore in zip(*truth) if not ignore
    ]  # fmt: skip
    return Photograph(name, image.shape[:2], pictures.thumbnail(image, rest), panes, found, crops, boxes)


def table_of(table: RichTable, strong: Sequence[str] = ()) -> Table:
    """Return a table for terminals as one of a report; rows named in `strong` stand out."""
    cells = zip(*([str(cell) for cell in column.cells] for column in table.columns))
    return Table(str(table.title or ""), [str(column.header) for column in table.columns], list(cells), strong)


def _focus(stage: Stage) -> list[FocusMap]:
    return [FocusMap(chip.tolist(), values) for chip, values in zip(stage.chips, stage.focus)]
