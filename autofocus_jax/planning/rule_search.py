"""The grid search of chip rules (section 5.4), from the last scale to the first. Rules of finer scales are fixed.

There are two ways to choose: the best points per budget of pixels, or the cheapest point within a loss of AP.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.focus import pyramid
from autofocus_jax.focus.chips import ChipFunction, focus_chips, whole_level
from autofocus_jax.structures import ChipRule, Dataset, Scale

Rules = tuple[ChipRule | None, ...]  # of every scale but the last, coarse to fine; None: the whole level


class Point(NamedTuple):
    """Results of the cascade with some rules."""

    rules: Rules
    ap: float  # points of 100; AP, or AP50 of VOC's metric (inference.measure.HEADLINES)
    ap50: float  # AP50, or AP70 of VOC's metric
    pixels: float  # per image


def grids(
    scales: Sequence[Scale], size: tuple[int, int], thresholds: Sequence[float], dilations: Sequence[int],
    min_sizes: Sequence[int], contexts: Sequence[int] = (),
) -> list[list[ChipRule]]:  # fmt: skip
    """Return the rules to try at each scale but the last.

    Args:
        scales: the pyramid.
        size: (height, width) of a usual image, px; decides how many times larger the next level is.
        thresholds: to try.
        dilations: to try, cells.
        min_sizes: least sides of a chip to try, px of the level that predicts the map.
        contexts: least sides of a chip to try, px of the NEXT level, which the detector sees.
    """
    factors = [pyramid.factor(*size, scale) for scale in scales]
    made = []
    for step in (fine / coarse for coarse, fine in itertools.pairwise(factors)):
        of_scale = [ChipRule(*rule) for rule in itertools.product(thresholds, dilations, min_sizes)]
        of_scale += [ChipRule.of_context(*rule, step) for rule in itertools.product(thresholds, dilations, contexts)]
        made.append(list(dict.fromkeys(of_scale)))
    return made


def usual_size(dataset: Dataset) -> tuple[int, int]:
    """Return the median height and the median width of the images of a data set, px."""
    infos = [dataset.info(index) for index in range(len(dataset))]
    return int(np.median([info.height for info in infos])), int(np.median([info.width for info in infos]))


def search(
    run: Callable[[Rules], Point],
    levels: int,
    grids: Sequence[Sequence[ChipRule]],
    keep: Callable[[Point, list[Point], list[Point], int], list[Point]],
) -> tuple[list[Point], list[Point]]:
    """Search the rules of one scale after the other, from the finest.

    Coarser scales pass on their whole level meanwhile.

    Args:
        run: function from rules to their results.
        levels: number of scales with a rule: all but the last.
        grids: the rules to try at each scale, with every choice kept so far for the finer scales.
        keep: (point of the whole pyramid, kept so far, new points, scales done) -> points to keep.

    Returns:
        (chosen, tried): the points kept last, and every point in the order of trying, the pyramid first.
    """
    pyramid = run((None,) * levels)
    tried, chosen = [pyramid], [pyramid]
    for scale in range(levels - 1, -1, -1):
        bases = [point.rules for point in chosen]
        new = [run((*rules[:scale], rule, *rules[scale + 1 :])) for rules in bases for rule in grids[scale]]
        tried += new
        chosen = keep(pyramid, chosen, new, levels - scale)
    return chosen, tried


def per_budget(
    run: Callable[[Rules], Point], levels: int, grids: Sequence[Sequence[ChipRule]], savings: Sequence[float]
) -> tuple[list[Point], list[Point]]:
    """Return (chosen, tried) of `search`: the best points per pixel budget, most pixels first.

    A choice with the whole level of a scale stays a candidate, so the first chosen point may be the pyramid.

    Args:
        run: function from rules to their results.
        levels: number of scales with a rule: all but the last.
        grids: the rules to try at each scale.
        savings: budgets, as times fewer pixels than the whole pyramid.
    """

    def keep(pyramid: Point, kept: list[Point], new: list[Point], done: int) -> list[Point]:
        return best_per_budget([*kept, *new], pyramid.pixels, savings)

    return search(run, levels, grids, keep)


def within_drop(run: Callable[[Rules], Point], levels: int, grids: Sequence[Sequence[ChipRule]], drop: float) -> Point:
    """Return the cheapest point that loses at most `drop` points of AP against the pyramid.

    Each scale has an equal share. If no rule of a scale keeps its share, the rule of highest AP is taken.
    """

    def keep(pyramid: Point, kept: list[Point], new: list[Point], done: int) -> list[Point]:
        good = [point for point in new if point.ap >= pyramid.ap - drop * done / levels]
        return [min(good, key=lambda point: point.pixels) if good else max(new, key=lambda point: point.ap)]

    (chosen,), _ = search(run, levels, grids, keep)
    return chosen


def best_per_budget(points: Sequence[Point], pyramid_pixels: float, savings: Sequence[float]) -> list[Point]:
    """Return the point of highest AP for each budget of pyramid_pixels / saving pixels, and for no budget.

    Ties in AP go to the point with fewer pixels. A point that wins several budgets is returned once. Budgets that no
    point meets are skipped. Points come with most pixels first.
    """
    chosen: list[Point] = []
    for budget in (float("inf"), *(pyramid_pixels / saving for saving in sorted(savings))):
        within = [point for point in points if point.pixels <= budget]
        best = max(within, key=lambda point: (point.ap, -point.pixels), default=None)
        if best is not None and best not in chosen:
            chosen.append(best)
    return chosen


def chip_functions(rules: Rules) -> tuple[ChipFunction, ...]:
    """Return the chip functions of rules, for the cascade."""
    return tuple(whole_level if rule is None else functools.partial(focus_chips, rule=rule) for rule in rules)


def describe(rules: Rules) -> list[dict | None]:
    """Return rules as JSON data: threshold, dilation and min_size of each scale, None for the whole level."""
    return [None if rule is None else dataclasses.asdict(rule) for rule in rules]


def short(rules: Rules) -> str:
    """Return rules for a table: (t, d, k) of each scale."""
    return " ".join("whole" if r is None else f"({r.threshold:g}, {r.dilation}, {r.min_size})" for r in rules)
