"""Negative chips (SNIPER, section 3.2): windows full of proposals that no positive chip shows.

Training on windows around objects never shows a detector the places that only look like an object. A region proposal
network that was trained briefly, without negatives, finds such places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autofocus_jax.boxes import area
from autofocus_jax.config import TrainingConfig
from autofocus_jax.focus.pyramid import factor
from autofocus_jax.structures import Scale
from autofocus_jax.training.cover import cover

LEAST_SIDE = 2  # image px; thinner proposals do not count (the authors' release)


def negative_windows(
    proposals: np.ndarray, positive: Sequence[np.ndarray], height: int, width: int, scales: Sequence[Scale],
    training: TrainingConfig, generator: np.random.Generator,
) -> list[np.ndarray]:  # fmt: skip
    """Return the windows of each scale, [n, 4] int32 (image frame), with many proposals that no positive window holds.

    At each scale, the proposals in its training range that no positive window of that scale holds whole are covered
    greedily. Windows that newly hold more than training.negative_proposals[scale - 1] of them stay. A scale that only
    leads has none, and neither has the coarsest scale, whose positive windows show nearly everything.

    Args:
        proposals: [p, 4], image px.
        positive: windows [n, 4] of each scale (sampling.positive_windows).
        height: of the image, px.
        width: of the image, px.
        scales: the pyramid.
        training: the settings.
        generator: draws the grids of windows and breaks ties.
    """
    windows = [np.zeros((0, 4), np.int32)]
    boxes = np.asarray(proposals, np.float32).reshape(-1, 4)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= LEAST_SIDE).all(axis=1)]
    size = np.sqrt(area(boxes))
    for number in range(1, len(scales)):
        ratio, valid = factor(height, width, scales[number]), training.ranges[number]
        waiting = boxes[valid.holds(size)]
        waiting = waiting[~held(waiting, positive[number])]
        side = math.floor(training.chip / ratio)
        more_than = training.negative_proposals[number]
        windows.append(
            cover(waiting, height, width, side, training.chip_stride / ratio, generator, least=more_than + 1)
        )
    return windows


def held(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Return which boxes [p, 4] lie whole inside one of the windows [n, 4] of the same frame: [p] bool."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    left, upper, right, lower = windows.T[..., None]
    return ((left <= x1) & (upper <= y1) & (x2 <= right) & (y2 <= lower)).any(axis=0)
