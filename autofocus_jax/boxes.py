"""Box arithmetic, the same code for NumPy and jax.numpy arrays. Boxes are xyxy and half-open, shape [..., 4]."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from autofocus_jax.structures import Array

Boxes = TypeVar("Boxes", bound=Array)


def _namespace(array: Array) -> Any:
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else np


def area(boxes: Boxes) -> Boxes:
    """Return areas [...] of boxes [..., 4]; 0 for boxes of negative width or height."""
    xp = _namespace(boxes)
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(a: Boxes, b: Boxes) -> Boxes:
    """Return areas of overlap [..., N, M] between boxes a [..., N, 4] and b [..., M, 4]."""
    xp = _namespace(a)
    low = xp.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = xp.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    sides = xp.maximum(high - low, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Boxes, b: Boxes) -> Boxes:
    """Return intersection over union [..., N, M] of boxes a [..., N, 4] and b [..., M, 4]; 0 where both are empty."""
    xp = _namespace(a)
    overlap = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - overlap
    return overlap / xp.maximum(union, 1e-9)


def coverage(a: Boxes, b: Boxes) -> Boxes:
    """Return the share [..., N, M] of each box of a [..., N, 4] that lies inside each box of b [..., M, 4]."""
    xp = _namespace(a)
    return intersection(a, b) / xp.maximum(area(a)[..., :, None], 1e-9)


def clip(boxes: Boxes, height: Array | float, width: Array | float) -> Boxes:
    """Return boxes [..., 4] cut at [0, width) x [0, height); height and width broadcast against [...]."""
    xp = _namespace(boxes)
    x = xp.clip(boxes[..., 0::2], 0, xp.asarray(width)[..., None])
    y = xp.clip(boxes[..., 1::2], 0, xp.asarray(height)[..., None])
    return xp.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)


def shift(boxes: Boxes, x: Array | float, y: Array | float) -> Boxes:
    """Return boxes [..., 4] moved by x to the right and y down; both broadcast against [...]."""
    xp = _namespace(boxes)
    move = xp.stack(xp.broadcast_arrays(xp.asarray(x), xp.asarray(y)), axis=-1)
    return boxes + xp.concatenate([move, move], axis=-1).astype(boxes.dtype)


def scale(boxes: Boxes, x: Array | float, y: Array | float) -> Boxes:
    """Return boxes [..., 4] with x coordinates multiplied by x and y coordinates by y; both broadcast against [...]."""
    xp = _namespace(boxes)
    factor = xp.stack(xp.broadcast_arrays(xp.asarray(x), xp.asarray(y)), axis=-1)
    return boxes * xp.concatenate([factor, factor], axis=-1).astype(boxes.dtype)
