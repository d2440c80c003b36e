"""FocusChips: from a focus map to the few rectangles of the next scale (Algorithm 1 of the paper)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from autofocus_jax.structures import STRIDE, AutoFocusError, ChipRule, RuleError

# (focus map [h, w], (height, width) in level px) -> chips [n, 4] int32 xyxy in level px. For scales after the first the
# "level" is the chip that the map was predicted for.
ChipFunction = Callable[[np.ndarray, tuple[int, int]], np.ndarray]

_EIGHT_CONNECTED = np.ones((3, 3), bool)


def focus_chips(focus: np.ndarray, level_size: tuple[int, int], rule: ChipRule, stride: int = STRIDE) -> np.ndarray:
    """Return FocusChips of a focus map by Algorithm 1 of the paper.

    Cells at or above the threshold are dilated, joined by 8-connectivity and enclosed in boxes of a least size. Boxes
    that overlap are merged. A threshold of 0 or less takes every cell. NaN cells take no part otherwise. Boxes below
    rule.min_size grow about their centre and shift to stay inside the level; on a shorter level they take its whole
    length.

    Args:
        focus: [ceil(H / stride), ceil(W / stride)] FocusPixel probabilities.
        level_size: (H, W) of the level, px.
        rule: threshold, dilation and least size.
        stride: px of a cell.

    Returns:
        [n, 4] int32 boxes, xyxy, half-open, level frame. They are disjoint, lie inside the level and cover every cell
        at or above the threshold.

    Raises:
        AutoFocusError: the map does not belong to such a level.
    """
    boxes = component_boxes(focus, level_size, rule, stride)
    return merge_overlapping(at_least(boxes, level_size, rule.min_size))


def component_boxes(focus: np.ndarray, level_size: tuple[int, int], rule: ChipRule, stride: int = STRIDE) -> np.ndarray:
    """Return the boxes [n, 4] int32 (level frame) of the dilated components of a focus map, which may overlap.

    Arguments and errors are those of `focus_chips`. A threshold of 0 or less gives the whole level.
    """
    height, width = level_size
    if focus.shape != (-(-height // stride), -(-width // stride)):
        raise AutoFocusError(
            f"a level of {height}x{width} px has {-(-height // stride)}x{-(-width // stride)} cells of {stride} px; "
            f"the focus map has {'x'.join(map(str, focus.shape))}; cut it at the level's true size"
        )
    if rule.threshold <= 0:
        return whole_level(focus, level_size)
    chosen = focus >= rule.threshold
    if not chosen.any():
        return np.zeros((0, 4), np.int32)
    components, _ = ndimage.label(_dilate(chosen, rule.dilation), _EIGHT_CONNECTED)
    cells = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(components)]
    return np.minimum(np.array(cells, np.int32) * stride, np.array([width, height, width, height], np.int32))


def whole_level(focus: np.ndarray, level_size: tuple[int, int]) -> np.ndarray:
    """Return the whole level as one chip [1, 4], whatever the focus map holds: the rule of the full image pyramid."""
    height, width = level_size
    return np.array([[0, 0, width, height]], np.int32)


def at_least(boxes: np.ndarray, level_size: tuple[int, int], size: int) -> np.ndarray:
    """Return boxes [n, 4] grown about their centre to sides of at least `size`, or to the level's (height, width)."""
    lengths = np.array(level_size[::-1], np.int32)
    side = np.maximum(boxes[:, 2:] - boxes[:, :2], np.minimum(size, lengths))
    low = boxes[:, :2] - (side - (boxes[:, 2:] - boxes[:, :2])) // 2
    low = np.clip(low, 0, lengths - side)
    return np.concatenate([low, low + side], axis=1).astype(np.int32)


