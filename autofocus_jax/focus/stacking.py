"""Focus stacking (section 4.3 of the paper): selection of each chip's detections, and merging over all scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.structures import Detections, Placement, Scale, ValidRange

# IoU [...] of rows of a class with a row that is picked -> what their scores are multiplied by, [...] in 0..1
Decay = Callable[[np.ndarray], np.ndarray]

# Classes of so few rows get the decays of all their pairs at once: NumPy takes as long for a few numbers as for many.
_TABLE_ROWS = 128


class ScaleDetections(NamedTuple):
    """Detections of one image at one scale, one row per (box, class)."""

    detections: Detections  # rows [m], boxes in the image frame, in any order
    chip: np.ndarray  # [m] int, row of `chips` that each one was found in
    chips: np.ndarray  # [c, 4] float32, the chips' boxes in the image frame


class Stacked(NamedTuple):
    """Result of focus stacking for one image at one scale (image frame)."""

    kept: Detections  # went on to the merging of all scales
    removed: Detections  # in the valid range, but cut by a border of its chip


def project(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """Return boxes [n, 4] projected from the chip frame to the image frame.

    `placement` holds one chip, or one for each row.
    """
    factor, box = np.asarray(placement.factor), np.asarray(placement.box)
    return box_ops.shift(box_ops.scale(boxes, 1 / factor[..., 0], 1 / factor[..., 1]), box[..., 0], box[..., 1])


def border_mask(boxes: np.ndarray, chip: np.ndarray, image_size: tuple[int, int], tolerance: float) -> np.ndarray:
    """Return which detections no border of their chip has cut, [n] bool.

    A detection is cut if one of its sides is at most `tolerance` inside that side of its chip, or beyond it. Sides of
    the chip on the image's own border do not count. Every side is judged alone.

    Args:
        boxes: [n, 4], image frame.
        chip: [4] or [n, 4], image frame.
        image_size: (height, width), px.
        tolerance: image px.
    """
    return _inside(boxes, _limits(chip, image_size, tolerance))


def valid_mask(boxes: np.ndarray, valid: ValidRange) -> np.ndarray:
    """Return which boxes [n, 4] (image frame) have sqrt(area) in the valid range, both ends included: [n] bool."""
    return valid.holds(np.sqrt(box_ops.area(boxes)))


def gaussian_decay(sigma: float) -> Decay:
    """Return the decay exp(-IoU^2 / sigma) of soft-NMS (Bodla et al. 2017)."""
    return lambda iou: np.exp(iou * iou * (-1 / sigma))


def hard_decay(nms_iou: float) -> Decay:
    """Return the decay of ordinary greedy NMS: 0 above an IoU of nms_iou, else 1."""
    return lambda iou: (iou <= nms_iou).astype(np.float32)


def soft_nms(
    boxes: np.ndarray, scores: np.ndarray, sigma: float, score_threshold: float, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run exact Gaussian soft-NMS on one class.

    The best row is picked and the scores of the rest decay. This repeats while a score is above score_threshold and
    fewer than `limit` rows are picked.

    Args:
        boxes: [n, 4].
        scores: [n].
        sigma: of the decay.
        score_threshold: scores at or below it are not picked.
        limit: most rows to pick.

    Returns:
        The picked rows [m] of `boxes`, best first, and their decayed scores [m].
    """
    return _pick(boxes, scores, np.zeros(len(boxes), np.int32), gaussian_decay(sigma), score_threshold, limit)


def merge(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, config: StackingConfig) -> Detections:
    """Run NMS on every class and keep the best config.max_detections of all classes together.

    The result equals running each class to its end and sorting, because decay only lowers scores.

    Args:
        boxes: [n, 4], one row per (box, class).
        scores: [n]. Scores not above config.score_threshold, and NaN, take no part.
        labels: [n].
        config: kind of NMS, threshold and number of detections.
    """
    decay = gaussian_decay(config.soft_nms_sigma) if config.nms_iou is None else hard_decay(config.nms_iou)
    rows, picked = _pick(boxes, scores, labels, decay, config.score_threshold, config.max_detections)
    return Detections(np.asarray(boxes)[rows], picked, np.asarray(labels)[rows])


def stack(
    found: Sequence[ScaleDetections], image_size: tuple[int, int], scales: Sequence[Scale], config: StackingConfig
) -> tuple[Detections, list[Stacked]]:
    """Stack the detections of one image: valid ranges and border rules at each scale, then merging over the scales.

    Args:
        found: one entry per scale.
        image_size: (height, width), px.
        scales: the pyramid.
        config: border tolerance and merging.

    Returns:
        The image's detections, best first, and the kept and removed detections per scale. Detections out of a scale's
        valid range are in neither: another scale answers for them.
    """
    stages = []
    for (detections, chip, chips), scale in zip(found, scales, strict=True):
        valid = np.flatnonzero(valid_mask(detections.boxes, scale.valid))
        limits = _limits(chips, image_size, config.border_tolerance)
        whole = _inside(detections.boxes.take(valid, axis=0), limits.take(chip.take(valid), axis=0))
        stages.append(Stacked(_rows(detections, valid[whole]), _rows(detections, valid[~whole])))
    return merge_all([stage.kept for stage in stages], config), stages


