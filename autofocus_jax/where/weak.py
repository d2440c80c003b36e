"""Look where the detector itself suspects something small. Needs no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import STRIDE, AutoFocusError, ChipBatch, DetectorOutput, Placement
from autofocus_jax.where.combine import Where, empty_map


def weak(max_side_px: float = 64.0, labels: Sequence[int] | None = None) -> Where:
    """Make a focus map of the detector's own detections that are small at this scale, whatever their score.

    A cell has the best score of the small detections that touch it, so the threshold of the chip rule is a score.

    Args:
      max_side_px: a detection counts when sqrt(area) is below this, chip px.
      labels: classes that count; all of them by default.
    """
    if not max_side_px > 0:
        raise AutoFocusError(f"max_side_px must be above 0, got {max_side_px}")

    def where(chips: ChipBatch, placements: Sequence[Placement], output: DetectorOutput | None) -> np.ndarray:
        if output is None:
            raise AutoFocusError("weak focus reads what the detector found, and there is none; let the detector run")
        focus = empty_map(chips)
        for row in range(len(placements)):
            filled = np.flatnonzero(np.asarray(output.valid)[row])
            boxes, scores = np.asarray(output.boxes)[row, filled], np.asarray(output.scores)[row, filled]
            scores = scores if labels is None else scores[:, list(labels)]
            best = scores.max(axis=1, initial=0.0)
            small = (box_ops.area(boxes) < max_side_px**2) & (best > 0)
            paint(focus[row], boxes[small], best[small], *np.asarray(chips.size)[row])
        return focus

    return where


def paint(focus: np.ndarray, boxes: np.ndarray, scores: np.ndarray, height: int, width: int) -> None:
    """Write scores [n] into the cells that boxes [n, 4] (chip px) touch, the best one of each cell staying."""
    inside = box_ops.clip(boxes, height, width)
    low, high = np.floor(inside[:, :2] / STRIDE).astype(int), np.ceil(inside[:, 2:] / STRIDE).astype(int)
    shown = (inside[:, :2] < inside[:, 2:]).all(axis=1)
    for row in np.argsort(scores, kind="stable"):
        if shown[row]:
            focus[low[row, 1] : high[row, 1], low[row, 0] : high[row, 0]] = scores[row]
