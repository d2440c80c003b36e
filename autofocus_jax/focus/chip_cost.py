"""The cost of chips before they are cut: the padded pixels of their buckets and a price for each chip."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from autofocus_jax.errors import PlanError
from autofocus_jax.focus.buckets import Buckets, Loose, Multiple
from autofocus_jax.structures import STRIDE

# Sizes [n, 2] (height, width) of chips, px of the level that predicts the map -> their costs [n], finite and positive.
ChipCost = Callable[[np.ndarray], np.ndarray]

PRICE = 3446.0  # px; the demo's detector by benchmarks/chip_price.py (docs/benchmarks.md, "Chips of low cost")
LOOSE = Multiple(32)  # what most detectors pad a chip to that comes unpadded


@dataclasses.dataclass(frozen=True)
class PaddedCost:
    """Cost of chips at the next scale: padded px, and a price for each chip.

    Rows of a batch that stay empty are not counted. Neither is what a detector saves that packs loose chips on
    canvases.

    Attributes:
        buckets: padded shapes of the next scale. Chips for `Loose` are padded to multiples of 32 px. A chip that fits
            no bucket is padded to multiples of STRIDE.
        step: px of the next level per px of the level that predicts the map.
        price: px of the next level that a chip costs beside its padded pixels.
        shrink: largest share of its sides that a chip may lose to fit a smaller bucket.

    Raises:
        PlanError: a number is out of its range.
    """

    buckets: Buckets
    step: float
    price: float = PRICE
    shrink: float = 0.0

    def __post_init__(self):
        if not 0 < self.step < np.inf:
            raise PlanError(f"step must be above 0, got {self.step}")
        if not 0 <= self.price < np.inf:
            raise PlanError(f"price must be 0 px or more, got {self.price}")
        if not 0 <= self.shrink < 1:
            raise PlanError(f"shrink must be in [0, 1), got {self.shrink}")

    def __call__(self, sizes: np.ndarray) -> np.ndarray:
        """Return the costs [n] float64, px of the next level, of chips of sizes [n, 2] (height, width)."""
        sides = np.ceil(np.maximum(1, np.rint(np.asarray(sizes) * self.step)) * (1 - self.shrink))
        if isinstance(self.buckets, Multiple | Loose):
            unit = (LOOSE if isinstance(self.buckets, Loose) else self.buckets).side
            height, width = np.ceil(sides / unit).T * unit
            return height * width + self.price
        height, width = np.ceil(sides / STRIDE).astype(np.int64).T
        rows, columns = self._areas.shape
        area = self._areas[np.minimum(height, rows - 1), np.minimum(width, columns - 1)]
        return np.where(area > 0, area, height * width * float(STRIDE**2)) + self.price

    @functools.cached_property
    def _areas(self) -> np.ndarray:
        """[rows + 2, columns + 2] px of the smallest bucket that holds a chip of so many cells; 0 if none does."""
        buckets = self.buckets if isinstance(self.buckets, tuple) else ()
        highest, widest = (max((side // STRIDE for side in sides), default=0)
                           for sides in zip(*((bucket.height, bucket.width) for bucket in buckets)))  # fmt: skip
        areas = np.zeros((highest + 2, widest + 2), np.int64)
        for bucket in sorted(buckets, key=lambda bucket: -bucket.height * bucket.width):
            areas[: bucket.height // STRIDE + 1, : bucket.width // STRIDE + 1] = bucket.height * bucket.width
        return areas
