"""Perfect focus, against the oracle's, and how two maps make one."""

import numpy as np
import pytest

from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.structures import AutoFocusError, ChipBatch, FocusRange, GroundTruth, Placement
from autofocus_jax.where.combine import both, either
from autofocus_jax.where.truth import truth

TRUTH = GroundTruth(
    np.array([[10, 10, 30, 26], [100, 40, 180, 120], [50, 50, 58, 60]], np.float32),
    np.array([0, 0, 0], np.int32), np.array([False, False, True]),
)  # fmt: skip
PLACE = Placement(1, 1, np.array([5, 5, 101, 69], np.float32), np.array([1, 1], np.float32))
CROPS = [np.zeros((64, 96, 3), np.uint8)]


def test_the_same_map_as_the_oracle_s():
    focus_range = FocusRange(0, 64, 90)
    chips = ChipBatch(CROPS[0][None], np.array([[64, 96]], np.int32), np.array([True]))
    expected = oracle_detect([TRUTH, TRUTH], focus_range, 1)(chips, [PLACE]).focus
    assert expected.any()
    np.testing.assert_array_equal(truth({1: TRUTH}, focus_range)(CROPS, [PLACE], None), expected)


def test_an_image_without_ground_truth():
    with pytest.raises(AutoFocusError, match="no ground truth of image 1; give that of all"):
        truth([TRUTH])(CROPS, [PLACE], None)


def test_either_and_both():
    a, b = np.array([[0.2, 0.9]]), np.array([[0.5, 0.1]])
    first, second = (lambda *_, answer=answer: [answer] for answer in (a, b))
    assert either(first, second)(CROPS, [PLACE], None)[0].tolist() == [[0.5, 0.9]]
    assert both(first, second)(CROPS, [PLACE], None)[0].tolist() == [[0.2, 0.1]]
