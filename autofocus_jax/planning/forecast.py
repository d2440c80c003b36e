"""Cost and reach of a plan with perfect focus maps: the upper bound of section 5.1, from boxes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.oracle_chips import ScaleChips, oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.stacking import border_mask
from autofocus_jax.structures import Dataset, FocusRange, GroundTruth


class Forecast(NamedTuple):
    """Cost and reach of perfect focus maps. S scales."""

    images: int
    pixels: np.ndarray  # [S] per image
    full_pixels: np.ndarray  # [S] per image, whole levels
    without_chips: float  # share of the images in which nothing is looked at after scale 1
    reached: float  # share of the objects that a scale which answers for their size shows whole
    sizes: np.ndarray  # [c, 2] int64 (height, width) of all chips, px

    @property
    def factor(self) -> float:
        """Return how many times fewer pixels than the whole pyramid are processed."""
        return float(self.full_pixels.sum() / self.pixels.sum())

    @property
    def side(self) -> float:
        """Return the side of a square with as many pixels as an image costs."""
        return math.sqrt(self.pixels.sum())


def forecast(
    dataset: Dataset,
    indices: Sequence[int] | np.ndarray,
    plan: Plan,
    focus_range: FocusRange,
    progress: Callable[[int, int], None] | None = None,
) -> Forecast:
    """Compute the chips of perfect focus maps, without opening images.

    Args:
        dataset: sizes of images, and their objects.
        indices: which images.
        plan: its scales, rules and border tolerance count.
        focus_range: sizes of the objects that are FOCUS, chip px.
        progress: called with (done, all) after each image.
    """
    count = len(plan.scales)
    pixels, full = np.zeros(count), np.zeros(count)
    sizes, without, reached, objects = [np.zeros((0, 2), np.int64)], 0, 0, 0
    for done, index in enumerate(indices, 1):
        info, truth = dataset.info(int(index)), dataset.ground_truth(int(index))
        size = info.height, info.width
        stages = oracle_chips(size, truth, plan, focus_range)
        pixels += [stage.sizes.prod(axis=1).sum() for stage in stages]
        full += [math.prod(pyramid.level_size(*size, scale)) for scale in plan.scales]
        without += all(not len(stage.boxes) for stage in stages[1:])
        sizes += [stage.sizes for stage in stages]
        shown = _reached(size, truth, plan, stages)
        reached, objects = reached + int(shown.sum()), objects + len(shown)
        if progress is not None:
            progress(done, len(indices))
    images = len(indices)
    share = reached / objects if objects else 1.0
    return Forecast(images, pixels / images, full / images, without / images, share, np.concatenate(sizes))


def _reached(size: tuple[int, int], truth: GroundTruth, plan: Plan, stages: Sequence[ScaleChips]) -> np.ndarray:
    """[g] bool: which objects, not ignore regions, some scale that answers for their size shows uncut."""
    boxes = truth.boxes[~truth.ignore]
    sides, found = np.sqrt(box_ops.area(boxes)), np.zeros(len(boxes), bool)
    for scale, stage in zip(plan.scales, stages):
        inside = scale.valid.holds(sides)
        for chip in stage.boxes:
            found |= inside & border_mask(boxes, chip, size, plan.stacking.border_tolerance)
    return found
