"""Chips of low cost: a second chip rule beside Algorithm 1, for costs that are not the chip's area."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from autofocus_jax.errors import PlanError
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.chip_cost import PRICE, ChipCost, PaddedCost
from autofocus_jax.focus.chips import ChipFunction, at_least, component_boxes, merge_overlapping, overlaps
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import STRIDE, ChipRule

Price = Callable[[np.ndarray], np.ndarray]  # sides [..., 2] (x, y) of boxes, level px -> costs [...] of their chips

_PAIRS = 2**16  # of boxes that are compared at once


def cheap_rules(plan: Plan, size: tuple[int, int], price: float = PRICE) -> tuple[ChipFunction, ...]:
    """Return `cheap_chips` with the chip rule of each scale of a plan but the last, for `Plan.rules`.

    Args:
        plan: its scales, buckets and `shrink` decide the cost of a chip. Its own rules do not count.
        size: (height, width) of a usual image, px; decides how many times larger the next level is.
        price: px of the next level that a chip costs beside its padded pixels (benchmarks/chip_price.py).

    Raises:
        PlanError: a scale has no chip rule, or the price is out of range.
    """
    made: list[ChipFunction] = []
    for number, (coarse, fine) in enumerate(zip(plan.scales, plan.scales[1:]), 1):
        if coarse.chips is None:
            raise PlanError(f"scale {number} has no chip rule; give it one")
        step = pyramid.factor(*size, fine) / pyramid.factor(*size, coarse)
        cost = PaddedCost(plan.buckets, step, price, plan.shrink)
        made.append(functools.partial(cheap_chips, rule=coarse.chips, cost=cost))
    return tuple(made)


def cheap_chips(
    focus: np.ndarray, level_size: tuple[int, int], rule: ChipRule, cost: ChipCost, stride: int = STRIDE
) -> np.ndarray:
    """Return chips that hold the components of Algorithm 1 whole and cost no more than its chips.

    Two groups of components share a chip if that is cheaper. A chip encloses its group and then grows to the least
    size; Algorithm 1 grows first. Chips that overlap move apart, as far as they still hold their components. If there
    is no room, they become one. The search is greedy. If Algorithm 1 is as cheap, its chips are returned.

    Args:
        focus: [ceil(H / stride), ceil(W / stride)] FocusPixel probabilities.
        level_size: (H, W) of the level, px.
        rule: threshold, dilation and least size, as in `focus_chips`.
        cost: from sizes [n, 2] (height, width), level px, to costs [n].
        stride: px of a cell.

    Returns:
        [n, 4] int32 boxes, xyxy, half-open, level frame: disjoint, inside the level, with sides of at least
        rule.min_size or the level's. They cover every cell of the dilated components.

    Raises:
        AutoFocusError: the map does not belong to such a level.
    """
    components = component_boxes(focus, level_size, rule, stride)
    usual = merge_overlapping(at_least(components, level_size, rule.min_size))
    boxes = merge_overlapping(components)
    if len(boxes) < 2:
        return usual

    least = np.minimum(rule.min_size, level_size)

    def price(sides: np.ndarray) -> np.ndarray:
        """Costs [...] of boxes with sides [..., 2] (x, y) that grow to the least size."""
        sizes = np.maximum(sides[..., ::-1], least)
        return np.asarray(cost(sizes.reshape(-1, 2)), np.float64).reshape(sizes.shape[:-1])

    while True:
        boxes = _merged_where_cheaper(boxes, price)
        chips, stuck = _moved_apart(at_least(boxes, level_size, rule.min_size), boxes, level_size)
        if not stuck:
            break
        boxes = _merged(boxes, stuck, price)
    return chips if price(_sides(chips, chips)).sum() < price(_sides(usual, usual)).sum() else usual


def _merged_where_cheaper(boxes: np.ndarray, price: Price) -> np.ndarray:
    """Merge pairs of disjoint boxes [n, 4], always the pair that saves most, until no pair saves anything.

    What the enclosing box overlaps is merged with it.
    """
    boxes, costs = boxes.copy(), price(_sides(boxes, boxes))
    saving = costs[:, None] + costs
    block = max(1, _PAIRS // len(boxes))
    for start in range(0, len(boxes), block):
        saving[start : start + block] -= price(_sides(boxes[start : start + block, None], boxes))
    np.fill_diagonal(saving, -np.inf)
    best, alive = saving.max(axis=1), np.ones(len(boxes), bool)
    while best.max() > 0:
        one = int(best.argmax())
        other = int(saving[one].argmax())
        box, members = _closed(boxes[[one, other]], boxes, alive)
        joint = price(_sides(box, box))[0]
        cheaper = joint < costs[members].sum()  # with all that the box overlaps
        old = members if cheaper else np.array([one, other])
        stale = saving[:, old].max(axis=1) >= best
        if cheaper:
            alive[members] = False
            rest = np.flatnonzero(alive)
            saving[members] = saving[:, members] = -np.inf
            boxes[one], costs[one], alive[one] = box[0], joint, True
            saving[one, rest] = saving[rest, one] = joint + costs[rest] - price(_sides(box, boxes[rest]))
        else:
            saving[one, other] = saving[other, one] = -np.inf
        stale &= alive
        best[stale] = saving[stale].max(axis=1)
        best = np.where(alive, np.maximum(best, saving[:, one]), -np.inf)
    return boxes[alive]


def _closed(pair: np.ndarray, boxes: np.ndarray, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A box [1, 4] that encloses a pair [2, 4] of boxes [n, 4] and every living one that it overlaps; rows of these."""
    held, count = pair, 2
    while True:
        box = np.concatenate([held[:, :2].min(axis=0), held[:, 2:].max(axis=0)])[None]
        members = np.flatnonzero(overlaps(box, boxes)[0] & alive)
        if len(members) == count:
            return box, members
        held, count = boxes[members], len(members)


