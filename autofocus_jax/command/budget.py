"""A pixel budget without ground truth: thresholds of the chip rules that keep to it on a few of the images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.api import Model, with_thresholds
from autofocus_jax.structures import AutoFocusError


class Budgeted(NamedTuple):
    """Thresholds, coarse to fine, and what they cost on the images they were chosen on."""

    thresholds: tuple[float, ...]
    pixels: float  # per image
    images: int


def thresholds_within(
    model: Model, side: float, readers: Sequence[Callable[[], np.ndarray]], steps: int = 6
) -> Budgeted:
    """The lowest thresholds that cost at most side * side pixels per image on average, by real runs on `readers`.

    All thresholds move together between 0, the whole pyramid, and 1, nearly nothing but scale 1; those of the model
    lie on the way. Cost falls as they rise, so the place is found by halving, `steps` times. Images that cannot be
    read play no part. Raises AutoFocusError when scale 1 alone costs more, or when not one image can be read.
    """
    if not math.isfinite(side) or side <= 0:
        raise AutoFocusError(f"--pixels {side:g}; want the side of a square, in pixels, as 900")
    own = [scale.chips.threshold for scale in model.config.scales[:-1]]
    if not own:
        raise AutoFocusError("--pixels needs a detector of several scales; this one has one")

    def at(position: float) -> tuple[float, ...]:
        """Thresholds at a position from -1 (all 0) over 0 (the model's own) to 1 (all 1)."""
        return tuple(t * (1 + position) if position <= 0 else t + (1 - t) * position for t in own)

    def cost(position: float) -> float:
        tried = model.changed(lambda config: with_thresholds(config, at(position)))
        pixels = [outcome.info.pixels.sum() for outcome in tried.stream(readers) if outcome.error is None]
        if not pixels:
            raise AutoFocusError("none of the images that --pixels was to be chosen on can be read; check the images")
        return float(np.mean(pixels))

    budget = side * side
    least = cost(1.0)
    if least > budget:
        raise AutoFocusError(f"--pixels {side:g} is too little: scale 1 alone costs {math.sqrt(least):.0f} on a side; "
                             "give more, or smaller --scales")  # fmt: skip
    most = cost(-1.0)
    if most <= budget:
        return Budgeted(at(-1.0), most, len(readers))
    low, high, spent = -1.0, 1.0, least
    for _ in range(steps):
        middle = (low + high) / 2
        pixels = cost(middle)
        if pixels <= budget:
            high, spent = middle, pixels
        else:
            low = middle
    return Budgeted(at(high), spent, len(readers))
