"""Random changes of a training chip: mirrored, turned, recoloured, shown larger or smaller."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from autofocus_jax.config import AugmentationConfig


class Change(NamedTuple):
    """Change of a chip's pixels after cutting."""

    mirror: bool  # left and right change sides
    flip: bool  # top and bottom do
    turn: bool  # rows become columns
    colour: np.ndarray  # [3] brightness, contrast and saturation: factors


def zoomed(
    window: np.ndarray, ratio: float, side: int, settings: AugmentationConfig, generator: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return the part of a window that a chip shows at another zoom, and that zoom.

    Args:
        window: [4] int32, image frame.
        ratio: level px per image px of the scale.
        side: side of a training chip, px.
        settings: `scale` is the largest zoom in or out; 1 draws nothing.
        generator: draws the zoom, and the part if the whole window is larger than a chip.
    """
    if settings.scale == 1:
        return window, 1.0
    zoom = math.exp(generator.uniform(-1, 1) * math.log(settings.scale))
    most = max(1, math.floor(side / (ratio * zoom)))
    low, lengths = window[:2], window[2:] - window[:2]
    shown = np.minimum(lengths, most)
    low = low + [int(generator.integers(room + 1)) for room in lengths - shown]
    return np.concatenate([low, low + shown]).astype(np.int32), zoom


def draw(settings: AugmentationConfig, generator: np.random.Generator) -> Change:
    """Draw the change of a chip. A setting that is off draws nothing."""
    mirror = settings.mirror and generator.random() < 0.5
    flip = settings.flip and generator.random() < 0.5
    turn = settings.turn and generator.random() < 0.5
    colour = 1 + settings.colour * generator.uniform(-1, 1, 3) if settings.colour else np.ones(3)
    return Change(mirror, flip, turn, colour)


def change_pixels(pixels: np.ndarray, change: Change) -> np.ndarray:
    """Return changed pixels of [h, w, 3] uint8; [w, h, 3] if they are turned."""
    if (change.colour != 1).any():
        pixels = _recoloured(pixels, change.colour)
    if change.mirror:
        pixels = pixels[:, ::-1]
    if change.flip:
        pixels = pixels[::-1]
    return pixels.transpose(1, 0, 2) if change.turn else pixels


def change_boxes(boxes: np.ndarray, height: int, width: int, change: Change) -> np.ndarray:
    """Return boxes [n, 4] of a chip of that size before the change, in the frame of the changed chip."""
    x1, y1, x2, y2 = boxes.T
    if change.mirror:
        x1, x2 = width - x2, width - x1
    if change.flip:
        y1, y2 = height - y2, height - y1
    if change.turn:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return np.stack([x1, y1, x2, y2], axis=1)


def _recoloured(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Brightness times colour[0], then contrast about the mean grey, then saturation about each pixel's own grey."""
    values = pixels.astype(np.float32) * colour[0]
    mean = values.mean()
    values = (values - mean) * colour[1] + mean
    grey = cv2.cvtColor(values.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
    return ((values - grey) * colour[2] + grey).clip(0, 255).astype(np.uint8)
