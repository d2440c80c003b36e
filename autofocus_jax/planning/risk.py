"""Thresholds that keep a promise: conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster; 2022).

Each photograph that was kept apart loses a share of its objects at a threshold, and more at a higher one. The largest
threshold at which (sum of the losses + 1) / (photographs + 1) is at most the risk loses at most that much of the next
photograph, on average over the draw of all of them. They must be exchangeable: any order as likely as any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def photographs_needed(risk: float) -> int:
    """Return how many photographs the promise takes at least: with these, not one object of theirs may be lost."""
    return max(1, math.ceil(1 / risk - 1 - 1e-9))


def losses(values: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Return the share [n] of each photograph's objects that is lost at a threshold; 0 where it has none.

    Args:
        values: of each photograph, for each of its objects the largest value of the focus map on it; infinite for an
            object that is found anyway.
        threshold: an object whose value is below is not looked at.
    """
    return np.array([np.mean(of_one < threshold) if len(of_one) else 0.0 for of_one in values])


def risk_threshold(values: Sequence[np.ndarray], risk: float) -> float | None:
    """Return the largest threshold that keeps the promise; None where only looking everywhere does.

    Args:
        values: as for `losses`, of photographs that nothing was learned from.
        risk: share of a photograph's objects that may be lost, on average.
    """
    finite = np.concatenate([np.zeros(0), *(of_one[np.isfinite(of_one)] for of_one in values)])
    candidates = np.unique(np.append(finite, 1.0))
    low, high = -1, len(candidates)  # the losses rise with the threshold, so bisection finds the last that is good
    while high - low > 1:
        middle = (low + high) // 2
        good = losses(values, candidates[middle]).sum() + 1 <= risk * (len(values) + 1) + 1e-12
        low, high = (middle, high) if good else (low, middle)
    return float(candidates[low]) if low >= 0 and candidates[low] > 0 else None
