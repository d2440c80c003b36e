"""Box arithmetic: NumPy and jax.numpy agree with each other and with pixel counting and plain Python."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax import boxes

SIDE = 12


@st.composite
def box_arrays(draw, count=4):
    """[count, 4] float32 boxes of whole pixels inside a SIDE x SIDE grid, empty ones included.

    Always the same count, as JAX compiles its operations for each shape.
    """
    rows = draw(st.lists(st.tuples(*[st.integers(0, SIDE)] * 4), min_size=count, max_size=count))
    return np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows], np.float32)


def mask(box):
    """The pixels of a whole-pixel box, drawn."""
    grid = np.zeros((SIDE, SIDE), bool)
    x1, y1, x2, y2 = box.astype(int)
    grid[y1:y2, x1:x2] = True
    return grid


def both(function, *arrays):
    """The result with NumPy, after checking that jax.numpy gives the same and that neither changes the kind."""
    on_host = function(*arrays)
    on_device = function(*(jnp.asarray(array) for array in arrays))
    assert isinstance(on_host, np.ndarray) and isinstance(on_device, jnp.ndarray)
    np.testing.assert_allclose(on_device, on_host, rtol=1e-6, atol=1e-6)
    return on_host


@given(box_arrays())
def test_area_counts_pixels(array):
    np.testing.assert_array_equal(both(boxes.area, array), [mask(box).sum() for box in array])


def test_area_of_an_inverted_box_is_zero():
    np.testing.assert_array_equal(both(boxes.area, np.array([[5, 5, 2, 9], [5, 5, 2, 1]], np.float32)), [0, 0])


@given(box_arrays(3), box_arrays(4))
def test_overlaps_count_pixels(first, second):
    overlap = np.zeros((len(first), len(second)))
    union = np.zeros_like(overlap)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            overlap[i, j] = (mask(one) & mask(other)).sum()
            union[i, j] = (mask(one) | mask(other)).sum()
    np.testing.assert_array_equal(both(boxes.intersection, first, second), overlap)
    np.testing.assert_allclose(both(boxes.iou, first, second), overlap / np.maximum(union, 1e-9), rtol=1e-6)
    areas = np.array([mask(box).sum() for box in first]).reshape(-1, 1)
    np.testing.assert_allclose(both(boxes.coverage, first, second), overlap / np.maximum(areas, 1e-9), rtol=1e-6)


@given(box_arrays(), st.integers(0, SIDE), st.integers(0, SIDE))
def test_clip_keeps_the_pixels_inside(array, height, width):
    clipped = both(lambda a: boxes.clip(a, height, width), array)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[:height, :width] = True
    for before, after in zip(array, clipped, strict=True):
        np.testing.assert_array_equal(mask(after), mask(before) & inside)


@given(box_arrays(), st.floats(-9, 9, width=32), st.floats(-9, 9, width=32))
def test_shift_moves_every_corner(array, x, y):
    moved = both(lambda a: boxes.shift(a, x, y), array)
    assert moved.dtype == np.float32
    expected = [[x1 + x, y1 + y, x2 + x, y2 + y] for x1, y1, x2, y2 in array.tolist()]
    np.testing.assert_allclose(moved, np.reshape(expected, (-1, 4)), rtol=1e-6, atol=1e-6)


@given(box_arrays(), st.floats(0.125, 8, width=32), st.floats(0.125, 8, width=32))
def test_scale_multiplies_every_corner_and_back(array, x, y):
    scaled = both(lambda a: boxes.scale(a, x, y), array)
    assert scaled.dtype == np.float32
    expected = [[x1 * x, y1 * y, x2 * x, y2 * y] for x1, y1, x2, y2 in array.tolist()]
    np.testing.assert_allclose(scaled, np.reshape(expected, (-1, 4)), rtol=1e-6)
    np.testing.assert_allclose(boxes.scale(scaled, 1 / x, 1 / y), array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [boxes.clip, boxes.shift, boxes.scale])
def test_one_setting_for_each_row(function):
    array = np.array([[0, 0, 4, 4], [2, 2, 9, 9]], np.float32)
    x, y = np.array([3, 5], np.float32), np.array([2, 7], np.float32)
    rows = [function(row, a, b) for row, a, b in zip(array, x, y, strict=True)]
    np.testing.assert_array_equal(both(function, array, x, y), np.stack(rows))


def test_no_boxes():
    none, some = np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32)
    assert both(boxes.area, none).shape == (0,)
    for function in (boxes.intersection, boxes.iou, boxes.coverage):
        assert both(function, none, some).shape == (0, 3) and both(function, some, none).shape == (3, 0)
    for function in (boxes.clip, boxes.shift, boxes.scale):
        assert both(lambda array, function=function: function(array, 2, 3), none).shape == (0, 4)
