"""Agreement of detections with a reference, on boxes drawn by hand."""

import math

import numpy as np

from autofocus_jax.metrics.agreement import agreement
from autofocus_jax.structures import Detections


def detections(*rows):
    """Rows of (x of a 10 px square, score, label)."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    scores, labels = ([row[field] for row in rows] for field in (1, 2))
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int32))


def test_found_and_extra():
    reference = [detections((0, 0.9, 0), (50, 0.6, 0), (100, 0.5, 1), (150, 0.4, 0)), detections()]
    found = [
        # The first is weak but known; the second too far off (IoU 0.43), so it is also extra; the third is of another
        # class; the fourth, which the reference is not sure of, is known there.
        detections((1, 0.3, 0), (54, 0.9, 0), (100, 0.2, 1), (100, 0.9, 0), (151, 0.9, 0)),
        detections((0, 0.8, 0), (30, 0.49, 0)),
    ]
    assert agreement(reference, found) == (1 / 3, 3 / 2)


def test_with_itself_and_with_nothing():
    some = [detections((0, 0.9, 0), (50, 0.1, 0))]
    assert agreement(some, some) == (1, 0)
    assert agreement(some, [detections()]) == (0, 0)
    found, extra = agreement([detections()], some)
    assert math.isnan(found) and extra == 1
