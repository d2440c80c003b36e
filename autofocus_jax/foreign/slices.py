"""Slices as SAHI cuts them, for comparison: overlapping tiles of a photograph, and the photograph at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import pyramid, stacking
from autofocus_jax.focus.stacking import ScaleDetections
from autofocus_jax.foreign.canvases import CanvasConfig, find_in_chips, windows
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.structures import Detections, Scale, ValidRange


@dataclasses.dataclass(frozen=True)
class SliceConfig:
    """How a photograph is sliced.

    Attributes:
      tile: side of a slice, px of the level.
      level: the longer side of the level that is sliced, px; None slices the photograph as it is.
      overlap: share of a slice that neighbours have in common.
    """

    tile: int = 640
    level: int | None = None
    overlap: float = 0.2

    def __post_init__(self):
        if self.tile < 1:
            raise ForeignError(f"a slice must have a side of at least 1 px, got {self.tile}")
        if not 0 <= self.overlap < 1:
            raise ForeignError(f"overlap must be in [0, 1), got {self.overlap}")


class Part(NamedTuple):
    """Detections in chips of one level, before merging."""

    found: ScaleDetections
    pixels: int  # of the chips
    spent: tuple[int, int]  # canvases, and their pixels with the padding


def whole(detector: CropDetector, image: np.ndarray, side: int, square: bool = False) -> Part:
    """Run a detector on a whole image at once, as it is used without slices.

    Args:
      detector: one with a fixed input resizes the image itself, its own way.
      image: uint8 RGB [h, w, 3].
      side: the longer side of what a detector of any input size is given, px.
      square: whether such a detector gets it in a square of that side, as a fixed input would hold it.
    """
    if detector.fixed is not None:
        return _find(detector, [image], [(0, 0)], image, image.shape[:2], pixels=int(np.prod(detector.fixed)))
    level = _level(image, side)
    return _find(_of_squares(detector, side) if square else detector, [level], [(0, 0)], image, level.shape[:2])


def sliced(detector: CropDetector, image: np.ndarray, config: SliceConfig) -> Part:
    """Run a detector on overlapping slices of an image, each by itself.

    Args:
      detector: one with a fixed input resizes each slice itself; one of any input size gets squares of the tile's side.
      image: uint8 RGB [h, w, 3].
      config: how it is sliced.
    """
    if detector.fixed is None:
        detector = _of_squares(detector, config.tile)
    level = image if config.level is None else _level(image, config.level)
    boxes = windows(level.shape[:2], (config.tile, config.tile), config.overlap)
    tiles = [level[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]
    return _find(detector, tiles, [box[:2] for box in boxes], image, level.shape[:2])


def merge_plainly(parts: Sequence[Part], config: StackingConfig) -> Detections:
    """Merge everything by NMS alone, wherever it was found; of config only scores, NMS and the limit count."""
    return stacking.merge_all([part.found.detections for part in parts], config)


def merge_by_ranges(
    parts: Sequence[Part], size: tuple[int, int], ranges: Sequence[ValidRange], config: StackingConfig
) -> Detections:
    """Merge as the cascade does: each part answers for a range of sizes, and what a border cuts is dropped.

    Args:
      parts: coarse to fine.
      size: (height, width) of the image.
      ranges: of each part, image px.
      config: tolerance, scores, NMS.
    """
    scales = [Scale(1, 1, valid, None) for valid in ranges]  # stacking reads the valid ranges alone
    return stacking.stack([part.found for part in parts], size, scales, config)[0]


def _of_squares(detector: CropDetector, side: int) -> CropDetector:
    """A detector of any input size as one whose input is a square of that side; a smaller crop is padded, as it is."""
    side = -(-side // detector.multiple) * detector.multiple
    square = detector._replace(fixed=(side, side))
    return square._replace(find=lambda crops: find_in_chips(square, crops, CanvasConfig(packed=False))[0])


def _level(image: np.ndarray, side: int) -> np.ndarray:
    """The image with its longer side resized to `side` px."""
    height, width = image.shape[:2]
    if max(height, width) == side:
        return image
    scale = Scale(side, side, ValidRange(0, np.inf), None)
    return pyramid.crop(image, np.array([0, 0, width, height]), pyramid.factor(height, width, scale))[0]


def _find(
    detector: CropDetector,
    tiles: Sequence[np.ndarray],
    corners: Sequence[tuple[int, int]],
    image: np.ndarray,
    level: tuple[int, int],
    pixels: int | None = None,
) -> Part:
    """Run the detector on tiles of a level of size (height, width) whose upper left corners (x, y) lie there."""
    found = detector.find(tiles)
    height, width = image.shape[:2]
    x, y = width / level[1], height / level[0]
    boxes, chips = [], []
    for (boxes_here, _, _), tile, (left, upper) in zip(found, tiles, corners, strict=True):
        tall, wide = tile.shape[:2]
        chips.append(np.array([left * x, upper * y, (left + wide) * x, (upper + tall) * y], np.float32))
        moved = box_ops.scale(box_ops.shift(boxes_here, left, upper), x, y)
        boxes.append(np.clip(moved, np.tile(chips[-1][:2], 2), np.tile(chips[-1][2:], 2)))
    detections = Detections(
        np.concatenate(boxes), np.concatenate([one.scores for one in found]),
        np.concatenate([one.labels for one in found]),
    )  # fmt: skip
    owner = np.repeat(np.arange(len(tiles)), [len(one.scores) for one in found])
    asked = sum(tile.shape[0] * tile.shape[1] for tile in tiles) if pixels is None else pixels
    return Part(ScaleDetections(detections, owner, np.stack(chips)), asked, _spent(detector, tiles))


def _spent(detector: CropDetector, tiles: Sequence[np.ndarray]) -> tuple[int, int]:
    if detector.fixed is not None:
        return len(tiles), len(tiles) * int(np.prod(detector.fixed))
    step = detector.multiple
    return len(tiles), sum(-(-tile.shape[0] // step) * -(-tile.shape[1] // step) * step**2 for tile in tiles)
