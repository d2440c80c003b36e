"""Weak focus: the detector's own small detections as a focus map."""

import numpy as np
import pytest

from autofocus_jax.structures import AutoFocusError, Detections, Placement
from autofocus_jax.where.weak import weak

PLACE = Placement(0, 1, np.array([0, 0, 96, 64], np.float32), np.ones(2, np.float32))


def crops(*sizes):
    return [np.zeros((*size, 3), np.uint8) for size in sizes]


def found(boxes, scores, labels=None):
    labels = np.zeros(len(scores)) if labels is None else labels
    return Detections(np.asarray(boxes, np.float32).reshape(-1, 4), np.float32(scores), np.int32(labels))


def test_the_best_small_detection_of_each_cell():
    boxes = [[17, 1, 31, 15], [17, 1, 31, 15], [20, 5, 40, 20], [0, 0, 90, 64], [94, 40, 120, 60]]
    answer = found(boxes, [0.1, 0.3, 0.02, 0.9, 0.5], [0, 1, 0, 0, 0])  # the one of 0.9 is large
    (focus,) = weak(64)(crops((64, 96)), [PLACE], [answer])
    expected = np.zeros((4, 6), np.float32)
    expected[0, 1], expected[:2, 2], expected[1, 1] = 0.3, 0.02, 0.02
    expected[2:4, 5] = 0.5
    np.testing.assert_allclose(focus, expected)


def test_each_chip_has_its_own_map():
    maps = weak()(crops((64, 96), (20, 40)), [PLACE, PLACE], [found([], []), found([[0, 0, 8, 8]], [0.5])])
    assert [focus.shape for focus in maps] == [(4, 6), (2, 3)]
    assert [focus.sum() for focus in maps] == [0, 0.5]


def test_the_largest_side_is_not_small():
    for side, small in ((63.9, True), (64, False)):
        (focus,) = weak(64)(crops((64, 96)), [PLACE], [found([[0, 0, side, side]], [0.5])])
        assert focus.any() == small


def test_only_some_classes():
    answer = found([[0, 0, 8, 8]] * 2, [0.9, 0.25], [0, 1])
    (focus,) = weak(64, labels=[1])(crops((64, 96)), [PLACE], [answer])
    assert focus[0, 0] == 0.25 and focus.sum() == 0.25


def test_nothing_outside_the_true_size():
    (focus,) = weak(64)(crops((20, 40)), [PLACE], [found([[30, 10, 70, 50]], [0.5])])
    assert np.argwhere(focus).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_without_an_answer_or_with_a_size_of_nothing():
    with pytest.raises(AutoFocusError, match="weak focus needs the detector's detections"):
        weak()(crops((64, 96)), [PLACE], None)
    with pytest.raises(AutoFocusError, match="max_side_px must be above 0, got 0"):
        weak(0)
