"""A pixel budget without ground truth: thresholds that keep to it on a few of the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.config import ConfigError
from autofocus_jax.focus.cascade import Reader
from autofocus_jax.inference.model import Model
from autofocus_jax.planning.budget import Reached, for_pixels
from autofocus_jax.structures import AutoFocusError, Scale


class Budgeted(NamedTuple):
    """Thresholds, coarse to fine, and what they cost on the images they were chosen on."""

    thresholds: tuple[float, ...]
    pixels: float  # per image


def thresholds_within(model: Model, side: float, readers: Sequence[Reader]) -> Budgeted:
    """The lowest thresholds that cost at most side * side pixels per image on average, by real runs on `readers`.

    All thresholds move together, as in autofocus_jax.planning.budget. Images that fail play no part. Raises
    BudgetError when scale 1 alone costs more, ConfigError for a side that is none and for a detector of one scale,
    AutoFocusError when all images fail.
    """
    if not math.isfinite(side) or side <= 0:
        raise ConfigError(f"--pixels {side:g}; want the side of a square, in pixels, as 900")
    if len(model.plan.scales) == 1:
        raise ConfigError("--pixels needs a detector of several scales; this one has one")

    def reached(scales: Sequence[Scale]) -> Reached:
        tried = model.planned(model.plan.with_thresholds(*_thresholds(scales)))
        outcomes = list(tried.stream(enumerate(readers)))
        pixels = [outcome.cost.pixels.sum() for outcome in outcomes if outcome.error is None]
        if not pixels:
            reason = f"; the first: {outcomes[0].error}" if outcomes else ""
            raise AutoFocusError(f"--pixels: none of the images to choose thresholds on could be processed{reason}")
        return Reached(math.nan, float(np.mean(pixels)))

    choice = for_pixels(model.plan.scales, reached, side * side)
    return Budgeted(_thresholds(choice.scales), choice.cost.pixels)


def _thresholds(scales: Sequence[Scale]) -> tuple[float, ...]:
    return tuple(scale.chips.threshold for scale in scales[:-1])
