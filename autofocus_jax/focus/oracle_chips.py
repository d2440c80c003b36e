"""The chips of a perfect focus map, from sizes and boxes alone: no pixels, no detector (section 5.1 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.chips import ChipFunction, focus_chips, whole_pixels
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.structures import FOCUS, AutoFocusError, FocusRange, GroundTruth, Scale


class ScaleChips(NamedTuple):
    """The chips of one image at one scale."""

    boxes: np.ndarray  # [c, 4] float32 in whole px, image frame, disjoint
    sizes: np.ndarray  # [c, 2] int64, (height, width) in chip px
    labels: tuple[np.ndarray, ...]  # c FocusPixel labels int8, one per cell of each chip; empty at the last scale


def oracle_chips(
    size: tuple[int, int],
    truth: GroundTruth,
    scales: Sequence[Scale],
    focus_range: FocusRange,
    chip_functions: Sequence[ChipFunction] | None = None,
) -> list[ScaleChips]:
    """What the cascade would process of one image if every focus map were its FocusPixel labels; one entry per scale.

    size: (height, width) of the image, px; truth: its objects, image frame. chip_functions: what turns a focus map
    into chips, one per scale but the last; by default Algorithm 1 with the rule of each scale. They get a map of 1 on
    FOCUS cells and 0 elsewhere, labelled by the size of the whole object in chip px, also where the chip cuts it.

    Equal, chip by chip and in the same order, to `cascade` with `oracle_detect`, whose chips need images. Raises
    AutoFocusError for an image without a pixel and for chip_functions or rules that do not fit the scales.
    """
    height, width = size
    if height < 1 or width < 1:
        raise AutoFocusError(f"an image of {height}x{width} px has no pixel; give its height and width")
    regions = np.array([[0, 0, width, height]], np.int32)
    stages = []
    for scale, function in zip(scales, [*_functions(scales, chip_functions), None]):
        factor = pyramid.factor(height, width, scale)
        boxes = regions.astype(np.float32)
        sizes = [pyramid.chip_size(box, factor) for box in boxes]
        labels: tuple[np.ndarray, ...] = ()
        if function is not None:
            labels = tuple(_labels(truth, box, chip, focus_range) for box, chip in zip(boxes, sizes))
            regions = _zoom(function, boxes, sizes, labels)
        stages.append(ScaleChips(boxes, np.array(sizes, np.int64).reshape(-1, 2), labels))
    return stages


def _functions(scales: Sequence[Scale], given: Sequence[ChipFunction] | None) -> list[ChipFunction]:
    if not scales:
        raise AutoFocusError("oracle_chips got no scales; give it at least one")
    if given is not None:
        if len(given) != len(scales) - 1:
            raise AutoFocusError(
                f"{len(given)} chip functions for {len(scales)} scales; give one per scale but the last"
            )
        return list(given)
    for number, scale in enumerate(scales[:-1], 1):
        if scale.chips is None:
            raise AutoFocusError(f"scale {number} has no chip rule; give it one, or pass chip_functions")
    return [partial(focus_chips, rule=scale.chips) for scale in scales[:-1]]


def _labels(truth: GroundTruth, box: np.ndarray, size: tuple[int, int], focus_range: FocusRange) -> np.ndarray:
    """FocusPixel labels of the chip of `size` (chip px) that shows `box` [4] (image frame)."""
    in_chip = box_ops.scale(box_ops.shift(truth.boxes, -box[0], -box[1]), *pyramid.axis_factors(box, size))
    return focus_labels(in_chip, *size, focus_range, ignore=truth.ignore)


def _zoom(
    function: ChipFunction, boxes: np.ndarray, sizes: Sequence[tuple[int, int]], labels: Sequence[np.ndarray]
) -> np.ndarray:
    """What the next scale sees: boxes [n, 4] int32, image frame, disjoint and in whole px; order of their parents.

    A chip inside its parent goes to the image as chip px * box side / chip side, so that a chip of the whole parent is
    exactly the parent's box.
    """
    parts = [np.zeros((0, 4), np.int32)]
    for box, (height, width), label in zip(boxes.astype(np.float64), sizes, labels, strict=True):
        inside = function((label == FOCUS).astype(np.float32), (height, width)).astype(np.float64)
        origin = np.tile(box[:2], 2)
        sides = np.tile(box[2:], 2) - origin
        parts.append(whole_pixels(inside * sides / np.array([width, height, width, height]) + origin))
    return np.concatenate(parts)