def merge_overlapping(boxes: np.ndarray) -> np.ndarray:
    """Replace boxes [n, 4] that overlap with positive area by their enclosing box, until nothing overlaps.

    The result [m, 4], m <= n, does not depend on the order of merging.
    """
    while len(boxes) > 1:
        together = overlaps(boxes, boxes)
        np.fill_diagonal(together, True)  # empty boxes overlap nothing, themselves included
        group = together.argmax(axis=1)  # the first box that each one overlaps
        while (group != group[group]).any():
            group = group[group]
        first, group = np.unique(group, return_inverse=True)
        if len(first) == len(boxes):
            break
        merged = boxes[first]
        np.minimum.at(merged[:, :2], group, boxes[:, :2])
        np.maximum.at(merged[:, 2:], group, boxes[:, 2:])
        boxes = merged
    return boxes


def whole_pixels(boxes: np.ndarray) -> np.ndarray:
    """Round disjoint boxes [n, 4] (image frame, fractions of px) outward to whole px and keep them disjoint.

    If two rounded boxes share a column of pixels, the left box gives it up. If they share a row alone, the upper box
    does. So boxes that meet at a corner lose a column and no row. A box without a pixel is left out.

    Returns:
        [m, 4] int32.
    """
    rounded = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.int32)
    one, other = np.nonzero(overlaps(rounded, rounded))
    limits = rounded[other, :2]
    beside = (boxes[one, 2] <= boxes[other, 0]) | (boxes[other, 2] <= boxes[one, 0])  # a column between them is enough
    for axis in range(2):
        before = boxes[one, 2 + axis] <= boxes[other, axis]
        if axis:
            before &= ~beside
        np.minimum.at(rounded[:, 2 + axis], one[before], limits[before, axis])
    return rounded[(rounded[:, :2] < rounded[:, 2:]).all(axis=1)]


def checked(answer: np.ndarray, level_size: tuple[int, int]) -> np.ndarray:
    """Return the answer of a chip function as boxes [n, 4] float64, level frame.

    Args:
        answer: boxes [n, 4], level frame.
        level_size: (height, width) of the level or chip that the focus map belongs to, px.

    Raises:
        RuleError: the boxes are not [n, 4], not in whole pixels, not inside the level, empty, or overlap.
    """
    boxes = np.asarray(answer, np.float64)
    if not boxes.size:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise RuleError(f"a chip rule must answer boxes [n, 4], got shape {list(boxes.shape)}")
    fractions = (boxes != np.floor(boxes)).any(1)
    if fractions.any():
        raise RuleError(f"chips of a rule must be whole pixels, got {_first(boxes, fractions)}; round them outward")
    height, width = level_size
    low, high = boxes[:, :2], boxes[:, 2:]
    wrong = np.any((low < 0) | (high > [width, height]) | (low >= high), axis=1)
    if wrong.any():
        raise RuleError(f"chips of a rule must hold pixels and lie inside the level of {height}x{width} px, "
                        f"got {_first(boxes, wrong)}")  # fmt: skip
    if len(boxes) > 1:
        together = np.triu(overlaps(boxes, boxes), 1)
        if together.any():
            one, other = (boxes[position].astype(int).tolist() for position in np.argwhere(together)[0])
            raise RuleError(f"chips of a rule must not overlap, got {one} and {other}; use merge_overlapping")
    return boxes


def _first(boxes: np.ndarray, wrong: np.ndarray) -> list[float]:
    return boxes[np.flatnonzero(wrong)[0]].tolist()


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of boxes [n, 4] and others [m, 4] share a positive area, [n, m] bool; empty boxes share none."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)[:, :, None]
    left, top, right, bottom = np.ascontiguousarray(others.T)
    return (x1 < right) & (left < x2) & (y1 < bottom) & (top < y2)


def _dilate(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask dilated with a size x size square (odd); a handful of shifts beats scipy's dilation on these maps."""
    for axis in range(2):
        source = mask
        mask = source.copy()
        for step in range(1, size // 2 + 1):
            if step >= source.shape[axis]:
                break
            ahead, behind = (slice(step, None), slice(None, -step))
            index = (slice(None),) * axis
            mask[(*index, ahead)] |= source[(*index, behind)]
            mask[(*index, behind)] |= source[(*index, ahead)]
    return mask
