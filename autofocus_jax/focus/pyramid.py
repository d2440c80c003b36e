"""The image pyramid: factors, level sizes and crops. Crops are resized one by one; no whole level is made."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from autofocus_jax.structures import ImageError, Scale


@runtime_checkable
class Regions(Protocol):
    """An image whose parts are read when they are asked for, because the whole does not fit into memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, 3), px."""

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """Return `box` (xyxy, px of this image) for a chip of `size` (height, width), uint8 RGB [h, w, 3].

        The answer shows the box in no fewer pixels than `size`, or in all there are. The caller resizes it.
        """


class Part:
    """A chip of Regions, itself Regions. It reads only what is cut out of it, `part[y1:y2, x1:x2]`.

    Attributes:
        shape: (height, width, 3), chip px.
    """

    def __init__(self, image: Regions, box: np.ndarray, size: tuple[int, int]):
        """Make a chip of `size` (height, width) that shows `box` [4], xyxy, px of the image. Nothing is read."""
        self._image, self._box, self.shape = image, np.asarray(box, np.float64), (*size, 3)

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        per_px = (self._box[2:] - self._box[:2]) / self.shape[1::-1]
        x1, y1, x2, y2 = (np.asarray(box) * np.tile(per_px, 2) + np.tile(self._box[:2], 2)).tolist()
        return self._image.read((x1, y1, x2, y2), size)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        (y1, y2, _), (x1, x2, _) = (part.indices(side) for part, side in zip(place, self.shape))
        size = (y2 - y1, x2 - x1)
        return _resized(self.read((x1, y1, x2, y2), size), size)


def factor(height: int, width: int, scale: Scale) -> float:
    """Return level pixels per image pixel at a scale.

    The factor is min_side / shorter side, or max_side / longer side if the longer side would pass max_side.

    Args:
        height: of the image, px.
        width: of the image, px.
        scale: the scale.
    """
    shorter, longer = min(height, width), max(height, width)
    by_shorter = scale.min_side / shorter
    return scale.max_side / longer if round(by_shorter * longer) > scale.max_side else by_shorter


def chip_size(box: np.ndarray, factor: float) -> tuple[int, int]:
    """Return (height, width) in chip px of `box` [4] (image frame, whole px) resized by `factor`; at least 1 each."""
    x1, y1, x2, y2 = (int(side) for side in box)
    return max(1, round((y2 - y1) * factor)), max(1, round((x2 - x1) * factor))


def level_size(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """Return (height, width) in level px of the whole image at a scale; at least 1 each."""
    return chip_size(np.array([0, 0, width, height]), factor(height, width, scale))


def axis_factors(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return chip px per image px along (x, y), [2] float32, of a chip of `size` (height, width) showing `box` [4]."""
    return np.array([size[1] / (box[2] - box[0]), size[0] / (box[3] - box[1])], np.float32)


def crop(
    image: np.ndarray | Regions, box: np.ndarray, factor: float, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a rectangle out of an image and resize it. Only the rectangle is resized, never the level.

    Resizing takes area means downward (no aliasing) and is linear upward.

    Args:
        image: uint8 [h, w, 3], or Regions.
        box: [4] xyxy, image frame; rounded outward to whole pixels and cut at the image.
        factor: level px per image px of the scale.
        size: (height, width) of the chip. By default round(box side * factor), at least 1, so that the whole image
            gives exactly level_size.

    Returns:
        The chip's pixels [H, W, 3] uint8, the box shown [4] float32 (image frame), and the factors along (x, y) [2]
        float32. Factors are chip side over box side, so projecting back is exact.

    Raises:
        ImageError: the box holds no pixel of the image.
    """
    height, width = image.shape[:2]
    x1, y1 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x2, y2 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if x1 >= x2 or y1 >= y2:
        shown = ", ".join(f"{side:g}" for side in box)
        raise ImageError(f"crop [{shown}] holds no pixel of an image of {height}x{width}; give a box inside the image")
    exact = np.array([x1, y1, x2, y2], np.float32)
    size = chip_size(exact, factor) if size is None else size
    pixels = image[y1:y2, x1:x2] if isinstance(image, np.ndarray) else image.read((x1, y1, x2, y2), size)
    return _resized(pixels, size), exact, axis_factors(exact, size)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if size == pixels.shape[:2]:
        return pixels
    # By the sides, not the factor: `size` may make a chip smaller at a factor of 1 or more.
    smaller = size[0] <= pixels.shape[0] and size[1] <= pixels.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size[1], size[0]), interpolation=how)
