import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse

from autofocus_jax.planning.medians import greedy_costs, k_medians


def drawn(seed, candidates, points, served=0.6):
    """Costs with gaps; candidate 0 serves every point, at the highest cost."""
    generator = np.random.default_rng(seed)
    costs = generator.integers(1, 60, (candidates, points)).astype(float)
    costs[generator.random((candidates, points)) > served] = np.inf
    costs[0] = 60
    return costs, generator.integers(1, 9, points)


def cost_of(costs, weights, chosen):
    return sum(weight * min(costs[c, p] for c in chosen) for p, weight in enumerate(weights))


def least(costs, weights, count, required):
    """Every choice there is."""
    others = itertools.combinations(range(required, len(costs)), count - required)
    return min(cost_of(costs, weights, [*range(required), *other]) for other in others)


def least_by_milp(costs, weights, count, required):
    """The textbook integer program: x[c, p] serves, y[c] is open."""
    rows, columns = np.nonzero(np.isfinite(costs))
    pairs, candidates = len(rows), len(costs)
    objective = np.concatenate([costs[rows, columns] * weights[columns], np.zeros(candidates)])
    once = sparse.coo_array((np.ones(pairs), (columns, np.arange(pairs))), (len(weights), pairs + candidates))
    pair = np.arange(pairs)
    linked = sparse.coo_array(
        (np.concatenate([np.ones(pairs), -np.ones(pairs)]), (np.tile(pair, 2), np.concatenate([pair, pairs + rows]))),
        (pairs, pairs + candidates),
    )
    opened = np.concatenate([np.zeros(pairs), np.ones(candidates)])[None]
    lower = np.concatenate([np.zeros(pairs), np.arange(candidates) < required]).astype(float)
    result = optimize.milp(
        objective,
        constraints=[(once, 1, 1), (linked, -np.inf, 0), (opened, count, count)],
        integrality=np.concatenate([np.zeros(pairs), np.ones(candidates)]),
        bounds=optimize.Bounds(lower, 1),
    )
    assert result.success
    return result.fun


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.integers(1, 5), st.data())
def test_no_swap_helps_and_the_cost_is_what_it_says(seed, candidates, points, count, data):
    costs, weights = drawn(seed, candidates, points)
    required = data.draw(st.integers(1, min(count, candidates)))
    medians = k_medians(costs, weights, count, required)
    best = least(costs, weights, min(count, candidates), required)
    assert best <= medians.cost
    for place, row in itertools.product(range(required, len(medians.chosen)), range(candidates)):
        swapped = medians.chosen.copy()
        swapped[place] = row
        assert cost_of(costs, weights, swapped) >= medians.cost
    assert medians.cost == cost_of(costs, weights, medians.chosen)
    assert len(set(medians.chosen.tolist())) == len(medians.chosen) == min(count, candidates)
    np.testing.assert_array_equal(medians.chosen[:required], np.arange(required))


@pytest.mark.parametrize("seed", range(3))
def test_close_to_the_integer_program_where_choices_are_too_many_to_try(seed):
    """Points and candidates on a plane: cost is the area of a rectangle from the origin that holds the point."""
    generator = np.random.default_rng(seed)
    points = generator.integers(1, 20, (60, 2))
    sides = np.concatenate([[[20, 20]], np.unique(points, axis=0), np.unique(points[:, ::-1], axis=0)])
    costs = np.where((points <= sides[:, None]).all(axis=2), sides.prod(axis=1)[:, None], np.inf)
    weights = generator.integers(1, 30, 60)
    medians = k_medians(costs, weights, 6, 1)
    best = least_by_milp(costs, weights, 6, 1)
    assert best - 1e-6 <= medians.cost <= 1.01 * best


def test_a_case_drawn_by_hand():
    inf = np.inf
    costs = np.array([[9, 9, 9], [1, 5, inf], [inf, 2, 3], [inf, inf, 1]])
    medians = k_medians(costs, np.array([1, 10, 1]), 2, 1)
    assert medians.chosen.tolist() == [0, 2] and medians.cost == 9 + 20 + 3
    medians = k_medians(costs, np.array([100, 10, 1]), 2, 1)
    assert medians.chosen.tolist() == [0, 1] and medians.cost == 100 + 50 + 9
    np.testing.assert_array_equal(greedy_costs(costs, np.array([1, 10, 1]), 9, 1), [108, 32, 24, 22])


def test_as_many_as_there_are_and_only_the_required_are_exact():
    costs, weights = drawn(1, 5, 8)
    everything = k_medians(costs, weights, 7, 2)
    assert sorted(everything.chosen.tolist()) == list(range(5))
    assert everything.cost == cost_of(costs, weights, range(5))
    only = k_medians(costs, weights, 2, 2)
    assert only.chosen.tolist() == [0, 1] and only.cost == cost_of(costs, weights, [0, 1])


def test_the_same_twice():
    costs, weights = drawn(5, 200, 90)
    one, other = (k_medians(costs, weights, 9, 1) for _ in range(2))
    assert one.chosen.tolist() == other.chosen.tolist() and one[1:] == other[1:]


def test_what_cannot_be_is_an_error():
    costs, weights = drawn(2, 6, 4)
    with pytest.raises(ValueError, match="3 required candidates"):
        k_medians(costs, weights, 2, 3)
    with pytest.raises(ValueError, match="0 required"):
        k_medians(costs, weights, 2, 0)
    costs[0, 1] = np.inf
    with pytest.raises(ValueError, match="unserved"):
        k_medians(costs, weights, 3, 1)
