"""Share of the objects that FocusPixels and FocusChips find, against the share of the area they take (section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import FOCUS


class FocusCurve(NamedTuple):
    """One point per threshold; recall is NaN if there was nothing to find."""

    thresholds: np.ndarray  # [T]
    recall: np.ndarray  # [T], share of the FOCUS cells at or above the threshold
    area: np.ndarray  # [T], share of all cells at or above the threshold


def pixel_curve(maps: Sequence[np.ndarray], labels: Sequence[np.ndarray], thresholds: np.ndarray) -> FocusCurve:
    """Return the recall of FocusPixels over all images: focus maps [h, w] against labels [h, w].

    Shapes may differ by image.
    """
    for number, (focus, label) in enumerate(zip(maps, labels, strict=True)):
        if focus.shape != label.shape:
            raise ValueError(f"focus map {number} has shape {focus.shape}, its labels {label.shape}; want the same")
    probability = np.concatenate([np.ravel(focus) for focus in maps]) if maps else np.zeros(0)
    wanted = np.concatenate([np.ravel(label) for label in labels]) == FOCUS if labels else np.zeros(0, bool)
    thresholds = np.asarray(thresholds, np.float64)
    return FocusCurve(thresholds, _share(probability[wanted], thresholds), _share(probability, thresholds))


def chip_recall(
    chips: Sequence[np.ndarray], boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Return (recall, area) of disjoint FocusChips against boxes.

    Args:
        chips: [n, 4] for each image.
        boxes: [G, 4] for each image, in the frame of the chips.
        sizes: (height, width) of each image, in the same frame.

    Returns:
        recall: share of the boxes that lie whole in one chip; NaN without boxes.
        area: share of the images' area that chips cover; NaN without images.
    """
    found = total = 0
    asked = whole = 0.0
    for chip, box, (height, width) in zip(chips, boxes, sizes, strict=True):
        found += int(shown_whole(chip, box).sum())
        total += len(box)
        asked += float(box_ops.area(chip).sum())
        whole += height * width
    return (found / total if total else float("nan")), (asked / whole if whole else float("nan"))


def shown_whole(chips: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return which of the boxes [G, 4] lie whole in one of the chips [n, 4], [G] bool."""
    inside = (boxes[:, None, :2] >= chips[None, :, :2]) & (boxes[:, None, 2:] <= chips[None, :, 2:])
    return np.any(np.all(inside, axis=2), axis=1)


def _share(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """[T]: share of the values at or above each threshold."""
    if not values.size:
        return np.full(len(thresholds), np.nan)
    return 1 - np.searchsorted(np.sort(values), thresholds, side="left") / values.size
