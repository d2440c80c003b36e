"""Choice of buckets for the chips of a data set: the padded shapes that waste the fewest pixels.

A chip uses the shape of fewest pixels that holds it. So the choice is a k-median problem over the sizes of the chips.
The candidates are rectangles with the height of one chip and the width of another. Empty rows of partial batches do not
depend on the shapes and are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.focus.buckets import BucketError, fit
from autofocus_jax.planning.medians import greedy_costs, k_medians
from autofocus_jax.structures import STRIDE, Bucket, Scale

_MOST_COSTS = 2**26  # numbers in the table of costs (float32); beyond it sides are multiples of more than STRIDE


class ChipSizes(NamedTuple):
    """Sizes of chips and how often each occurs."""

    sizes: np.ndarray  # [n, 2] int64, distinct (height, width), chip px
    counts: np.ndarray  # [n] int64


class Choice(NamedTuple):
    """Shapes for buckets, and their padding of the chips that they were chosen for."""

    shapes: np.ndarray  # [k, 2] int64, (height, width), fewest pixels first
    padding: float  # pixels that padding adds, over the chips' own
    step: int  # sides are multiples of this: STRIDE, or more where sizes are very many


class _Problem(NamedTuple):
    """A k-median problem; costs are in cells of step x step px."""

    shapes: np.ndarray  # [C, 2], candidates, the required ones first
    costs: np.ndarray  # [C, P] float32
    weights: np.ndarray  # [P]
    required: int
    step: int


def count_sizes(sizes: np.ndarray, counts: np.ndarray | None = None) -> ChipSizes:
    """Merge equal sizes.

    Args:
        sizes: [m, 2] (height, width), px.
        counts: [m] how often each occurs; by default once.
    """
    sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
    counts = np.ones(len(sizes), np.int64) if counts is None else np.asarray(counts, np.int64)
    distinct, row = np.unique(sizes, axis=0, return_inverse=True)
    total = np.zeros(len(distinct), np.int64)
    np.add.at(total, row.reshape(-1), counts)
    return ChipSizes(distinct, total)


def largest_levels(scales: Sequence[Scale], step: int = STRIDE) -> np.ndarray:
    """Return shapes [m, 2], sides multiples of `step`, that hold every level of any image, and so every chip.

    A level is at most min_side by max_side, landscape or portrait. Shapes that another one holds are left out.
    """
    sides = np.array([(scale.min_side, scale.max_side) for scale in scales], np.int64)
    shapes = np.unique(_up(np.concatenate([sides, sides[:, ::-1]]), step), axis=0)
    inside = (shapes[:, None] <= shapes).all(axis=2)
    return shapes[inside.sum(axis=1) == 1]


def padding(chips: ChipSizes, shapes: np.ndarray, shrink: float = 0.0) -> float:
    """Return the pixels that padding adds to the chips, each in its shape of [k, 2].

    Args:
        chips: sizes and counts.
        shapes: [k, 2] (height, width), px.
        shrink: largest share of its sides that a chip may lose to fit a smaller shape (buckets.fit).

    Raises:
        BucketError: a chip fits no shape, or there is no chip.
    """
    _check(chips)
    chosen, sizes = fit(chips.sizes, shapes, shrink)
    padded = shapes.prod(axis=1)[chosen]
    return float(padded @ chips.counts / (sizes.prod(axis=1) @ chips.counts) - 1)


def shrunk(chips: ChipSizes, shrink: float) -> ChipSizes:
    """Return the least sizes that chips may be shrunk to. Shapes that hold these sizes hold the chips."""
    return count_sizes(np.ceil(chips.sizes * (1 - shrink)).astype(np.int64), chips.counts)


def choose_shapes(chips: ChipSizes, scales: Sequence[Scale], count: int) -> Choice:
    """Choose at most `count` shapes that pad the chips least. The largest levels of `scales` are always among them.

    So every chip that the scales can produce has a bucket. The choice is greedy with swaps, and deterministic.

    Raises:
        BucketError: there is no chip, a chip is larger than every level, or `count` is too small for the largest
            levels.
    """
    problem = _problem(chips, scales)
    if count < problem.required:
        levels = " and ".join(f"{height}x{width}" for height, width in problem.shapes[: problem.required])
        raise BucketError(f"{count} buckets cannot hold the largest levels {levels}; want at least {problem.required}")
    medians = k_medians(problem.costs, problem.weights, count, problem.required)
    shapes = problem.shapes[medians.chosen]
    by_area = np.lexsort((shapes[:, 0], shapes.prod(axis=1)))
    return Choice(shapes[by_area], _added(medians.cost, chips, problem.step), problem.step)


def padding_by_count(chips: ChipSizes, scales: Sequence[Scale], most: int) -> dict[int, float]:
    """Return the added pixels of padding by number of shapes, from the number of the largest levels up to `most`.

    The choice is greedy, so `choose_shapes` is a little better. Raises BucketError as `choose_shapes` does.
    """
    problem = _problem(chips, scales)
    costs = greedy_costs(problem.costs, problem.weights, max(most, problem.required), problem.required)
    return {number: _added(cost, chips, problem.step) for number, cost in enumerate(costs, problem.required)}


def with_batches(shapes: np.ndarray, batch_pixels: int) -> tuple[Bucket, ...]:
    """Return buckets of the shapes [k, 2] whose batches have about equal pixels.

    A batch holds as many chips as fit into `batch_pixels`, at least one. A CPU gains nothing from batches, so one chip
    a batch is fine there.
    """
    return tuple(Bucket(height, width, max(1, batch_pixels // (height * width))) for height, width in shapes.tolist())


def _check(chips: ChipSizes) -> None:
    if not chips.counts.sum():
        raise BucketError("there is no chip to choose buckets for; give annotations with images, or recorded chips")


def _up(sides: np.ndarray, step: int) -> np.ndarray:
    return -(-sides // step) * step


def _added(cost: float, chips: ChipSizes, step: int) -> float:
    return float(cost * step * step / (chips.sizes.prod(axis=1) @ chips.counts) - 1)


def _problem(chips: ChipSizes, scales: Sequence[Scale]) -> _Problem:
    """The chips' sizes rounded up to multiples of STRIDE, or of more when the table of costs would be too large."""
    _check(chips)
    step = STRIDE
    while True:
        points, weights = count_sizes(_up(chips.sizes, step), chips.counts)
        required = largest_levels(scales, step)
        outside = np.flatnonzero(~np.any(np.all(points[:, None] <= required, axis=2), axis=1))
        if len(outside):
            height, width = points[outside[0]]
            levels = " or ".join(f"{rows}x{columns}" for rows, columns in required)
            raise BucketError(
                f"a chip of up to {height}x{width} px is larger than every level, at most {levels}; "
                "it was not made with the scales of this config"
            )
        shapes = np.concatenate([required, _rectangles(points, required)])
        if len(shapes) * len(points) <= _MOST_COSTS:
            break
        step *= 2
    costs = np.empty((len(shapes), len(points)), np.float32)
    for start in range(0, len(shapes), 256):
        part = shapes[start : start + 256]
        holds = (points <= part[:, None]).all(axis=2)
        costs[start : start + 256] = np.where(holds, part.prod(axis=1)[:, None] // step**2, np.inf)
    return _Problem(shapes, costs, weights, len(required), step)


def _rectangles(points: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Shapes [c, 2] that a best choice may need: both sides are touched by points inside; none of `without`."""
    heights, row = np.unique(points[:, 0], return_inverse=True)
    widths, column = np.unique(points[:, 1], return_inverse=True)
    narrowest = np.full(len(heights), np.iinfo(np.int64).max)  # width of the narrowest point of each height
    np.minimum.at(narrowest, row, points[:, 1])
    lowest = np.full(len(widths), np.iinfo(np.int64).max)
    np.minimum.at(lowest, column, points[:, 0])
    touched = (narrowest[:, None] <= widths) & (lowest <= heights[:, None])
    row, column = np.nonzero(touched)
    shapes = np.stack([heights[row], widths[column]], axis=1)
    return shapes[~(shapes[:, None] == without).all(axis=2).any(axis=1)]
