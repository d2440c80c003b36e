"""A detector made from ground truth.

It gives the upper bound of the paper's section 5.1 and tests the cascade alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.structures import (
    FOCUS,
    STRIDE,
    AutoFocusError,
    ChipBatch,
    DetectorOutput,
    FocusRange,
    GroundTruth,
    Placement,
)


def oracle_detect(
    ground_truths: Mapping[Hashable, GroundTruth] | Sequence[GroundTruth],
    focus_range: FocusRange,
    num_classes: int,
    stride: int = STRIDE,
) -> Detect:
    """Return a `detect` that answers from ground truth.

    In each chip it finds every visible object except ignore regions: the box cut at the chip, score 1 in its class. The
    border rules later drop cut boxes. The focus map is 1 on FOCUS cells and 0 elsewhere, labelled by the size of the
    whole object in chip px. So the cascade's cost is that of a perfect focus map.

    Args:
        ground_truths: ground truth of each image, by its key. A list serves if keys are positions in it.
        focus_range: sizes of the objects that are FOCUS, chip px.
        num_classes: number of classes.
        stride: px of a cell of the focus map.
    """

    known: Any = ground_truths

    def of(place: Placement) -> GroundTruth:
        try:
            return known[place.key]
        except (LookupError, TypeError):
            raise AutoFocusError(f"the oracle has no ground truth of image {place.key!r}; give it by key") from None

    def detect(chips: ChipBatch, placements: Sequence[Placement]) -> DetectorOutput:
        truths = [of(place) for place in placements]
        most = max([1, *(len(truth.labels) for truth in truths)])
        batch, height, width = chips.pixels.shape[:3]
        boxes = np.zeros((batch, most, 4), np.float32)
        scores = np.zeros((batch, most, num_classes), np.float32)
        valid = np.zeros((batch, most), bool)
        focus = np.zeros((batch, height // stride, width // stride), np.float32)
        for row, (place, truth) in enumerate(zip(placements, truths)):
            in_chip = box_ops.scale(box_ops.shift(truth.boxes, -place.box[0], -place.box[1]), *place.factor)
            rows, columns = chips.size[row]
            labels = focus_labels(in_chip, rows, columns, focus_range, stride, ignore=truth.ignore)
            focus[row, : labels.shape[0], : labels.shape[1]] = labels == FOCUS
            cut = box_ops.clip(in_chip, rows, columns)
            count = len(truth.labels)
            boxes[row, :count] = cut
            scores[row, np.arange(count), truth.labels] = 1
            valid[row, :count] = (box_ops.area(cut) > 0) & ~truth.ignore
        return DetectorOutput(boxes, scores, valid, focus)

    return detect
