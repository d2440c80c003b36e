"""From a crop to what a network takes: size, padding, channel order, mean and deviation; and back from its boxes."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import cv2
import numpy as np

from autofocus_jax.foreign.found import ForeignError

Numbers = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
GREY = (114, 114, 114)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How pixels become an input. Values are of pixels 0..255, in the order R, G, B, whatever `channels` says.

    Attributes:
      channels: order of the channels in the input.
      mean, deviation: an input value is (pixel - mean) / deviation; 255 alone as deviation gives 0..1.
      padding: RGB of what surrounds a crop.
      fit: what becomes of a crop of another shape: "letterbox" keeps its aspect, "stretch" fills the input.
      centred: whether a letterboxed crop lies in the centre of the input, or in its upper left corner.
    """

    channels: Literal["RGB", "BGR"] = "RGB"
    mean: Numbers = (0.0, 0.0, 0.0)
    deviation: Numbers = (255.0, 255.0, 255.0)
    padding: tuple[int, int, int] = GREY
    fit: Literal["letterbox", "stretch"] = "letterbox"
    centred: bool = False

    def __post_init__(self):
        if self.channels not in ("RGB", "BGR"):
            raise ForeignError(f"channels must be RGB or BGR, got {self.channels!r}")
        if self.fit not in ("letterbox", "stretch"):
            raise ForeignError(f"fit must be letterbox or stretch, got {self.fit!r}")
        for name in ("mean", "deviation", "padding"):
            if len(getattr(self, name)) != 3:
                raise ForeignError(f"{name} must be three numbers (R, G, B), got {getattr(self, name)}")
        if not all(value > 0 for value in self.deviation):
            raise ForeignError(f"deviation must be above 0, got {self.deviation}")
        if not all(0 <= value <= 255 for value in self.padding):
            raise ForeignError(f"padding must be three values in 0..255, got {self.padding}")


class Back(NamedTuple):
    """How a crop lies in a canvas: canvas px = crop px * factor + offset, along (x, y)."""

    factor: np.ndarray  # [2] float32
    offset: np.ndarray  # [2] float32

    def __call__(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes [n, 4] from canvas px to crop px."""
        return ((boxes - np.tile(self.offset, 2)) / np.tile(self.factor, 2)).astype(np.float32)


def fit_into(crop: np.ndarray, size: tuple[int, int], preparation: Preparation) -> tuple[np.ndarray, Back]:
    """Resize a crop into a canvas of `size` (height, width).

    Args:
      crop: [h, w, 3] uint8 RGB. A crop of the canvas' size is taken as it is.

    Returns: the canvas, uint8 RGB [height, width, 3], and the way back.
    """
    height, width = size
    if crop.shape[:2] == size:
        return crop, Back(np.ones(2, np.float32), np.zeros(2, np.float32))
    inner = size if preparation.fit == "stretch" else _letterboxed(crop.shape[:2], size, preparation.centred)
    pixels = crop if crop.shape[:2] == inner else cv2.resize(crop, inner[::-1], interpolation=cv2.INTER_LINEAR)
    top, left = (
        (round((height - inner[0]) / 2 - 0.1), round((width - inner[1]) / 2 - 0.1)) if preparation.centred else (0, 0)
    )
    canvas = blank(size, preparation.padding)
    canvas[top : top + inner[0], left : left + inner[1]] = pixels
    factor = np.array([inner[1] / crop.shape[1], inner[0] / crop.shape[0]], np.float32)
    return canvas, Back(factor, np.array([left, top], np.float32))


def blank(size: tuple[int, int], padding: tuple[int, int, int]) -> np.ndarray:
    """Return an empty canvas of `size` (height, width), uint8 RGB."""
    if len(set(padding)) == 1:  # one value is written many times faster than three in turn
        return np.full((*size, 3), padding[0], np.uint8)
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = padding
    return canvas


def pad_to_multiple(crop: np.ndarray, multiple: int, padding: tuple[int, int, int]) -> np.ndarray:
    """Return a crop [h, w, 3] with padding below and to the right, so that both sides are multiples of `multiple`."""
    height, width = (-(-side // multiple) * multiple for side in crop.shape[:2])
    if (height, width) == crop.shape[:2]:
        return crop
    canvas = blank((height, width), padding)
    canvas[: crop.shape[0], : crop.shape[1]] = crop
    return canvas


def to_input(canvases: list[np.ndarray], preparation: Preparation, dtype: np.dtype, channels_first: bool) -> np.ndarray:
    """Return canvases of one size as [B, 3, H, W], or [B, H, W, 3], of `dtype`; whole-number types get pixels as is."""
    height, width = canvases[0].shape[:2]
    planes = np.empty((len(canvases), 3, height, width), np.float32 if np.issubdtype(dtype, np.floating) else dtype)
    for row, canvas in enumerate(canvases):
        separate = cv2.split(canvas)  # faster than NumPy along channels that lie side by side
        for channel in range(3):
            source = channel if preparation.channels == "RGB" else 2 - channel
            plane = planes[row, channel]
            plane[:] = separate[source]
            if plane.dtype == np.float32:
                if preparation.mean[source]:
                    plane -= preparation.mean[source]
                if preparation.deviation[source] != 1:
                    plane /= preparation.deviation[source]
    planes = planes.astype(dtype, copy=False)
    return planes if channels_first else np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _letterboxed(shape: tuple[int, int], size: tuple[int, int], centred: bool) -> tuple[int, int]:
    """(height, width) of a crop of `shape` resized to touch the canvas' nearer sides; cut as YOLOX and YOLOv5 do."""
    factor = min(size[0] / shape[0], size[1] / shape[1])
    whole = round if centred else int
    height, width = (min(limit, max(1, whole(side * factor + 1e-9))) for side, limit in zip(shape, size))
    return height, width
