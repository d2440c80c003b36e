"""Candidate pyramids for a data set: sides, valid ranges and chip rules that follow from a detector's needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import ConfigError, StackingConfig
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import LEADS, STRIDE, ChipRule, Dataset, FocusRange, Scale, ValidRange

CHIP = 512  # px, the training chip that the paper's lengths are for
PAPER_SEEN = 60.0  # px of such a chip from which an object is seen well: what the paper's valid ranges come to
FOCUS = (5.0, 64.0, 90.0)  # the paper's a, b, c in px of such a chip
SMALLEST = 0.75  # of `seen`: what the smallest tenth of the objects should have at the finest scale
STEP = 4.0  # at most so many times from one scale to the next
OVERLAP = 2.35  # how far a valid range reaches into the coarser scale's
ENLARGED = 3.5  # at most so many level px an image px: more pixels show no more
HINTED = STRIDE / 2  # level px of the smallest tenth at scale 1; below it scale 1 may be larger than a training chip
FEW = 0.05  # of the objects: a scale that would answer for fewer only leads
LOST = 0.005  # of the objects may be too large for the focus map of a scale that only leads
TOLERANCE = 4.0  # level px: a box that comes so close to a chip's border counts as cut
DILATIONS, THRESHOLDS = (1, 3), (0.05, 0.2)  # cells; the first of all thresholds, and the others


class Sizes(NamedTuple):
    """Sizes of N images, and of G objects that are no ignore regions."""

    images: np.ndarray  # [N, 2] (height, width), px
    objects: np.ndarray  # [G] sqrt(box area), image px

    @property
    def smallest(self) -> float:
        """Return the size below which the smallest tenth of the objects lies, image px."""
        return float(np.percentile(self.objects, 10))


@dataclasses.dataclass(frozen=True)
class Needs:
    """Needs of a detector; the defaults are the paper's.

    Args:
        chip: side of a training chip, px.
        seen: sqrt(area) of an object, level px, from which a scale sees the object well.
        context: least side of a chip, px of the level that the chip shows.
        longest: longest longer side of the finest level, px.

    Raises:
        ConfigError: no pyramid meets a need.
    """

    chip: int = CHIP
    seen: float = PAPER_SEEN
    context: int = CHIP
    longest: int = 2560

    def __post_init__(self):
        if self.chip % STRIDE or self.chip < 64:
            raise ConfigError(f"a training chip of {self.chip} px; want a multiple of {STRIDE}, at least 64")
        if self.longest < self.chip:
            raise ConfigError(f"a finest level of {self.longest} px is smaller than a chip of {self.chip} px; want at "
                              "least that")  # fmt: skip
        if not 1 <= self.seen <= self.chip:
            raise ConfigError(f"seen must be from 1 px to a training chip, {self.chip} px, got {self.seen:g}")
        if self.context < STRIDE:
            raise ConfigError(f"context must be at least {STRIDE} px, got {self.context}")

    @property
    def focus(self) -> FocusRange:
        """Return the focus range: the paper's (a, b, c), scaled to such training chips."""
        a, b, c = FOCUS
        return FocusRange(a * self.chip / CHIP, *(round(side * self.seen / PAPER_SEEN, 2) for side in (b, c)))


class Candidate(NamedTuple):
    """A pyramid with everything that a cascade needs of it."""

    plan: Plan
    focus_range: FocusRange
    factors: tuple[float, ...]  # level px per image px of each scale, for an image of the usual size

    @property
    def leading(self) -> int:
        """Return the number of scales that only lead."""
        return sum(scale.leads for scale in self.plan.scales)


def sizes(dataset: Dataset) -> Sizes:
    """Return the sizes of all images and objects of a data set; no image is opened."""
    infos = [dataset.info(index) for index in range(len(dataset))]
    truths = (dataset.ground_truth(index) for index in range(len(dataset)))
    sides = [np.sqrt(box_ops.area(truth.boxes[~truth.ignore])) for truth in truths]
    shapes = np.array([(info.height, info.width) for info in infos], np.int64).reshape(-1, 2)
    return Sizes(shapes, np.concatenate([np.zeros(0, np.float32), *sides]))


def usual(given: Sizes) -> tuple[float, float]:
    """Return the median of the shorter and of the longer sides of the images, px."""
    return float(np.median(given.images.min(axis=1))), float(np.median(given.images.max(axis=1)))


def finest_factor(given: Sizes, needs: Needs) -> tuple[float, float]:
    """Return (wanted, possible): the enlargement that the finest scale should have, and the largest possible one."""
    short, _ = usual(given)
    oblong = float(np.percentile(given.images.max(axis=1) / given.images.min(axis=1), 75))
    wanted = SMALLEST * needs.seen / given.smallest
    return wanted, min(wanted, ENLARGED, needs.longest / (short * oblong))


