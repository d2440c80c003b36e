"""Where a frame of a video differs from the frame before, apart from its brightness and a slow camera."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from autofocus_jax.focus import pyramid
from autofocus_jax.structures import STRIDE, Scale

LEAST = 8.0  # grey levels of 255: a smaller difference is no change
NOISE = 6.0  # neither is one below so many standard deviations of what is left of the whole picture
UNLIKE = 6.0  # standard deviation, grey levels, from which on the whole picture is another one
ROUNDS = 3  # of fitting; each leaves out what the last could not explain
_EIGHT_CONNECTED = np.ones((3, 3), bool)


def grey(image: np.ndarray, finest: Scale) -> np.ndarray:
    """Return a small grey version [h, w] float32 of an image: means of half a cell of the finest scale.

    Args:
        image: uint8 RGB [H, W, 3].
        finest: the finest scale of the plan.
    """
    height, width = image.shape[:2]
    sides = pyramid.level_size(height, width, finest)
    size = max(2, 2 * sides[0] // STRIDE), max(2, 2 * sides[1] // STRIDE)
    small = pyramid.crop(image, np.array([0, 0, width, height]), 1.0, size)[0]
    return small.mean(axis=2, dtype=np.float32)


def changed(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return which pixels of a grey picture changed, [h, w] bool.

    Least squares explain what they can of the picture by a gain and an offset of the picture before, and by its shift
    of about a grey pixel. What they leave counts if it is large by itself and beside the rest of the picture. If they
    explain little anywhere, everything changed.

    Args:
        before: grey version [h, w] of the frame before.
        now: grey version [h, w] of the frame.
    """
    down, right = np.gradient(before)
    causes = np.stack([before, np.ones_like(before), down, right], axis=-1).reshape(-1, 4).astype(np.float64)
    wanted = now.ravel().astype(np.float64)
    kept = np.ones(len(wanted), bool)
    for _ in range(ROUNDS):
        factors = np.linalg.lstsq(causes[kept], wanted[kept], rcond=None)[0]
        left = np.abs(wanted - causes @ factors)
        deviation = 1.4826 * float(np.median(left))  # of normal noise, which the few things that moved do not raise
        kept = left <= max(LEAST, 3 * deviation)
    if deviation > UNLIKE:
        return np.ones(now.shape, bool)
    return (left > max(LEAST, NOISE * deviation)).reshape(now.shape)


def places(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes [n, 4] float32 (image frame) around what is True in a map [h, w] and close together.

    Args:
        cells: [h, w] bool, stretched over the image.
        size: (height, width) of the image, px.
    """
    joined, _ = ndimage.label(ndimage.binary_dilation(cells, _EIGHT_CONNECTED), _EIGHT_CONNECTED)
    joined[~cells] = 0
    found = [(x.start, y.start, x.stop, y.stop) for y, x in filter(None, ndimage.find_objects(joined))]
    steps = np.array([size[1] / cells.shape[1], size[0] / cells.shape[0]] * 2)
    return (np.array(found).reshape(-1, 4) * steps).astype(np.float32)


def without(cells: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map [h, w] bool, False in all cells that boxes [n, 4] (image frame) touch.

    Args:
        cells: as in `places`.
        boxes: [n, 4], image frame.
        size: (height, width) of the image, px.
    """
    left = cells.copy()
    steps = np.array([size[1] / cells.shape[1], size[0] / cells.shape[0]])
    low = np.maximum(np.floor(boxes[:, :2] / steps), 0).astype(int)
    high = np.maximum(np.ceil(boxes[:, 2:] / steps), 0).astype(int)
    for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist()):
        left[y1:y2, x1:x2] = False
    return left
