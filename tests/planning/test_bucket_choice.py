import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.focus.buckets import BucketError
from autofocus_jax.focus.pyramid import level_size
from autofocus_jax.planning import bucket_choice
from autofocus_jax.planning.bucket_choice import (
    choose_shapes,
    count_sizes,
    largest_levels,
    padding,
    padding_by_count,
    with_batches,
)
from autofocus_jax.structures import Bucket, Scale, ValidRange


def scale(least, most):
    return Scale(least, most, ValidRange(0, math.inf), None)


SCALES = (scale(40, 60), scale(100, 150))  # levels fit 112x160 and 160x112
LEVELS = [[112, 160], [160, 112]]


def naive_padding(sizes, counts, shapes):
    own = sum(count * height * width for (height, width), count in zip(sizes, counts))
    padded = sum(
        count * min(rows * columns for rows, columns in shapes if height <= rows and width <= columns)
        for (height, width), count in zip(sizes, counts)
    )
    return padded / own - 1


def drawn(seed, number=25):
    """Sizes of chips inside levels of 100x150 or 150x100 px, and how often each occurs."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, [101, 151], (number, 2))
    turned = generator.random(number) < 0.4
    sizes[turned] = sizes[turned, ::-1]
    return count_sizes(sizes, generator.integers(1, 50, number))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 12))
def test_choice_holds_everything_and_is_what_it_says(seed, number, count):
    chips = drawn(seed, number)
    choice = choose_shapes(chips, SCALES, count)
    shapes = choice.shapes.tolist()
    assert len(shapes) <= count and all(level in shapes for level in LEVELS)
    assert (choice.shapes % 16 == 0).all() and (np.diff(choice.shapes.prod(axis=1)) >= 0).all()
    expected = naive_padding(chips.sizes.tolist(), chips.counts.tolist(), shapes)
    assert choice.padding == pytest.approx(expected) == pytest.approx(padding(chips, choice.shapes))
    assert choice.step == 16


@pytest.mark.parametrize("seed", range(6))
def test_no_choice_of_any_multiples_of_16_is_better(seed):
    """All rectangles of the grid, not only those that the chips touch."""
    chips = drawn(seed, 12)
    grid = [[16 * row, 16 * column] for row, column in itertools.product(range(1, 11), repeat=2)]
    best = min(
        naive_padding(chips.sizes.tolist(), chips.counts.tolist(), [*LEVELS, *others])
        for others in itertools.combinations(grid, 2)
    )
    choice = choose_shapes(chips, SCALES, 4)
    assert best - 1e-9 <= choice.padding <= best + 0.005


def test_with_enough_buckets_only_the_rounding_to_16_is_left():
    chips = count_sizes(np.array([[16, 32], [17, 30], [100, 150], [16, 32]]))
    choice = choose_shapes(chips, SCALES, 9)
    assert choice.shapes.tolist() == [[16, 32], [32, 32], *LEVELS]
    assert choice.padding == pytest.approx((2 * 16 * 32 + 32 * 32 + 112 * 160) / (2 * 512 + 510 + 15000) - 1)


def test_by_number_of_buckets_more_never_cost_more():
    chips = drawn(3, 60)
    curve = padding_by_count(chips, SCALES, 12)
    assert list(curve) == list(range(2, 13)) and all(a >= b for a, b in itertools.pairwise(curve.values()))
    for count in (2, 7, 12):
        assert choose_shapes(chips, SCALES, count).padding <= curve[count] + 1e-12
    assert curve[2] == pytest.approx(naive_padding(chips.sizes.tolist(), chips.counts.tolist(), LEVELS))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=3),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
def test_largest_levels_hold_every_level(sides, height, width):
    scales = [scale(least, least + more) for least, more in sides]
    shapes = largest_levels(scales)
    for one in scales:
        assert (np.array(level_size(height, width, one)) <= shapes).all(axis=1).any()
    inside = (shapes[:, None] <= shapes).all(axis=2)
    np.testing.assert_array_equal(inside, np.eye(len(shapes), dtype=bool))  # none is needless


def test_largest_levels_of_the_paper():
    scales = (scale(480, 512), scale(800, 1280), scale(1400, 2000))
    assert largest_levels(scales).tolist() == [[1408, 2000], [2000, 1408]]
    assert largest_levels((scale(480, 640), scale(500, 500))).tolist() == [[480, 640], [512, 512], [640, 480]]
    assert largest_levels((scale(64, 64),)).tolist() == [[64, 64]]


def test_equal_sizes_are_merged():
    chips = count_sizes(np.array([[3, 4], [1, 9], [3, 4]]), np.array([2, 5, 7]))
    assert chips.sizes.tolist() == [[1, 9], [3, 4]] and chips.counts.tolist() == [5, 9]
    assert count_sizes(np.zeros((0, 2))).sizes.shape == (0, 2)


def test_very_many_sizes_are_taken_in_larger_steps(monkeypatch):
    chips = drawn(8, 60)
    monkeypatch.setattr(bucket_choice, "_MOST_COSTS", 100)
    choice = choose_shapes(chips, SCALES, 4)
    assert choice.step == 64 and (choice.shapes % 64 == 0).all()
    assert choice.padding == pytest.approx(padding(chips, choice.shapes))


def test_batches_have_about_equal_pixels():
    shapes = np.array([[16, 32], [48, 48], [112, 160], [160, 112]])
    buckets = with_batches(shapes, 40_000)
    assert buckets == (Bucket(16, 32, 78), Bucket(48, 48, 17), Bucket(112, 160, 2), Bucket(160, 112, 2))
    assert with_batches(shapes, 112 * 160)[-1].batch == 1
    assert [bucket.batch for bucket in with_batches(shapes, 1024)] == [2, 1, 1, 1]  # and one where none fits


def test_what_cannot_be_is_an_error():
    chips = count_sizes(np.array([[20, 20], [150, 101]]))
    with pytest.raises(BucketError, match="1 buckets cannot hold the largest levels 112x160 and 160x112"):
        choose_shapes(chips, SCALES, 1)
    with pytest.raises(BucketError, match="176x112 px is larger than every level"):
        choose_shapes(count_sizes(np.array([[20, 20], [161, 101]])), SCALES, 4)
    with pytest.raises(BucketError, match="no chip"):
        choose_shapes(count_sizes(np.zeros((0, 2))), SCALES, 4)
    with pytest.raises(BucketError, match="150x101 px fits no bucket"):
        padding(chips, np.array([[112, 160]]))
