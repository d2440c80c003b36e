"""The cost of chips against loops over buckets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.errors import PlanError
from autofocus_jax.focus.buckets import Loose, Multiple
from autofocus_jax.focus.chip_cost import PaddedCost
from autofocus_jax.structures import Bucket

BUCKETS = (Bucket(64, 64, 4), Bucket(64, 128, 1), Bucket(128, 64, 2), Bucket(96, 96, 1), Bucket(256, 192, 1))
sides = st.tuples(st.integers(1, 300), st.integers(1, 300))


@settings(max_examples=200, deadline=None)
@given(st.lists(sides, max_size=8), st.floats(0.4, 3), st.sampled_from([0, 500.0]), st.sampled_from([0, 0.1]))
def test_the_smallest_bucket_that_holds_a_chip(sizes, step, price, shrink):
    expected = []
    for size in sizes:
        height, width = (int(np.ceil(max(1, round(side * step)) * (1 - shrink))) for side in size)
        areas = [b.height * b.width for b in BUCKETS if b.height >= height and b.width >= width]
        expected.append(price + min(areas, default=(-(-height // 16) * 16) * (-(-width // 16) * 16)))
    found = PaddedCost(BUCKETS, step, price, shrink)(np.array(sizes).reshape(-1, 2))
    np.testing.assert_array_equal(found, expected)


def test_buckets_on_demand_and_none_at_all():
    sizes = np.array([[10, 33], [32, 64]])
    np.testing.assert_array_equal(PaddedCost(Multiple(48), 1.0, 7)(sizes), [48 * 48 + 7, 48 * 96 + 7])
    np.testing.assert_array_equal(PaddedCost(Loose(), 2.0, 0)(sizes), [32 * 96, 64 * 128])


@pytest.mark.parametrize("numbers", [(0, 1, 0), (np.nan, 1, 0), (1, -1, 0), (1, np.inf, 0), (1, 1, 1), (1, 1, -0.1)])
def test_numbers_out_of_range(numbers):
    with pytest.raises(PlanError, match="must be"):
        PaddedCost(Multiple(), *numbers)
