"""Recall of FocusPixels and chips against area, on drawn cases and against a naive count."""

import math

import numpy as np
import pytest

from autofocus_jax.metrics.focus import chip_recall, pixel_curve
from autofocus_jax.structures import BACKGROUND, FOCUS, IGNORE


def test_pixel_curve_counts_cells():
    random = np.random.default_rng(0)
    maps = [random.random((3, 5)), random.random((4, 2))]
    labels = [random.choice([FOCUS, BACKGROUND, IGNORE], focus.shape) for focus in maps]
    thresholds = np.array([0, 0.3, float(maps[0][1, 1]), 0.9, 2])
    curve = pixel_curve(maps, labels, thresholds)
    for threshold, recall, area in zip(*curve, strict=True):
        chosen = sum(int((focus >= threshold).sum()) for focus in maps)
        pairs = zip(maps, labels, strict=True)
        hit = sum(int(((focus >= threshold) & (label == FOCUS)).sum()) for focus, label in pairs)
        assert area == pytest.approx(chosen / 23)
        assert recall == pytest.approx(hit / sum(int((label == FOCUS).sum()) for label in labels))
    assert curve.recall[0] == curve.area[0] == 1 and curve.recall[-1] == curve.area[-1] == 0


def test_pixel_curve_without_focus_pixels_or_images():
    curve = pixel_curve([np.full((2, 2), 0.5)], [np.zeros((2, 2), np.int8)], np.array([0.5]))
    assert math.isnan(curve.recall[0]) and curve.area[0] == 1
    assert np.isnan(pixel_curve([], [], np.array([0.5])).area).all()
    with pytest.raises(ValueError, match="focus map 0"):
        pixel_curve([np.zeros((2, 2))], [np.zeros((2, 3))], np.array([0.5]))


def test_chip_recall():
    chips = [np.array([[0, 0, 50, 50], [60, 0, 100, 50]]), np.zeros((0, 4))]
    boxes = [np.array([[0, 0, 50, 50], [40, 10, 70, 20], [61, 1, 62, 2]]), np.array([[5, 5, 9, 9]])]
    recall, area = chip_recall(chips, boxes, [(100, 100), (100, 100)])
    assert recall == 0.5  # the first and the third; the second straddles two chips
    assert area == pytest.approx((2500 + 2000) / 20000)
    assert math.isnan(chip_recall(chips[:1], [np.zeros((0, 4))], [(100, 100)])[0])
    assert all(math.isnan(value) for value in chip_recall([], [], []))
