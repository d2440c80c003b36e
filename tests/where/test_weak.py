"""Weak focus: the detector's own small detections as a focus map."""

import numpy as np
import pytest

from autofocus_jax.structures import AutoFocusError, ChipBatch, DetectorOutput, Placement
from autofocus_jax.where.weak import weak

PLACE = Placement(0, 1, np.array([0, 0, 96, 64], np.float32), np.ones(2, np.float32))


def chips(*sizes):
    size = np.array([*sizes, (0, 0)], np.int32)
    return ChipBatch(np.zeros((len(size), 64, 96, 3), np.uint8), size, np.arange(len(size)) < len(sizes))


def output(boxes, scores, batch=2):
    """DetectorOutput with these rows in the first chip; scores [n, K]."""
    scores = np.asarray(scores, np.float32)
    full = np.zeros((batch, len(boxes) + 1, 4), np.float32), np.ones((batch, len(boxes) + 1, scores.shape[1]))
    full[0][0, :-1], full[1][0, :-1] = boxes, scores
    valid = np.zeros(full[1].shape[:2], bool)
    valid[0, :-1] = True  # the last row, of score 1, holds nothing
    return DetectorOutput(full[0], full[1].astype(np.float32), valid, None)


def test_the_best_small_detection_of_each_cell():
    boxes = [[17, 1, 31, 15], [20, 5, 40, 20], [0, 0, 90, 64], [94, 40, 120, 60]]
    scores = [[0.1, 0.3], [0.02, 0.01], [0.9, 0.9], [0.5, 0.0]]  # the third one is large
    focus = weak(64)(chips((64, 96)), [PLACE], output(boxes, scores))
    expected = np.zeros((2, 4, 6), np.float32)
    expected[0, 0, 1], expected[0, :2, 2], expected[0, 1, 1] = 0.3, 0.02, 0.02
    expected[0, 2:4, 5] = 0.5
    np.testing.assert_allclose(focus, expected)


def test_the_largest_side_is_not_small():
    for side, small in ((63.9, True), (64, False)):
        focus = weak(64)(chips((64, 96)), [PLACE], output([[0, 0, side, side]], [[0.5]]))
        assert focus.any() == small


def test_only_some_classes():
    focus = weak(64, labels=[1])(chips((64, 96)), [PLACE], output([[0, 0, 8, 8]], [[0.9, 0.25]]))
    assert focus[0, 0, 0] == 0.25 and focus.sum() == 0.25


def test_nothing_outside_the_true_size():
    focus = weak(64)(chips((20, 40)), [PLACE], output([[30, 10, 70, 50]], [[0.5]]))
    assert np.argwhere(focus[0]).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_without_an_answer_or_with_a_size_of_nothing():
    with pytest.raises(AutoFocusError, match="weak focus reads what the detector found"):
        weak()(chips((64, 96)), [PLACE], None)
    with pytest.raises(AutoFocusError, match="max_side_px must be above 0, got 0"):
        weak(0)