def _moved_apart(
    chips: np.ndarray, boxes: np.ndarray, level_size: tuple[int, int]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Move chips [n, 4] that overlap to both sides of a line between their boxes [n, 4].

    A move is made only if it causes no other overlap.

    Returns:
        The chips, of the same sizes, and the pairs that still overlap.
    """
    chips = chips.copy()
    together = overlaps(chips, chips)
    np.fill_diagonal(together, False)
    pairs = [(int(one), int(other)) for one, other in np.argwhere(np.triu(together))]
    for one, other in pairs:
        rows = [one, other]
        shared = np.minimum(chips[one, 2:], chips[other, 2:]) - np.maximum(chips[one, :2], chips[other, :2])
        for axis in np.argsort(shared, kind="stable") if together[one, other] else ():
            moved = _beside_a_line(chips[rows], boxes[rows], int(axis), level_size[1 - axis])
            if moved is None:
                continue
            new = overlaps(moved, chips)
            new[:, rows] = False
            if not (new & ~together[rows]).any():
                chips[rows], together[rows], together[:, rows] = moved, new, new.T
                break
    return chips, [pair for pair in pairs if together[pair]]


def _beside_a_line(chips: np.ndarray, boxes: np.ndarray, axis: int, length: int) -> np.ndarray | None:
    """Two chips [2, 4] moved along an axis, so that they meet at a line at most; None if there is no room.

    Each chip still holds its box of [2, 4], and stays in a level of that length.
    """
    low, high = (0, 1) if boxes[0, axis] < boxes[1, axis] else (1, 0)
    sides = chips[:, 2 + axis] - chips[:, axis]
    first, last = max(boxes[low, 2 + axis], sides[low]), min(boxes[high, axis], length - sides[high])
    if first > last:
        return None
    line = np.clip((chips[low, 2 + axis] + chips[high, axis]) // 2, first, last)
    moved = chips.copy()
    moved[low, 2 + axis] = min(chips[low, 2 + axis], line)
    moved[high, axis] = max(chips[high, axis], line)
    moved[low, axis] = moved[low, 2 + axis] - sides[low]
    moved[high, 2 + axis] = moved[high, axis] + sides[high]
    return moved


def _merged(boxes: np.ndarray, pairs: Sequence[tuple[int, int]], price: Price) -> np.ndarray:
    """Merge pairs of boxes [n, 4], those that cost least first, a box once at most, and what overlaps then."""
    one, other = np.array(pairs).T
    costs = price(_sides(boxes, boxes))
    more = price(_sides(boxes[one], boxes[other])) - costs[one] - costs[other]
    boxes, used, gone = boxes.copy(), np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)
    for row in np.argsort(more, kind="stable"):
        pair = [one[row], other[row]]
        if not used[pair].any():
            used[pair], gone[other[row]] = True, True
            boxes[one[row]] = [*boxes[pair, :2].min(axis=0), *boxes[pair, 2:].max(axis=0)]
    return merge_overlapping(boxes[~gone])


def _sides(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Sides [..., 2] (x, y) of the boxes that enclose boxes [..., 4] and others [..., 4]."""
    return np.maximum(boxes[..., 2:], others[..., 2:]) - np.minimum(boxes[..., :2], others[..., :2])
