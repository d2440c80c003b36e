"""The k-median problem with a proof of how close the answer is: open `count` candidates so that serving all is cheap.

The answer comes from greedy choice and swaps (one candidate out, one in, until no swap helps). The bound is that of
Lagrangian relaxation: give every point a price; a candidate then earns what the prices of the points that it serves
exceed its costs, and the sum of the prices less the `count` largest earnings is below the cost of any choice. Prices
climb along the subgradient, and the candidates that earn most are starts for more swaps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_ROWS = 64  # candidates looked at together, so that what is computed of them stays in the processor's cache
_PATIENCE = 10  # steps of the prices without a better bound before they go back and the steps are halved
_SWAP_EVERY = 15  # steps of the prices


class Medians(NamedTuple):
    """An answer and its proof: bound <= the least possible cost <= cost."""

    chosen: np.ndarray  # [count] intp, candidates; the required ones first
    cost: float
    bound: float


def k_medians(
    costs: np.ndarray,
    weights: np.ndarray,
    count: int,
    required: int,
    iterations: int = 400,
    tolerance: float = 1e-3,
) -> Medians:
    """Candidates that minimise the sum over points of weight times the cost of the cheapest chosen candidate.

    costs [C, P]: whole numbers below 2^24, of serving point p by candidate c, inf where it cannot; weights [P]: whole
    numbers. The first `required` candidates are always chosen and must together serve every point. Ends when the cost
    is within `tolerance` of the bound, or after `iterations` steps of the prices. Deterministic. When there are at
    most `count` candidates, all are chosen.

    Raises ValueError where the required candidates are more than `count` or leave a point unserved.
    """
    costs, weights = _checked(costs, weights, count, required)
    if len(costs) <= count or count == required:
        chosen = np.arange(min(len(costs), count))
        cost = _cost(costs, weights, chosen)
        return Medians(chosen, cost, cost)
    chosen = _swap(costs, weights, _greedy(costs, weights, count, required), required)
    return _climb(costs, weights, chosen, required, iterations, tolerance)


def greedy_costs(costs: np.ndarray, weights: np.ndarray, count: int, required: int) -> np.ndarray:
    """Cost of `required`, `required` + 1, …, `count` (or all) candidates taken greedily; arguments as k_medians."""
    costs, weights = _checked(costs, weights, count, required)
    chosen = _greedy(costs, weights, min(count, len(costs)), required)
    return np.array([_cost(costs, weights, chosen[:number]) for number in range(required, len(chosen) + 1)])


def _checked(costs: np.ndarray, weights: np.ndarray, count: int, required: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32."""
    costs, weights = np.asarray(costs, np.float32), np.asarray(weights, np.float32)
    if not 0 < required <= count:
        raise ValueError(f"{required} required candidates; want at least 1 and at most the count, {count}")
    if np.isinf(costs[:required].min(axis=0)).any():
        raise ValueError("the required candidates leave a point unserved")
    return costs, weights


def _cost(costs: np.ndarray, weights: np.ndarray, chosen: np.ndarray) -> float:
    return float(weights.astype(np.float64) @ costs[chosen].min(axis=0))


def _gain(costs: np.ndarray, weights: np.ndarray, level: np.ndarray) -> np.ndarray:
    """[C]: what each candidate saves where the points cost `level` [P] now; what it earns where that is the price."""
    # einsum, not @: products so small are done before the threads of a BLAS are awake, above all on a busy machine.
    return _by_rows(lambda rows: np.einsum("rp,p->r", np.maximum(level - rows, 0), weights), costs)


def _by_rows(function: Callable[[np.ndarray], np.ndarray], costs: np.ndarray) -> np.ndarray:
    return np.concatenate([function(costs[start : start + _ROWS]) for start in range(0, len(costs), _ROWS)])


def _greedy(costs: np.ndarray, weights: np.ndarray, count: int, required: int) -> np.ndarray:
    """Adds the candidate that saves most, one by one."""
    chosen = list(range(required))
    served = costs[:required].min(axis=0)
    while len(chosen) < count:
        saved = _gain(costs, weights, served)
        saved[chosen] = -1
        chosen.append(int(saved.argmax()))
        served = np.minimum(served, costs[chosen[-1]])
    return np.array(chosen)


