"""Look where the detector itself suspects something small. Needs no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import STRIDE, AutoFocusError, Detections, Placement
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

    def where(
        crops: Sequence[np.ndarray], placements: Sequence[Placement], found: Sequence[Detections] | None
    ) -> list[np.ndarray]:
        if found is None:
            raise AutoFocusError("weak focus needs the detector's detections, got none; let the detector run")
        return [_focus(crop, *answer) for crop, answer in zip(crops, found, strict=True)]

    def _focus(crop: np.ndarray, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
        small = (box_ops.area(boxes) < max_side_px**2) & (scores > 0)
        counts = small if labels is None else small & np.isin(classes, list(labels))
        focus = empty_map(crop)
        paint(focus, boxes[counts], scores[counts], *crop.shape[:2])
        return focus

    return where


def paint(focus: np.ndarray, boxes: np.ndarray, scores: np.ndarray, height: int, width: int) -> None:
    """Write scores [n] into the cells that boxes [n, 4] (chip px) touch, the best one of each cell staying."""
    inside = box_ops.clip(boxes, height, width)
    low, high = np.floor(inside[:, :2] / STRIDE).astype(int), np.ceil(inside[:, 2:] / STRIDE).astype(int)
    shown = np.all(inside[:, :2] < inside[:, 2:], axis=1)
    for row in np.argsort(scores, kind="stable"):
        if shown[row]:
            focus[low[row, 1] : high[row, 1], low[row, 0] : high[row, 0]] = scores[row]
