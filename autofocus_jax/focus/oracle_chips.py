"""The chips of a perfect focus map, from sizes and boxes alone: no pixels, no detector (section 5.1 of the paper)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from autofocus_jax.focus import walk
from autofocus_jax.focus.labels import chip_labels
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import FOCUS, AutoFocusError, FocusRange, GroundTruth


class ScaleChips(NamedTuple):
    """The chips of one image at one scale."""

    boxes: np.ndarray  # [c, 4] float32 in whole px, image frame, disjoint
    sizes: np.ndarray  # [c, 2] int64, (height, width) in chip px
    labels: tuple[np.ndarray, ...]  # c FocusPixel labels int8, one per cell of each chip; empty at the last scale


def oracle_chips(size: tuple[int, int], truth: GroundTruth, plan: Plan, focus_range: FocusRange) -> list[ScaleChips]:
    """Return the chips that the cascade would process if every focus map equalled its FocusPixel labels.

    The chips equal, in number and order, those of `cascade` with `oracle_detect` and the same plan. No pixels are
    needed. The rules get a map of 1 on FOCUS cells and 0 elsewhere, labelled by the size of the whole object in chip
    px.

    Args:
        size: (height, width) of the image, px.
        truth: its objects, image frame.
        plan: the scales and rules. Its buckets matter if chips may shrink to fit them.
        focus_range: sizes of the objects that are FOCUS, chip px.

    Returns:
        One entry per scale.

    Raises:
        AutoFocusError: the image has no pixel.
        BucketError: a chip is larger than every bucket of the plan.
    """
    if min(size) < 1:
        raise AutoFocusError(f"an image of {size[0]}x{size[1]} px has no pixel; give its height and width")
    regions = walk.whole_image(size)
    stages = []
    for number, rule in enumerate((*plan.functions, None), 1):
        chips = walk.place(None, size, number, regions, plan)
        labels: tuple[np.ndarray, ...] = ()
        if rule is not None:
            labels = tuple(chip_labels(truth, chip.place, chip.size, focus_range) for chip in chips)
            regions = walk.zoom(chips, [(label == FOCUS).astype(np.float32) for label in labels], rule)
        boxes = np.array([chip.place.box for chip in chips], np.float32).reshape(-1, 4)
        stages.append(ScaleChips(boxes, np.array([chip.size for chip in chips], np.int64).reshape(-1, 2), labels))
    return stages
