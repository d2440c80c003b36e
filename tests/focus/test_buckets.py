import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus.buckets import BucketError, Multiple, choose_all, fit, shapes
from autofocus_jax.structures import Bucket

BUCKETS = (Bucket(1408, 2016, 1), Bucket(256, 256, 4), Bucket(512, 256, 2), Bucket(256, 512, 3))


@pytest.mark.parametrize(
    "size, index",
    [((1, 1), 1), ((256, 256), 1), ((257, 256), 2), ((256, 257), 3), ((257, 257), 0), ((1408, 2016), 0)],
)
def test_smallest_bucket_that_holds_the_chip(size, index):
    assert bucket_ops.choose(*size, BUCKETS) == index


def test_error_names_the_chip_and_the_largest_bucket():
    message = r"^chip 1900x1500 px fits no bucket; the largest is 1408x2016; add one to Config.buckets$"
    with pytest.raises(BucketError, match=message):
        bucket_ops.choose(1900, 1500, BUCKETS)
    with pytest.raises(BucketError, match=message):
        bucket_ops.group(np.array([[5, 5], [1900, 1500]]), BUCKETS)
    with pytest.raises(BucketError, match="there are none"):
        bucket_ops.choose(1, 1, ())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), max_size=30))
def test_groups_hold_every_chip_once_in_its_own_bucket(sizes):
    batches = bucket_ops.group(np.array(sizes, np.int64), BUCKETS)
    assert sorted(row for _, rows in batches for row in rows) == list(range(len(sizes)))
    for index, rows in batches:
        assert 0 < len(rows) <= BUCKETS[index].batch
        assert all(bucket_ops.choose(*sizes[row], BUCKETS) == index for row in rows)
    for index, bucket in enumerate(BUCKETS):
        lengths = [len(rows) for chosen, rows in batches if chosen == index]
        assert all(length == bucket.batch for length in lengths[:-1])


def test_no_chips_no_batches():
    assert bucket_ops.group(np.zeros((0, 2)), BUCKETS) == []


def test_padding_is_zeros_and_never_a_chip_again():
    chips = [np.full((20, 30, 3), 9, np.uint8), np.full((256, 256, 3), 5, np.uint8)]
    batch = bucket_ops.pad(chips, BUCKETS[1])
    assert batch.pixels.shape == (4, 256, 256, 3) and batch.pixels.dtype == np.uint8
    np.testing.assert_array_equal(batch.size, [[20, 30], [256, 256], [0, 0], [0, 0]])
    np.testing.assert_array_equal(batch.valid, [True, True, False, False])
    np.testing.assert_array_equal(batch.pixels[0, :20, :30], chips[0])
    np.testing.assert_array_equal(batch.pixels[1], chips[1])
    assert batch.pixels[0].sum() == chips[0].sum() and not batch.pixels[2:].any()


def test_what_does_not_fit_a_batch_is_an_error():
    with pytest.raises(BucketError, match="300x20"):
        bucket_ops.pad([np.zeros((300, 20, 3), np.uint8)], BUCKETS[1])
    with pytest.raises(BucketError, match="2 chips for a batch of 1"):
        bucket_ops.pad([np.zeros((3, 2, 3), np.uint8)] * 2, BUCKETS[0])


def test_fit_without_shrinking_is_choose_all():
    random = np.random.default_rng(0)
    sizes = random.integers(1, 97, (200, 2))
    chosen, fitted = fit(sizes, shapes(BUCKETS), 0.0)
    np.testing.assert_array_equal(chosen, choose_all(sizes, shapes(BUCKETS)))
    np.testing.assert_array_equal(fitted, sizes)


@pytest.mark.parametrize(
    ("size", "shrink", "shape", "fitted"),
    [
        ((64, 64), 0.05, (64, 64), (64, 64)),
        ((67, 60), 0.05, (64, 64), (64, 60)),  # 67 * 0.95 = 63.65
        ((68, 60), 0.05, (96, 64), (68, 60)),  # 68 * 0.95 = 64.6
        ((66, 67), 0.05, (64, 64), (64, 64)),
        ((97, 100), 0.05, (96, 96), (96, 96)),
    ],
)
def test_chips_lose_a_little_to_fit(size, shrink, shape, fitted):
    sides = np.array([(64, 64), (96, 64), (64, 96), (96, 96)])
    (chosen,), sizes = fit(np.array([size]), sides, shrink)
    assert tuple(sides[chosen]) == shape
    np.testing.assert_array_equal(sizes, [fitted])


def test_fit_of_nothing_and_of_too_much():
    chosen, sizes = fit(np.zeros((0, 2), np.int64), shapes(BUCKETS), 0.05)
    assert chosen.shape == (0,) and sizes.shape == (0, 2)
    with pytest.raises(BucketError, match="fits no bucket"):
        fit(np.array([[5000, 10]]), shapes(BUCKETS), 0.05)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=9), st.integers(1, 5), st.floats(0, 0.3))
def test_multiples_are_buckets_of_every_multiple(sizes, cells, shrink):
    """As a plan with a bucket for each pair of multiples would choose."""
    side = 16 * cells
    multiples = range(side, 500 + 2 * side, side)
    every = [Bucket(height, width, 3) for height in multiples for width in multiples]
    sizes = np.array(sizes, np.int64).reshape(-1, 2)
    buckets, fitted = Multiple(side, 3).fit(sizes, shrink)
    chosen, expected = fit(sizes, shapes(every), shrink)
    assert buckets == [every[position] for position in chosen]
    np.testing.assert_array_equal(fitted, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"side": 0}, "side must be"), ({"side": 24}, "multiple of 16 px, got 24"), ({"batch": 0}, "at least 1, got 0")],
)
def test_what_are_no_multiples(options, message):
    with pytest.raises(BucketError, match=message):
        Multiple(**options)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=12),
    st.integers(1, 14),
)
def test_fewer_buckets_hold_what_all_of_them_hold(sizes, count):
    every = tuple(Bucket(16 * height, 16 * width, batch) for height, width, batch in sizes)
    some = bucket_ops.fewer(every, count)
    held = lambda one, other: one.height <= other.height and one.width <= other.width  # noqa: E731
    assert all(any(held(one, other) for other in some) for one in every)
    assert [bucket for bucket in every if bucket in some] == [bucket for bucket in every if bucket in set(some)]
    least = {(b.height, b.width) for b in every if not any(held(b, o) and not held(o, b) for o in every)}
    assert len(some) == max(len(least), min(count, len(every)))
    assert bucket_ops.fewer(every, len(every)) == every


def test_the_bucket_that_saves_most_padding_comes_first():
    every = (Bucket(16, 16, 1), Bucket(48, 48, 1), Bucket(64, 64, 1))
    assert bucket_ops.fewer(every, 1) == (every[2],)
    assert bucket_ops.fewer(every, 2) == (every[0], every[2])


def test_a_long_run_earns_all_buckets_and_a_short_one_few():
    every = tuple(Bucket(16 * side, 16 * side, 1) for side in range(1, 81))
    numbers = [len(bucket_ops.for_images(every, images)) for images in (1, 200, 1152, 10**6)]
    assert numbers == [8, 20, 80, 80]
    assert bucket_ops.for_images(bucket_ops.Multiple(32), 1) == bucket_ops.Multiple(32)
