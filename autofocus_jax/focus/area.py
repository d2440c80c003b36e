"""An area of the image that the user gives: it joins the focus maps, cuts the chips and selects the detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from autofocus_jax.errors import ImageError, PlanError
from autofocus_jax.structures import STRIDE, Detections, Placement

# (key of an image, its (height, width), px) -> a map [H, W] of bool or of numbers in 0..1, of any resolution, which is
# stretched over the image. 0 is outside. Raises ImageError where there is none for the image.
Heat = Callable[[Hashable, tuple[int, int]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Area:
    """Where to look, given beside what the detector says.

    Attributes:
        heat: the map of each image. A cell of a focus map has the largest value that lies in it.
        join: "both" looks where the detector and the map say so, and nothing outside is reported; without a focus map
            of the detector the map decides alone. "either" looks where one of them says so.
    """

    heat: Heat
    join: Literal["both", "either"] = "both"

    def __post_init__(self):
        if self.join not in ("both", "either"):
            raise PlanError(f"an area joins by 'both' or 'either', got {self.join!r}")

    def map_of(self, key: Hashable, size: tuple[int, int]) -> np.ndarray:
        """Return the map of an image as `checked` does; ImageError where there is none, or where it is no map."""
        try:
            return checked(self.heat(key, size))
        except PlanError as error:
            raise ImageError(f"image {key!r}: {error}") from None

    @property
    def limits(self) -> bool:
        """Return True if nothing outside is looked at or reported."""
        return self.join == "both"


def area_of(
    maps: np.ndarray | Sequence[np.ndarray] | Mapping[Any, np.ndarray], join: Literal["both", "either"] = "both"
) -> Area:
    """Return the area of maps in memory.

    Args:
        maps: one map [H, W] of bool or of numbers in 0..1 for all images, or one for each image by its key. The keys of
            `Model` and `cascade` are positions, so a list serves there.
        join: as in Area.

    Raises:
        PlanError: a map is no such array.
    """
    if isinstance(maps, np.ndarray):
        known = checked(maps)
        return Area(lambda key, size: known, join)
    by_key: dict[Any, np.ndarray] = {
        key: checked(values) for key, values in (maps.items() if isinstance(maps, Mapping) else enumerate(maps))
    }

    def heat(key: Hashable, size: tuple[int, int]) -> np.ndarray:
        if key not in by_key:
            raise ImageError(f"no area of image {key!r} was given; give one for each image")
        return by_key[key]

    return Area(heat, join)


def checked(values: Any) -> np.ndarray:
    """Return a map [H, W] as bool or float32.

    Raises:
        PlanError: it is no array [H, W] of bool or of numbers in 0..1, or it is empty.
    """
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
        raise PlanError(f"an area must be an array [H, W] of bool or numbers, got {array.dtype} {list(array.shape)}")
    if array.dtype == bool:
        return array  # four times smaller and faster
    array = array.astype(np.float32, copy=False)
    if not (array.min() >= 0 and array.max() <= 1):  # NaN too
        raise PlanError(f"values of an area must lie in 0..1, got {array.min():g} to {array.max():g}; divide a mask of "
                        "0 and 255 by 255")  # fmt: skip
    return array


def cells(heat: np.ndarray, image_size: tuple[int, int], place: Placement, chip_size: tuple[int, int]) -> np.ndarray:
    """Return the focus map of an area for a chip: the largest value in each cell.

    Args:
        heat: [H, W], stretched over the image.
        image_size: (height, width), px.
        place: the chip's box (image frame) and its factors.
        chip_size: true (height, width), chip px.

    Returns:
        [ceil(h / STRIDE), ceil(w / STRIDE)] float32.
    """
    lows, highs = [], []
    for axis in range(2):  # rows, then columns
        edges = np.minimum(np.arange(-(-chip_size[axis] // STRIDE) + 1) * STRIDE, chip_size[axis])
        shown = place.box[1 - axis] + edges / float(place.factor[1 - axis])
        low, high = _positions(shown[:-1], shown[1:], image_size[axis], heat.shape[axis])
        lows.append(low)
        highs.append(high)
    left, right = lows[1][0], highs[1][-1]
    rows = _largest(heat[:, left:right], lows[0], highs[0])
    return _largest(rows.T, lows[1] - left, highs[1] - left).T.astype(np.float32)


def joined(area: Area, focus: np.ndarray | None, given: np.ndarray) -> np.ndarray:
    """Return the focus map [h, w] of a detector (None for none) and that of an area in one."""
    if focus is None:
        return given
    return np.maximum(focus, given) if area.join == "either" else np.minimum(focus, given)


def cut(regions: np.ndarray, heat: np.ndarray, image_size: tuple[int, int], margin: float, least: float) -> np.ndarray:
    """Return regions without what an area leaves empty at their sides.

    Args:
        regions: boxes [n, 4] int32, image frame.
        heat: [H, W], stretched over the image.
        image_size: (height, width), px.
        margin: image px that are kept around what the area holds, as far as the region reaches.
        least: least side, image px, as far as the region reaches.

    Returns:
        [m, 4] int32, each inside its region; a region of which the area holds nothing is left out.
    """
    kept = []
    for box in regions:
        sides = []
        (top, bottom), (left, right) = (
            _positions(box[[1 - axis]], box[[3 - axis]], image_size[axis], heat.shape[axis]) for axis in range(2)
        )
        inside = heat[top[0] : bottom[0], left[0] : right[0]] > 0
        for axis, first in ((1, left[0]), (0, top[0])):  # x, then y
            filled = np.flatnonzero(inside.any(axis=1 - axis))
            if not len(filled):
                break
            step = image_size[axis] / heat.shape[axis]
            low, high = (first + filled[0]) * step - margin, (first + filled[-1] + 1) * step + margin
            sides.append(_grown(low, high, least, int(box[1 - axis]), int(box[3 - axis])))
        if len(sides) == 2:
            (x1, x2), (y1, y2) = sides
            kept.append((x1, y1, x2, y2))
    return np.array(kept, np.int32).reshape(-1, 4)


def inside(heat: np.ndarray, image_size: tuple[int, int], found: Detections) -> np.ndarray:
    """Return which detections (image frame) have their centre where the area is not 0, [n] bool."""
    centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    column, row = (
        np.clip((centre[:, 1 - axis] * heat.shape[axis] / image_size[axis]).astype(int), 0, heat.shape[axis] - 1)
        for axis in (1, 0)
    )
    return heat[row, column] > 0


def _positions(low: np.ndarray, high: np.ndarray, side: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The half-open ranges of a map's rows or columns, `count` over `side` px, that intervals of px touch."""
    first = np.clip(np.floor(low * (count / side) + 1e-4), 0, count - 1).astype(int)
    return first, np.clip(np.ceil(high * (count / side) - 1e-4), first + 1, count).astype(int)


def _largest(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The largest row of each half-open range of rows, [len(low), columns]."""
    padded = np.concatenate([values, np.zeros_like(values[:1])])  # reduceat wants ends below the length
    return np.maximum.reduceat(padded, np.stack([low, high], axis=1).ravel(), axis=0)[::2]


def _grown(low: float, high: float, least: float, start: int, stop: int) -> tuple[int, int]:
    """The part of an interval in [start, stop), in whole px; at least `least` long where there is room."""
    low, high = max(low, start), min(high, stop)
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    low, high = low - max(0.0, high - stop), high + max(0.0, start - low)
    return max(start, int(np.floor(low + 1e-4))), min(stop, int(np.ceil(high - 1e-4)))
