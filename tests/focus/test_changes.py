"""What changed between two grey pictures, against pictures made so that the answer is known."""

import numpy as np
import pytest

from autofocus_jax.focus.changes import changed, grey, places, without
from autofocus_jax.structures import Scale, ValidRange

SIZE = (60, 80)


def textured(seed=0):
    """A smooth picture with noise-free texture, 60..200."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = sum(np.sin(rows * a + columns * b + c) for a, b, c in random.uniform(0.05, 0.25, (6, 3)))
    return (130 + 70 * waves / np.abs(waves).max()).astype(np.float32)


def with_square(picture, value=255.0):
    other = picture.copy()
    other[20:23, 30:34] = value
    return other


SQUARE = np.zeros(SIZE, bool)
SQUARE[20:23, 30:34] = True


def test_what_appears_is_found_and_nothing_else():
    picture = textured()
    np.testing.assert_array_equal(changed(picture, with_square(picture)), SQUARE)
    np.testing.assert_array_equal(changed(with_square(picture), picture), SQUARE)


@pytest.mark.parametrize(("gain", "offset"), [(1.25, 0), (1.0, 40), (0.7, 25), (0.4, 0)])
def test_brightness_is_no_change_and_hides_none(gain, offset):
    picture = textured()
    assert not changed(picture, gain * picture + offset).any()
    np.testing.assert_array_equal(changed(picture, gain * with_square(picture, 330) + offset), SQUARE)


def test_noise_is_no_change():
    random = np.random.default_rng(1)
    before, now = (textured() + random.normal(0, 2, SIZE).astype(np.float32) for _ in range(2))
    assert not changed(before, now).any()


@pytest.mark.parametrize(("down", "right"), [(0.5, 0.0), (0.0, -0.7), (0.4, 0.4)])
def test_a_slow_camera_is_no_change(down, right):
    """The same waves a part of a grey pixel farther."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    terms = random.uniform(0.05, 0.25, (6, 3))

    def seen(y, x):
        return sum(30 * np.sin((rows + y) * a + (columns + x) * b + c) for a, b, c in terms).astype(np.float32) + 128

    assert np.abs(seen(down, right) - seen(0, 0)).max() > 8  # it would be a change otherwise
    assert not changed(seen(0, 0), seen(down, right)).any()


def test_another_picture_is_a_change_everywhere():
    assert changed(textured(0), textured(1)).all()


def test_a_flat_picture():
    flat = np.full(SIZE, 90, np.float32)
    assert not changed(flat, flat).any() and not changed(flat, flat + 60).any()
    np.testing.assert_array_equal(changed(flat, with_square(flat)), SQUARE)


def test_grey_is_the_mean_of_half_cells():
    random = np.random.default_rng(2)
    image = random.integers(0, 256, (64, 96, 3), np.uint8)
    small = grey(image, Scale(64, 96, ValidRange(0, np.inf), None))
    naive = image.reshape(8, 8, 12, 8, 3).mean(axis=(1, 3)).round().mean(axis=2)
    assert small.shape == (8, 12) and small.dtype == np.float32
    np.testing.assert_allclose(small, naive, atol=1)


def test_places_are_boxes_around_cells_that_touch_or_nearly_do():
    cells = np.zeros((10, 20), bool)
    cells[1, 2] = cells[2, 3] = True  # joined by a corner
    cells[2, 5] = True  # one cell apart: the same place
    cells[8, 15:18] = True
    found = places(cells, (100, 400))  # a cell is 10 px high and 20 wide
    np.testing.assert_array_equal(found, [[40, 10, 120, 30], [300, 80, 360, 90]])
    assert places(np.zeros((3, 3), bool), (9, 9)).shape == (0, 4)


def test_without_leaves_out_every_cell_that_a_box_touches():
    left = without(
        np.ones((10, 20), bool), np.array([[41, 12, 59, 18], [-50, -50, 5, 5], [390, 95, 900, 900]]), (100, 400)
    )
    expected = np.ones((10, 20), bool)
    expected[1, 2] = expected[0, 0] = expected[9, 19] = False
    np.testing.assert_array_equal(left, expected)
