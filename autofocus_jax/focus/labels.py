"""FocusPixel labels (section 4.1 of the paper)."""

from __future__ import annotations

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.focus import pyramid
from autofocus_jax.structures import BACKGROUND, FOCUS, IGNORE, STRIDE, FocusRange, GroundTruth, Placement, Scale


def focus_labels(
    boxes: np.ndarray,
    height: int,
    width: int,
    focus_range: FocusRange,
    stride: int = STRIDE,
    ignore: np.ndarray | None = None,
) -> np.ndarray:
    """Return the FocusPixel labels of a chip's cells from its ground truth.

    A cell is FOCUS if it overlaps (with positive area) a box with a < sqrt(area) < b. Otherwise it is IGNORE if it
    overlaps a box with sqrt(area) <= a or b <= sqrt(area) <= c, or an ignore region. Otherwise it is BACKGROUND. Boxes
    may reach over the chip; the size of the whole box counts.

    Args:
        boxes: [G, 4], chip frame.
        height: true height of the chip, px.
        width: true width of the chip, px.
        focus_range: (a, b, c), chip px.
        stride: side of a cell, px.
        ignore: [G] bool, True for crowds and ignore regions.

    Returns:
        int8 [ceil(height / stride), ceil(width / stride)].
    """
    rows, columns = -(-height // stride), -(-width // stride)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    side = np.sqrt(box_ops.area(boxes))
    crowd = np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool).reshape(-1)
    in_focus = (focus_range.a < side) & (side < focus_range.b) & ~crowd
    unclear = (side <= focus_range.a) | ((focus_range.b <= side) & (side <= focus_range.c)) | crowd

    inside = box_ops.clip(boxes, height, width)
    visible = (inside[:, :2] < inside[:, 2:]).all(axis=1)
    cells = np.concatenate([np.floor(inside[:, :2] / stride), np.ceil(inside[:, 2:] / stride)], axis=1).astype(np.intp)
    labels = np.full((rows, columns), BACKGROUND, np.int8)
    labels[_covered(cells[unclear & visible], rows, columns)] = IGNORE
    labels[_covered(cells[in_focus & visible], rows, columns)] = FOCUS
    return labels


def level_labels(size: tuple[int, int], truth: GroundTruth, scale: Scale, focus_range: FocusRange) -> np.ndarray:
    """Return the FocusPixel labels of the whole level of an image of `size` (height, width), px, at a scale."""
    height, width = pyramid.level_size(*size, scale)
    boxes = box_ops.scale(truth.boxes, width / size[1], height / size[0])
    return focus_labels(boxes, height, width, focus_range, ignore=truth.ignore)


def chip_labels(truth: GroundTruth, place: Placement, size: tuple[int, ...], focus_range: FocusRange) -> np.ndarray:
    """Return the FocusPixel labels of a chip of `size` (height, width), px, from the ground truth of its image."""
    boxes = box_ops.scale(box_ops.shift(truth.boxes, -place.box[0], -place.box[1]), *place.factor)
    return focus_labels(boxes, size[0], size[1], focus_range, ignore=truth.ignore)


def _covered(cells: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mask [rows, columns] of what any of the ranges [n, 4] covers: corners are counted, then summed over both axes."""
    corners = np.zeros((rows + 1, columns + 1), np.int32)
    x1, y1, x2, y2 = cells.T
    np.add.at(corners, (y1, x1), 1)
    np.add.at(corners, (y2, x2), 1)
    np.add.at(corners, (y1, x2), -1)
    np.add.at(corners, (y2, x1), -1)
    return corners.cumsum(axis=0).cumsum(axis=1)[:rows, :columns] > 0
