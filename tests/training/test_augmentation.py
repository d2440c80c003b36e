"""Random changes of training chips: boxes stay on their pixels, whatever is done to both."""

import itertools

import numpy as np
import pytest

from autofocus_jax.config import AugmentationConfig
from autofocus_jax.training import augmentation
from autofocus_jax.training.augmentation import Change

PLAIN = np.ones(3)


@pytest.mark.parametrize("mirror, flip, turn", [*itertools.product([False, True], repeat=3)])
def test_boxes_go_where_their_pixels_go(mirror, flip, turn):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[3:8, 11:25] = 200
    change = Change(mirror, flip, turn, PLAIN)
    changed = augmentation.change_pixels(pixels, change)
    ((x1, y1, x2, y2),) = augmentation.change_boxes(np.array([[11, 3, 25, 8]]), 20, 30, change)
    inside = np.zeros(changed.shape[:2], bool)
    inside[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(changed[..., 0] == 200, inside)


def test_all_eight_positions_are_drawn_and_colour_stays_near():
    settings = AugmentationConfig(mirror=True, flip=True, turn=True, colour=0.3)
    changes = [augmentation.draw(settings, np.random.default_rng(seed)) for seed in range(200)]
    assert len({change[:3] for change in changes}) == 8
    colours = np.array([change.colour for change in changes])
    assert (abs(colours - 1) <= 0.3).all() and colours.min() < 0.75 and colours.max() > 1.25


def test_colour_does_what_its_names_say():
    pixels = np.random.default_rng(0).integers(60, 120, (16, 16, 3), np.uint8)
    bright, flat, grey = (
        augmentation.change_pixels(pixels, Change(False, False, False, np.array(colour))).astype(float)
        for colour in ([1.5, 1, 1], [1, 0.5, 1], [1, 1, 0])
    )
    assert bright.mean() == pytest.approx(1.5 * pixels.mean(), rel=0.02)
    assert flat.mean() == pytest.approx(pixels.mean(), rel=0.02)
    assert flat.std() == pytest.approx(pixels.std() / 2, rel=0.1)
    assert np.ptp(grey, axis=2).max() <= 1


def test_a_zoomed_window_fits_its_chip_and_lies_in_the_given_one():
    window, settings = np.array([100, 40, 228, 168], np.int32), AugmentationConfig(scale=2.0)
    zooms = []
    for seed in range(60):
        shown, zoom = augmentation.zoomed(window, 2.0, 256, settings, np.random.default_rng(seed))
        zooms.append(zoom)
        assert (shown[:2] >= window[:2]).all() and (shown[2:] <= window[2:]).all()
        assert ((shown[2:] - shown[:2]) * 2.0 * zoom <= 256 + 1e-6).all()
        assert zoom > 1 or (shown == window).all()
    assert 0.5 <= min(zooms) < 0.6 and 1.7 < max(zooms) <= 2.0


def test_what_is_off_draws_nothing():
    generator, other = np.random.default_rng(3), np.random.default_rng(3)
    off = AugmentationConfig(mirror=False)
    window = np.array([0, 0, 9, 9], np.int32)
    assert augmentation.zoomed(window, 1.0, 256, off, generator) == (window, 1.0)
    assert augmentation.draw(off, generator)[:3] == (False, False, False)
    assert generator.random() == other.random()