def merge_all(parts: Sequence[Detections], config: StackingConfig) -> Detections:
    """Return `merge` of all parts together. There must be at least one part."""
    boxes, scores, labels = (np.concatenate(fields) for fields in zip(*parts))
    return merge(boxes, scores, labels, config)


def _limits(chips: np.ndarray, image_size: tuple[int, int], tolerance: float) -> np.ndarray:
    """[..., 4]: what the sides of a detection must lie strictly inside of, so that no border of its chip cuts it."""
    height, width = image_size
    low = np.where(chips[..., :2] <= 0, -np.inf, chips[..., :2] + tolerance)
    high = np.where(chips[..., 2:] >= np.array([width, height]), np.inf, chips[..., 2:] - tolerance)
    return np.concatenate([low, high], axis=-1)


def _inside(boxes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """[n] bool: all sides of boxes [n, 4] lie strictly inside limits [4] or [n, 4]."""
    (x1, y1, x2, y2), (left, upper, right, lower) = boxes.T, limits.T  # columns: NumPy is slow along a short axis
    return (x1 > left) & (y1 > upper) & (x2 < right) & (y2 < lower)


def _rows(detections: Detections, rows: np.ndarray) -> Detections:
    return Detections(*(field.take(rows, axis=0) for field in detections))


def _pick(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, decay: Decay, score_threshold: float, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows picked one by one, best of all classes first, each decaying its own class; and their scores when picked.

    Ties go to the lower class, then to the earlier row. Picks are few beside rows, so it first tries higher thresholds:
    decay only lowers scores, and what is not picked decays nothing, so the picks above a higher threshold are the
    beginning of those above a lower one, and final once they reach the limit.
    """
    scores = np.asarray(scores, np.float32)
    above = scores[scores > score_threshold]
    count = 4 * limit
    while 0 < count < len(above):
        rows, picked = _pick_above(boxes, scores, labels, decay, np.partition(above, -count)[-count], limit)
        if len(rows) == limit:
            return rows, picked
        count *= 4
    return _pick_above(boxes, scores, labels, decay, score_threshold, limit)


class _Class(NamedTuple):
    """The rows of one class: views of arrays of all rows."""

    start: int  # position of the first one
    scores: np.ndarray  # [m] float32, decayed so far; -1 when picked
    reach: np.ndarray  # [4, m], see _iou
    areas: np.ndarray  # [m]


def _pick_above(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, decay: Decay, score_threshold: float, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """_pick of all rows above a threshold, sorted by class, so that a class is a slice of every array."""
    rows = np.flatnonzero(scores > score_threshold)
    if not len(rows) or limit <= 0:
        return rows[:0], scores[:0]
    rows = rows[np.argsort(labels[rows], kind="stable")]
    current = scores[rows]
    low, high = np.asarray(boxes, np.float32)[rows].T.reshape(2, 2, -1)
    reach = np.concatenate([-low, high])  # left, up, right and down
    areas = np.maximum((high - low).prod(axis=0), 1e-9)
    starts = np.flatnonzero(np.diff(labels[rows], prepend=-1)).tolist()
    classes = [
        _Class(start, current[start:stop], reach[:, start:stop], areas[start:stop])
        for start, stop in zip(starts, [*starts[1:], len(rows)])
    ]
    peaks = [of_class.scores.argmax() for of_class in classes]
    best = np.array([of_class.scores[peak] for of_class, peak in zip(classes, peaks)])
    tables: dict[int, np.ndarray] = {}
    picks: list[int] = []
    picked: list[float] = []
    while len(picks) < limit:
        group = int(best.argmax())
        if not best[group] > score_threshold:
            break
        peak, (start, left, reach, areas) = peaks[group], classes[group]
        picks.append(start + int(peak))
        picked.append(best[group])
        if len(left) > _TABLE_ROWS:
            left *= decay(_iou(reach, areas, reach[:, peak, None], areas[peak]))
        else:
            if group not in tables:
                tables[group] = decay(_iou(reach[:, None], areas, reach[:, :, None], areas[:, None]))
            left *= tables[group][peak]
        left[peak] = -1
        peaks[group] = peak = left.argmax()
        best[group] = left[peak]
    return rows[picks], np.array(picked, np.float32)


def _iou(reach: np.ndarray, areas: np.ndarray, other_reach: np.ndarray, other_areas: np.ndarray) -> np.ndarray:
    """IoU of boxes given by how far they reach, [4, ...] (-x1, -y1, x2, y2), and their areas [...]; they broadcast."""
    shared = np.minimum(reach, other_reach)  # that of an overlap is the lesser of two
    overlap = np.multiply(*np.maximum(shared[:2] + shared[2:], 0))
    return overlap / (areas + other_areas - overlap)