def _swap(costs: np.ndarray, weights: np.ndarray, chosen: np.ndarray, required: int) -> np.ndarray:
    """Makes the best swap of a chosen candidate, not a required one, for another until none lowers the cost."""
    cost = _cost(costs, weights, chosen)
    while True:
        change = _change(costs, weights, chosen)[:, required:]
        row, place = np.divmod(change.argmin(), change.shape[1])
        swapped = chosen.copy()
        swapped[required + place] = row
        if not _cost(costs, weights, swapped) < cost:
            return chosen
        chosen, cost = swapped, _cost(costs, weights, swapped)


def _change(costs: np.ndarray, weights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[C, k]: by how much the cost rises when each candidate takes the place of each chosen one, not a required one."""
    order = np.argsort(costs[chosen], axis=0, kind="stable")[:2]
    first, second = np.take_along_axis(costs[chosen], order, axis=0)
    second = np.where(np.isinf(second), first, second)  # the one that serves it is required and stays
    points = np.argsort(order[0], kind="stable")  # by the chosen candidate that serves them
    serving, starts = np.unique(order[0][points], return_index=True)

    def lost(rows: np.ndarray) -> np.ndarray:
        """[r, k]: what the points of each chosen candidate cost more without it and with each of `rows`."""
        more = (np.minimum(second, np.maximum(rows, first)) - first) * weights
        total = np.zeros((len(rows), len(chosen)), np.float32)
        total[:, serving] = np.add.reduceat(more[:, points], starts, axis=1)
        return total

    return _by_rows(lost, costs) - _gain(costs, weights, first)[:, None]


def _climb(
    costs: np.ndarray, weights: np.ndarray, chosen: np.ndarray, required: int, iterations: int, tolerance: float
) -> Medians:
    """Raises the bound by prices, and lowers the cost by swaps that start from what the prices prefer."""
    cost, more = _cost(costs, weights, chosen), len(chosen) - required
    rows, left = costs, np.arange(len(costs))  # candidates that a cheaper choice may still need
    prices = best_prices = costs[chosen].min(axis=0)
    direction = np.zeros(len(prices), np.float32)
    bound, step, stalled = -np.inf, 1.0, 0
    for iteration in range(iterations):
        earned = _gain(rows, weights, prices)
        best = required + np.argpartition(-earned[required:], more - 1)[:more]
        least_of_best = earned[best].min()
        best = np.concatenate([np.arange(required), best])
        value = float(weights.astype(np.float64) @ prices) - float(earned[best].sum(dtype=np.float64))
        stalled = 0 if value > bound else stalled + 1
        if value > bound:
            bound, best_prices = value, prices
        if stalled == _PATIENCE:
            prices, direction, step, stalled = best_prices, np.zeros_like(direction), step / 2, 0
            continue
        if iteration % _SWAP_EVERY == _SWAP_EVERY - 1:
            tried = _swap(rows, weights, best, required)
            if _cost(rows, weights, tried) < cost:
                cost, chosen = _cost(rows, weights, tried), left[tried]
        # The margin is far above the rounding of float32 sums.
        keep = value + (least_of_best - earned) <= cost * (1 + 1e-5)
        keep[best] = True
        if keep.mean() < 0.8:
            rows, left = rows[keep], left[keep]
            best = np.cumsum(keep)[best] - 1
        if cost - bound <= tolerance * bound:
            break
        # A point wants to be served once: its price rises when nobody earns from it and falls when several do.
        direction = 1 - (rows[best] < prices).sum(axis=0, dtype=np.float32) + np.float32(0.5) * direction
        length = float(weights @ (direction * direction))
        if length == 0:
            break
        prices = prices + np.float32(step * (cost - value) / length) * direction
    return Medians(chosen, cost, min(cost, _exact_bound(rows, weights, best_prices, required, more)))


def _exact_bound(rows: np.ndarray, weights: np.ndarray, prices: np.ndarray, required: int, more: int) -> float:
    """The bound of these prices in float64; candidates that no cheaper choice needs are left out of `rows`."""
    prices, weights = prices.astype(np.float64), weights.astype(np.float64)
    earned = _gain(rows, weights, prices)
    return float(weights @ prices - earned[:required].sum() - np.sort(earned[required:])[::-1][:more].sum())
