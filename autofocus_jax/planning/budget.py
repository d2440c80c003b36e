"""Choice of the chip rules' thresholds for a budget of pixels, or for an accepted loss of AP.

All thresholds move together, by one shift of their logits: threshold' = 1 / (1 + exp(-(logit(threshold) + shift))). The
balance between the scales is kept, and one number is searched. Dilations and least sizes stay.
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
    """Results of the cascade with some thresholds."""

    ap: float  # points
    pixels: float  # per image


class Choice(NamedTuple):
    """The chosen thresholds."""

    scales: tuple[Scale, ...]
    cost: Reached  # on the images they were chosen on


def shifted(scales: Sequence[Scale], shift: float) -> tuple[Scale, ...]:
    """Return the scales with the logits of their thresholds moved. Thresholds stay within [1e-6, 1 - 1e-6]."""

    def rule(old: ChipRule) -> ChipRule:
        inside = min(max(old.threshold, 1e-6), 1 - 1e-6)
        moved = 1 / (1 + math.exp(-(math.log(inside / (1 - inside)) + shift)))
        return dataclasses.replace(old, threshold=min(max(moved, 1e-6), 1 - 1e-6))

    return tuple(dataclasses.replace(scale, chips=scale.chips and rule(scale.chips)) for scale in scales)


def for_pixels(scales: Sequence[Scale], measure: Callable[[Sequence[Scale]], Reached], pixels: float) -> Choice:
    """Return the lowest thresholds whose cost is at most `pixels` level pixels per image.

    Args:
        scales: the pyramid.
        measure: function from scales to the results of the cascade, on images that are not reported.
        pixels: the budget.

    Raises:
        BudgetError: the first scale alone costs more.
    """
    return _search(
        scales, measure, lambda cost: cost.pixels <= pixels, highest=False,
        failed=lambda cost: f"even the highest thresholds cost {math.sqrt(cost.pixels):.0f} px of side an image, and "
        f"{math.sqrt(pixels):.0f} are wanted; ask for more, or make the first scale smaller",
    )  # fmt: skip


def for_drop(scales: Sequence[Scale], measure: Callable[[Sequence[Scale]], Reached], least_ap: float) -> Choice:
    """Return the highest (cheapest) thresholds that keep AP at `least_ap`. AP is assumed to fall with the thresholds.

    Args:
        scales: the pyramid.
        measure: as in `for_pixels`.
        least_ap: the AP to keep.

    Raises:
        BudgetError: the lowest thresholds do not keep that AP either.
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
