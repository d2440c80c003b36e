"""The host stages as one writes them first: loops over cells, boxes and rows. What benchmarks/host.py compares with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.stacking import ScaleDetections
from autofocus_jax.structures import STRIDE, ChipRule, Scale

Box = tuple[int, int, int, int]


def naive_chips(focus: np.ndarray, level_size: tuple[int, int], rule: ChipRule) -> list[Box]:
    """Algorithm 1 with a flood fill; pairs of boxes are merged one at a time. Sorted boxes, level px."""
    height, width = level_size
    rows, columns = focus.shape
    reach = range(-(rule.dilation // 2), rule.dilation // 2 + 1)
    left = set()
    for row in range(rows):
        for column in range(columns):
            if focus[row, column] >= rule.threshold:
                left |= {(row + y, column + x) for y in reach for x in reach}
    left = {(row, column) for row, column in left if 0 <= row < rows and 0 <= column < columns}
    boxes = []
    while left:
        waiting, ys, xs = [left.pop()], [], []
        while waiting:
            row, column = waiting.pop()
            ys.append(row)
            xs.append(column)
            near = {(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} & left
            left -= near
            waiting += near
        (x1, x2), (y1, y2) = _span(xs, width, rule.min_size), _span(ys, height, rule.min_size)
        boxes.append((x1, y1, x2, y2))
    return sorted(_merged(boxes))


def _span(cells: Sequence[int], length: int, least: int) -> tuple[int, int]:
    low, high = STRIDE * min(cells), min(STRIDE * max(cells) + STRIDE, length)
    side = max(high - low, min(least, length))
    low = min(max(low - (side - (high - low)) // 2, 0), length - side)
    return low, low + side


def _merged(boxes: list[Box]) -> list[Box]:
    """Takes in one box after the other, together with all that it meets, until it meets nothing more."""
    apart: list[Box] = []
    for box in boxes:
        while met := [other for other in apart if _overlap(box, other)]:
            apart = [other for other in apart if other not in met]
            x1, y1, x2, y2 = zip(box, *met)
            box = (min(x1), min(y1), max(x2), max(y2))
        apart.append(box)
    return apart


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def naive_stack(
    found: Sequence[ScaleDetections], image_size: tuple[int, int], scales: Sequence[Scale], config: StackingConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranges and borders row by row, soft-NMS of each class to its end, then the best of all classes.

    Returns boxes [n, 4], scores [n], labels [n], best first; the arithmetic of a score is that of the program, in
    float32 and in the same order, so that the two may be compared to the last bit.
    """
    height, width = image_size
    kept: dict[int, list[tuple[np.ndarray, float]]] = {}
    for (detections, chip, chips), scale in zip(found, scales):
        for box, score, label, row in zip(*detections, chip):
            x1, y1, x2, y2 = box.tolist()
            left, upper, right, lower = chips[row].tolist()
            inner = (x1 - left, y1 - upper, right - x2, lower - y2)
            own = (left <= 0, upper <= 0, right >= width, lower >= height)
            whole = all(side or room > config.border_tolerance for side, room in zip(own, inner))
            side = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            if whole and scale.valid.low <= side <= scale.valid.high:
                kept.setdefault(int(label), []).append((box, score))
    picked = []
    for label in sorted(kept):
        boxes, scores = (np.array(part) for part in zip(*kept[label]))
        picked += [(score, label, boxes[row]) for row, score in _soft_nms(boxes, scores, config)]
    picked.sort(key=lambda pick: -pick[0])  # stable: of equal ones the lower class first
    picked = picked[: config.max_detections]
    scores, labels = (
        np.array([pick[0] for pick in picked], np.float32),
        np.array([pick[1] for pick in picked], np.int32),
    )
    return np.array([pick[2] for pick in picked], np.float32).reshape(-1, 4), scores, labels


def _soft_nms(boxes: np.ndarray, scores: np.ndarray, config: StackingConfig) -> list[tuple[int, float]]:
    """(row, score) of the picks of one class, until no score is above the threshold."""
    x1, y1, x2, y2 = boxes.T
    areas = np.maximum((x2 - x1) * (y2 - y1), np.float32(1e-9))
    picks = []
    while scores.max() > config.score_threshold:
        row = int(scores.argmax())
        picks.append((row, scores[row]))
        right, left = np.minimum(x2, x2[row]), np.maximum(x1, x1[row])
        lower, upper = np.minimum(y2, y2[row]), np.maximum(y1, y1[row])
        shared = np.maximum(right - left, 0) * np.maximum(lower - upper, 0)
        overlap = shared / (areas + areas[row] - shared)
        scores = scores * np.exp(overlap * overlap * (-1 / config.soft_nms_sigma))
        scores[row] = -1
    return picks
