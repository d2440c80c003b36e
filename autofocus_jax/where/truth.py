"""Look where the ground truth has something small: perfect focus, the upper bound of every other way to look."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from autofocus_jax.focus.labels import chip_labels
from autofocus_jax.structures import (
    FOCUS,
    AutoFocusError,
    Detections,
    FocusRange,
    GroundTruth,
    Placement,
    Where,
)

SMALL = FocusRange(0, 64, 90)


def truth(
    ground_truths: Sequence[GroundTruth] | Mapping[Hashable, GroundTruth], focus_range: FocusRange = SMALL
) -> Where:
    """Make a focus map of the ground truth: 1 on FOCUS cells, 0 elsewhere.

    Args:
      ground_truths: by the key of the image (Placement.key).
      focus_range: sizes that count, chip px.
    """

    of_key: Any = ground_truths

    def where(
        crops: Sequence[np.ndarray], placements: Sequence[Placement], found: Sequence[Detections] | None
    ) -> list[np.ndarray]:
        return [_focus(crop, place) for crop, place in zip(crops, placements, strict=True)]

    def _focus(crop: np.ndarray, place: Placement) -> np.ndarray:
        try:
            known = of_key[place.key]
        except LookupError:
            raise AutoFocusError(f"there is no ground truth of image {place.key!r}; give that of all") from None
        return (chip_labels(known, place, crop.shape[:2], focus_range) == FOCUS).astype(np.float32)

    return where
