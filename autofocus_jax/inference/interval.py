"""Confidence of a difference between two runs over the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

GROUPS = 10  # that are left out in turn
WIDTH = 2.26  # Student's t for 95% of GROUPS - 1 degrees of freedom


def margin(score: Callable[[Sequence[int]], float], count: int) -> float:
    """Return the half width of the 95% interval of a score over images (delete-a-group jackknife over tenths).

    Args:
        score: function from positions of images to the score, for example the AP lost between two runs.
        count: number of images, at least GROUPS.

    Returns:
        The half width; NaN if some tenth leaves nothing to score.
    """
    if count < GROUPS:
        raise ValueError(f"{count} images; want at least {GROUPS}")
    groups = np.array_split(np.random.default_rng(0).permutation(count), GROUPS)
    everything = np.arange(count)
    values = np.array([score(np.setdiff1d(everything, group).tolist()) for group in groups])
    return WIDTH * math.sqrt((GROUPS - 1) / GROUPS * float(((values - values.mean()) ** 2).sum()))
