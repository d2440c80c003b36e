"""PASCAL VOC's average precision, as VOC's development kit and the authors' release compute it.

VOC's boxes are inclusive and count from 1: [x1, y1, x2, y2] there is the half-open [x1 - 1, y1 - 1, x2, y2] here. Sides
and overlaps are then the same numbers without VOC's "+ 1", so boxes read that way get exactly VOC's IoU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import Dataset, Detections, GroundTruth

# The recalls of the 11-point form. Their last bits decide for recalls such as 3/10, and these are the release's.
_RECALLS = np.arange(0.0, 1.1, 0.1)


class VocScores(NamedTuple):
    """Average precision in points of 100, averaged over the categories that have an object to find, else NaN.

    VOC 2007 and the paper's Table 2 use the 11-point form. VOC since 2010 uses the area under the curve.
    """

    ap50: float  # 11-point form at IoU 0.5
    ap70: float
    ap50_area: float  # area under the curve
    ap70_area: float
    per_category: dict[str, tuple[float, ...]]  # the same four


class _Matches(NamedTuple):
    """Every detection of a data set with the object of its class that it overlaps most."""

    scores: np.ndarray  # [n] float64
    labels: np.ndarray  # [n] int
    iou: np.ndarray  # [n] float64, 0 where its image has no object of its class
    target: np.ndarray  # [n] int, number of that object in the data set
    difficult: np.ndarray  # [n] bool, whether it is difficult


def evaluate(dataset: Dataset, detections: Sequence[Detections], indices: Sequence[int]) -> VocScores:
    """Score detections, one Detections for each image of `indices`, against the dataset's ground truth.

    Ignore flags of the ground truth are VOC's `difficult`: such objects need not be found, and detections on them are
    neither right nor wrong.
    """
    if len(detections) != len(indices):
        raise ValueError(f"{len(detections)} Detections for {len(indices)} images; give one for each")
    truths = [dataset.ground_truth(index) for index in indices]
    matches = _match(truths, detections)
    wanted = np.bincount(
        np.concatenate([np.zeros(0, np.int64), *(truth.labels[~truth.ignore] for truth in truths)]),
        minlength=len(dataset.categories),
    )
    per_category: dict[str, tuple[float, ...]] = {}
    for label, name in enumerate(dataset.categories):
        per_category[name] = (float("nan"),) * 4
        if wanted[label]:
            own = _Matches(*(field[matches.labels == label] for field in matches))
            curves = [precision_recall(*_right(own, iou), int(wanted[label])) for iou in (0.5, 0.7)]
            values = [form(*curve) for form in (eleven_point, area_under) for curve in curves]
            per_category[name] = tuple(100 * value for value in values)
    means = [_mean(column) for column in zip(*per_category.values())] or [float("nan")] * 4
    return VocScores(means[0], means[1], means[2], means[3], per_category)


def precision_recall(right: np.ndarray, counted: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (precision, recall) [n] after each detection of one category, best score first.

    Args:
        right: [n] bool, the detection finds an object that no better detection found.
        counted: [n] bool, the detection is right or wrong, not on a difficult object.
        wanted: number of objects that are not difficult, at least 1.
    """
    true, all_counted = np.cumsum(right), np.cumsum(counted)
    return true / np.maximum(all_counted, np.finfo(np.float64).eps), true / wanted


def eleven_point(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the AP of VOC 2007: the mean of the best precisions at recalls of at least 0, 0.1 .. 1."""
    reached = recall >= _RECALLS[:, None]
    return float(np.where(reached, precision, 0).max(axis=1, initial=0).mean())


def area_under(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the AP of VOC since 2010: the area under the curve of precision over recall, made falling."""
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(recall, prepend=0) @ falling)


def _match(truths: Iterable[GroundTruth], detections: Iterable[Detections]) -> _Matches:
    parts, first = [_Matches(*(np.zeros(0, kind) for kind in (float, int, float, int, bool)))], 0
    for truth, found in zip(truths, detections, strict=True):
        scores, labels = found.scores.astype(np.float64), found.labels.astype(np.int64)
        iou, target = np.zeros(len(scores)), np.zeros(len(scores), np.int64)
        difficult = np.zeros(len(scores), bool)
        if len(truth.labels) and len(scores):
            overlaps = box_ops.iou(found.boxes.astype(np.float64), truth.boxes.astype(np.float64))
            overlaps = np.where(labels[:, None] == truth.labels, overlaps, 0)
            best = overlaps.argmax(axis=1)
            iou, target, difficult = overlaps[np.arange(len(best)), best], first + best, truth.ignore[best]
        parts.append(_Matches(scores, labels, iou, target, difficult))
        first += len(truth.labels)
    return _Matches(*(np.concatenate(column) for column in zip(*parts)))


def _right(matches: _Matches, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (right, counted) [n] bool of one category's detections in falling order of score, for precision_recall.

    Among the detections that overlap an object most and by more than `iou`, the best is right and the rest are wrong.
    """
    order = np.argsort(-matches.scores, kind="stable")
    hit = matches.iou[order] > iou
    on_difficult = hit & matches.difficult[order]
    claims = np.flatnonzero(hit & ~on_difficult)
    _, best = np.unique(matches.target[order][claims], return_index=True)
    right = np.zeros(len(order), bool)
    right[claims[best]] = True
    return right, ~on_difficult


def _mean(values: Iterable[float]) -> float:
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")
