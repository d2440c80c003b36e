"""Agreement of detections with other detections of the same images, for images without ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import Detections

SURE = 0.5  # score from which a detection is asked for on the other side
KNOWN = 0.25  # score from which a detection on the other side answers, so that no single threshold decides
IOU = 0.5  # from which two boxes of a class are the same object


class Agreement(NamedTuple):
    """Detections against a reference."""

    found: float  # share of the reference's sure detections that are among the detections, 0..1; NaN without any
    extra: float  # sure detections an image that the reference does not know


def agreement(reference: Sequence[Detections], detections: Sequence[Detections]) -> Agreement:
    """Compare detections of images with those of a reference, image by image.

    A detection is sure from a score of SURE. The other side knows it if a detection of the same class with a score of
    at least KNOWN overlaps by an IoU of at least IOU.
    """
    pairs = list(zip(reference, detections, strict=True))
    found = np.concatenate([np.zeros(0, bool), *(known(one, other) for one, other in pairs)])
    extra = sum(int((~known(other, one)).sum()) for one, other in pairs)
    return Agreement(float(found.mean()) if len(found) else float("nan"), extra / max(1, len(pairs)))


def known(wanted: Detections, there: Detections) -> np.ndarray:
    """Return which sure detections of `wanted` are known in `there`, [n] bool, in their order."""
    sure, answers = wanted.scores >= SURE, there.scores >= KNOWN
    same = wanted.labels[sure][:, None] == there.labels[answers]
    return (same & (box_ops.iou(wanted.boxes[sure], there.boxes[answers]) >= IOU)).any(axis=1)