def candidates(given: Sizes, needs: Needs) -> Iterator[Candidate]:
    """Yield the pyramids that meet the needs, each with every dilation of its chip rules.

    The pyramid has one scale if a training chip shows the smallest objects nearly as large as the finest scale would.
    """
    _, long = usual(given)
    _, finest = finest_factor(given, needs)
    chip = needs.chip / long
    if finest <= 1.3 * chip:
        yield _candidate(given, needs, [chip], 1)
        return
    for coarse in _coarsest(given, needs, chip, finest):
        least = 2 + max(0, math.ceil(round(math.log(finest / coarse) / math.log(STEP), 6)) - 1)
        for count in range(least, max(3, least) + 1):
            factors = _between(given, needs, coarse, finest, count)
            for dilation in DILATIONS:
                yield _candidate(given, needs, factors, dilation)


def _coarsest(given: Sizes, needs: Needs, chip: float, finest: float) -> list[float]:
    """Factors of scale 1: a training chip, or more as long as that shows the smallest tenth below HINTED."""
    factors = [chip]
    while given.smallest * factors[-1] < HINTED and (len(factors) / 2 + 1.5) * chip <= finest / 1.3:
        factors.append((len(factors) / 2 + 1) * chip)
    seen = [factor for factor in factors if given.smallest * factor >= needs.focus.a]
    return seen or factors[-1:]


def _between(given: Sizes, needs: Needs, coarse: float, finest: float, count: int) -> list[float]:
    """Level px per image px of each scale; those between take equal shares of what scale 1 does not see well."""
    small = given.objects[given.objects < needs.seen / coarse]
    shares = [coarse]
    for number in range(1, count - 1):
        low = float(np.percentile(small, 100 * (1 - number / (count - 1)))) if len(small) else 0.0
        wanted = needs.seen / low if low > 0 else finest
        steps = count - 1 - number  # that are still to come
        least, most = max(1.25 * shares[-1], finest / STEP**steps), min(STEP * shares[-1], finest / 1.25**steps)
        shares.append(min(max(wanted, least), most))
    return [*shares, finest]


def _candidate(given: Sizes, needs: Needs, factors: Sequence[float], dilation: int) -> Candidate:
    lows = [nice(needs.seen / factor) for factor in factors[:-1]] + [0.0]
    highs = [math.inf, *(nice(OVERLAP * low) for low in lows[:-1])]
    leading = _leading(given, needs, factors, lows)
    focus = needs.focus
    if leading and leading == len(factors) - 1:
        focus = FocusRange(focus.a, math.inf, math.inf)  # the finest scale answers for all sizes, so all are looked at
    if leading:
        highs[leading] = math.inf
    ranges = [LEADS] * leading + [ValidRange(low, high) for low, high in zip(lows[leading:], highs[leading:])]
    small = min(valid.high for valid in ranges[leading:])
    level = max(1.0, round(TOLERANCE / factors[-1]))
    tolerance = level if math.isinf(small) else 10.0 if small >= 60 else float(max(2, round(small / 6)))
    scales = []
    for number, (sides, valid) in enumerate(zip(_sides(given, needs, factors), ranges)):
        rule = None
        if number < len(factors) - 1:
            threshold = THRESHOLDS[min(number, len(THRESHOLDS) - 1)]
            rule = ChipRule.of_context(threshold, dilation, needs.context, factors[number + 1] / factors[number])
        scales.append(Scale(*sides, valid, rule))
    return Candidate(Plan(tuple(scales), stacking=StackingConfig(tolerance)), focus, tuple(factors))


def _leading(given: Sizes, needs: Needs, factors: Sequence[float], lows: Sequence[float]) -> int:
    """How many scales only lead: the coarsest ones, as long as nearly no object is left for them to answer for.

    An object that is too large for the focus map of such a scale is lost, unless all focus maps show every size.
    """
    leading = sum(float((given.objects >= low).mean()) <= FEW for low in lows[:-1])
    if leading < len(factors) - 1:
        while leading and float((given.objects * factors[leading - 1] >= needs.focus.b).mean()) > LOST:
            leading -= 1
    return leading


def _sides(given: Sizes, needs: Needs, factors: Sequence[float]) -> list[tuple[int, int]]:
    """(min side, max side) of each scale, rising."""
    short, long = usual(given)
    oblong = float(np.percentile(given.images.max(axis=1) / given.images.min(axis=1), 75))
    sides: list[tuple[int, int]] = []
    for factor in factors[1:]:
        side = _round_side(factor * short)
        side = max(side, sides[-1][0] + 1) if sides else max(side, 2)
        sides.append((side, max(side, min(needs.longest, _round_side(side * oblong)))))
    most = round(factors[0] * long)
    coarse = max(1, min([round(most * 15 / 16), *(min(round(0.9 * side), side - 1) for side, _ in sides)]))
    return [(coarse, most), *sides]


def nice(side: float) -> float:
    """Return a length rounded as people write it: whole px, from 50 on multiples of 5."""
    if not math.isfinite(side):
        return side
    return float(round(side)) if side < 50 else 5.0 * round(side / 5)


def _round_side(side: float) -> int:
    step = 50 if side >= 1000 else 20 if side >= 200 else 1
    return max(1, step * round(side / step))
