"""Look where the ground truth has something small: perfect focus, the upper bound of every other way to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.structures import (
    FOCUS,
    AutoFocusError,
    ChipBatch,
    DetectorOutput,
    FocusRange,
    GroundTruth,
    Placement,
)
from autofocus_jax.where.combine import Where, empty_map

SMALL = FocusRange(0, 64, 90)


def truth(ground_truths: Sequence[GroundTruth] | Mapping[int, GroundTruth], focus_range: FocusRange = SMALL) -> Where:
    """Make a focus map of the ground truth: 1 on FOCUS cells, 0 elsewhere.

    Args:
      ground_truths: by what Placement.image says of a chip.
      focus_range: sizes that count, chip px.
    """

    def where(chips: ChipBatch, placements: Sequence[Placement], output: DetectorOutput | None) -> np.ndarray:
        focus = empty_map(chips)
        for row, place in enumerate(placements):
            try:
                known = ground_truths[place.image]
            except LookupError:
                raise AutoFocusError(f"there is no ground truth of image {place.image!r}; give that of all") from None
            boxes = box_ops.scale(box_ops.shift(known.boxes, -place.box[0], -place.box[1]), *place.factor)
            labels = focus_labels(boxes, *np.asarray(chips.size)[row].tolist(), focus_range, ignore=known.ignore)
            focus[row, : labels.shape[0], : labels.shape[1]] = labels == FOCUS
        return focus

    return where
