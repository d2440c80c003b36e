"""The type of a function that says where to look, and how two of them make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autofocus_jax.structures import STRIDE, ChipBatch, DetectorOutput, Placement

# Chips, where each filled row comes from, and what the detector answered, if it ran -> a focus map for each chip,
# [B, ceil(H / 16), ceil(W / 16)] float32 in 0..1, and 0 outside a chip's true size.
Where = Callable[[ChipBatch, Sequence[Placement], DetectorOutput | None], np.ndarray]


def either(a: Where, b: Where) -> Where:
    """Look where one of two functions says so: the larger value of each cell."""
    return lambda chips, placements, output: np.maximum(a(chips, placements, output), b(chips, placements, output))


def both(a: Where, b: Where) -> Where:
    """Look where two functions agree: the smaller value of each cell."""
    return lambda chips, placements, output: np.minimum(a(chips, placements, output), b(chips, placements, output))


def empty_map(chips: ChipBatch) -> np.ndarray:
    """Return zeros of the shape of a focus map of these chips."""
    batch, height, width = chips.pixels.shape[:3]
    return np.zeros((batch, -(-height // STRIDE), -(-width // STRIDE)), np.float32)
