"""A plan for a foreign detector, from the side of its input and the sizes of the photographs alone.

No boxes and no run are needed. docs/any_detector.md lists the measurements behind each number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.structures import STRIDE, ChipRule, Scale, ValidRange

SIDE = 416  # px, what a detector of any input size is taken to see well, unless something better is known
STEP = 4  # at most so many times from one scale to the next
LARGEST = 2560  # px, the longer side of scale 1 at most: a detector of any input size runs on it at once
ENLARGED = 2  # the finest scale is at least so many times the detector's own side
SEEN = 104.0  # level px below which the next scale answers too
OVERLAP = (0.25, 0.125)  # a coarser scale answers from SEEN * (a + b * step)
CHIP = 256  # least side of a chip, px of the level that shows it
SHARE = 4  # a least chip is at most this part of that level's longer side
DILATION = 3  # cells
THRESHOLD = 0.02  # of the focus map, which for weak focus is a score
TOLERANCE = 4.0  # px of the finest level: a box that comes so close to a chip's border counts as cut
MERGED = StackingConfig(score_threshold=0.01, max_detections=300, nms_iou=0.6)


class Proposal(NamedTuple):
    """A plan and why it is what it is."""

    plan: Plan
    reasons: tuple[str, ...]  # a sentence each


def proposal(detector: CropDetector, sizes: Sequence[tuple[int, int]], side: int | None = None) -> Proposal:
    """Propose a plan for photographs and a detector, and say why.

    Args:
        detector: its input side counts, if it is fixed or told.
        sizes: (height, width) of the photographs, px. The plan is made for the median of their longer sides.
        side: longer side at which the detector sees a whole image well, px; by default own_side(detector).

    Returns:
        A plan of loose chips. It has a single scale if the photographs are no larger than `side`.

    Raises:
        ForeignError: there is no photograph, or `side` makes no sense.
    """
    if not len(sizes):
        raise ForeignError("no photograph to propose a plan for; give at least one (height, width)")
    own = own_side(detector) if side is None else side
    if own < STRIDE:
        raise ForeignError(f"side must be at least {STRIDE} px, got {own}")
    longer = float(np.median(np.asarray(sizes).max(axis=1)))
    known = "the detector's input" if detector.fixed else "the file says so" if detector.made_for else "assumed"
    origin = known if side is None else "as asked"
    reasons = [f"a whole image of {own} px is seen well ({origin})"]
    if longer <= own:
        reasons.append(f"one scale: photographs of {longer:.0f} px are no larger, there is nothing to look closer at")
        return Proposal(of_scales([own], longer), tuple(reasons))
    finest = max(round(longer), ENLARGED * own)
    coarsest = min(max(own, finest / STEP), LARGEST)
    count = 1 + math.ceil(round(math.log(finest / coarsest, STEP), 6))
    sides = [coarsest * (finest / coarsest) ** (number / (count - 1)) for number in range(count)]
    sides = [max(own, 32 * round(value / 32)) for value in sides[:-1]] + [finest]
    origin = f"the photographs' own {longer:.0f} px" if finest == round(longer) else f"{ENLARGED} times that side"
    reasons.append(f"scale {count}: {finest} px, {origin}")
    reasons.append(f"scale 1: {sides[0]} px, no more than {STEP} times from scale to scale, at least {own} and at most "
                   f"{LARGEST} px")  # fmt: skip
    plan = of_scales(sides, longer)
    low, high = plan.scales[0].valid.low, plan.scales[1].valid.high
    reasons.append(f"scale 1 answers from {low:g} px of the photograph, scale 2 up to {high:g} px, which scale 1 shows "
                   f"{SEEN:g} px large")  # fmt: skip
    reasons.append(f"chips have at least {least_chip(sides[1]):g} px of the level that shows them")
    return Proposal(plan, tuple(reasons))


def own_side(detector: CropDetector) -> int:
    """Return the longer side of a whole image that a detector sees well, px: of its fixed input, as told, or SIDE."""
    return max(detector.fixed) if detector.fixed else detector.made_for or SIDE


def of_scales(sides: Sequence[int], longer: float, focus_threshold: float = THRESHOLD) -> Plan:
    """Return the plan with these scales, its valid ranges, chip rules and merging following from them.

    Args:
        sides: the longer side of the image at each scale, px, coarse to fine.
        longer: the longer side of the photographs, px.
        focus_threshold: cells of the focus map from here on are looked at again.
    """
    factors = [side / longer for side in sides]
    steps = [finer / coarser for coarser, finer in itertools.pairwise(sides)]
    lows = [*(_nice(SEEN * (OVERLAP[0] + OVERLAP[1] * step) / factor) for step, factor in zip(steps, factors)), 0.0]
    highs = [math.inf, *(_nice(SEEN / factor) for factor in factors[:-1])]
    rules = [*(rule(finer, step, focus_threshold) for finer, step in zip(sides[1:], steps)), None]
    scales = [Scale(side, side, ValidRange(*valid), chips)
              for side, valid, chips in zip(sides, zip(lows, highs), rules)]  # fmt: skip
    return Plan(tuple(scales), Loose(), merging(longer, sides[-1]))


def rule(finer: int, step: float, focus_threshold: float = THRESHOLD, least: float | None = None) -> ChipRule:
    """Return the chip rule of a scale.

    Args:
        finer: the longer side of the next scale, px.
        step: how many times larger the next scale is.
        focus_threshold: cells of the focus map from here on are looked at again.
        least: least side of a chip, px of the NEXT level; by default least_chip(finer).
    """
    least = least_chip(finer) if least is None else least
    least -= least % (step * STRIDE)  # whole cells, as it was measured
    return ChipRule.of_context(focus_threshold, DILATION, least, step)


def least_chip(finer: int) -> float:
    """Return the least side of a chip on a level of that longer side, px of that level."""
    return min(CHIP, finer / SHARE)


def merging(longer: float, finest: int) -> StackingConfig:
    """Return how detections are merged, for photographs and a finest level of these longer sides, px."""
    return StackingConfig(max(1.0, round(TOLERANCE * longer / finest)), MERGED.score_threshold, MERGED.max_detections,
                          nms_iou=MERGED.nms_iou)  # fmt: skip


def _nice(side: float) -> float:
    """Rounded to multiples of 50 px, below 200 px to those of 5 px, below 50 px to whole px."""
    step = 1 if side < 50 else 5 if side < 200 else 50
    return float(step * round(side / step))
