"""Choosing the thresholds of the chip rules for a budget of pixels, or for a loss of AP that one accepts.

All thresholds move together, by one shift of their logits: threshold' = 1 / (1 + exp(-(logit(threshold) + shift))).
That keeps what was chosen between the scales and leaves one number to search; dilations and least sizes stay.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from autofocus_jax.errors import BudgetError
from autofocus_jax.structures import ChipRule, Scale

WIDEST = 12.0  # shifts of the logits that are searched, to both sides: every threshold ends up at almost 0 or 1
STEPS = 9  # halvings of that interval: the shift is found to 0.05


class Reached(NamedTuple):
    """What the cascade does with some thresholds."""

    ap: float  # points
    pixels: float  # per image


class Choice(NamedTuple):
    """The thresholds that were chosen."""

    scales: tuple[Scale, ...]
    cost: Reached  # on the images they were chosen on


def shifted(scales: Sequence[Scale], shift: float) -> tuple[Scale, ...]:
    """The scales with the logits of their thresholds moved; thresholds stay above 1e-6 and at most 1 - 1e-6."""

    def rule(old: ChipRule) -> ChipRule:
        inside = min(max(old.threshold, 1e-6), 1 - 1e-6)
        moved = 1 / (1 + math.exp(-(math.log(inside / (1 - inside)) + shift)))
        return dataclasses.replace(old, threshold=min(max(moved, 1e-6), 1 - 1e-6))

    return tuple(dataclasses.replace(scale, chips=scale.chips and rule(scale.chips)) for scale in scales)


def for_pixels(scales: Sequence[Scale], measure: Callable[[Sequence[Scale]], Reached], pixels: float) -> Choice:
    """The lowest thresholds whose cost is at most `pixels` level pixels per image.

    measure: scales -> what the cascade does with them, on images that are not reported. Raises BudgetError when the
    first scale alone costs more.
    """
    return _search(
        scales, measure, lambda cost: cost.pixels <= pixels, highest=False,
        failed=lambda cost: f"even the highest thresholds cost {math.sqrt(cost.pixels):.0f} px of side an image, and "
        f"{math.sqrt(pixels):.0f} are wanted; ask for more, or make the first scale smaller",
    )  # fmt: skip


def for_drop(scales: Sequence[Scale], measure: Callable[[Sequence[Scale]], Reached], least_ap: float) -> Choice:
    """The highest thresholds, so the cheapest, that keep AP at least_ap; AP is taken to fall with the thresholds.

    measure: as in for_pixels. Raises BudgetError when not even the lowest thresholds do.
    """
    return _search(
        scales, measure, lambda cost: cost.ap >= least_ap, highest=True,
        failed=lambda cost: f"even the lowest thresholds have {cost.ap:.1f} AP, and {least_ap:.1f} is wanted; allow a "
        "larger drop",
    )  # fmt: skip


def _search(
    scales: Sequence[Scale],
    measure: Callable[[Sequence[Scale]], Reached],
    good: Callable[[Reached], bool],
    highest: bool,
    failed: Callable[[Reached], str],
) -> Choice:
    """Halves the interval of shifts between one that is good and one that is not; `highest`: which end is not."""
    sure, unsure = (-WIDEST, WIDEST) if highest else (WIDEST, -WIDEST)
    best = Choice(shifted(scales, sure), measure(shifted(scales, sure)))
    if not good(best.cost):
        raise BudgetError(failed(best.cost))
    end = Choice(shifted(scales, unsure), measure(shifted(scales, unsure)))
    if good(end.cost):
        return end
    for _ in range(STEPS):
        middle = (sure + unsure) / 2
        tried = Choice(shifted(scales, middle), measure(shifted(scales, middle)))
        if good(tried.cost):
            best, sure = tried, middle
        else:
            unsure = middle
    return best
