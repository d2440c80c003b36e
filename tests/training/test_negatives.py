"""Negative windows: which proposals count, on drawn cases and against plain loops."""

import dataclasses
import math

import numpy as np
import pytest

from autofocus_jax.config import TrainingConfig
from autofocus_jax.structures import ChipRule, Scale, ValidRange
from autofocus_jax.training.negatives import held, negative_windows

SCALES = (
    Scale(100, 150, ValidRange(0, 9), ChipRule(0.5, 1, 16)),
    Scale(200, 300, ValidRange(0, 9), ChipRule(0.5, 1, 16)),
    Scale(400, 600, ValidRange(0, 9), None),
)
RANGES = (ValidRange(50, math.inf), ValidRange(20, 60), ValidRange(0, 30))
TRAINING = TrainingConfig(
    steps=1, batch=1, chip=160, chip_stride=16, ranges=RANGES, negative_chips=2, negative_proposals=(3, 3, 5)
)
NOTHING = np.zeros((0, 4), np.int32)
WHOLE = np.array([[0, 0, 300, 200]], np.int32)


def windows(proposals, positive=(WHOLE, NOTHING, NOTHING), training=TRAINING, seed=0, size=(200, 300)):
    return negative_windows(proposals, positive, *size, SCALES, training, np.random.default_rng(seed))


def boxes_at(x, y, side, number):
    """`number` squares of `side` px, from (x, y) on, half a pixel apart."""
    corner = np.array([x, y], np.float32) + np.arange(number, dtype=np.float32)[:, None] / 2
    return np.concatenate([corner, corner + side], axis=1)


@pytest.mark.parametrize(("number", "at"), [(3, (0, 0)), (4, (1, 0)), (5, (1, 0)), (6, (1, 1))])
def test_more_than_the_limit_of_the_scale(number, at):
    """25 px are in the range of scales 2 and 3, whose limits are 3 and 5."""
    found = windows(boxes_at(20, 20, 25, number))
    assert [len(of_scale) for of_scale in found] == [0, *at]
    assert all(of_scale.dtype == np.int32 and of_scale.shape[1:] == (4,) for of_scale in found)


@pytest.mark.parametrize(("side", "at"), [(1.5, (0, 0)), (2, (0, 1)), (19, (0, 1)), (20, (1, 1)), (30, (1, 1)),
                                          (31, (1, 0)), (60, (1, 0)), (61, (0, 0))])  # fmt: skip
def test_only_proposals_in_range_count(side, at):
    """Both ends belong to a range, and what is thinner than 2 px is nothing. Scale 1 has no negative chips."""
    assert [len(of_scale) for of_scale in windows(boxes_at(20, 20, side, 8))] == [0, *at]


def test_what_a_positive_window_holds_whole_does_not_count():
    """Windows of scale 3 are 80 px. One of the proposals' groups is held, one is cut by the window's side."""
    inside, cut = boxes_at(10, 10, 20, 8), boxes_at(65, 10, 20, 8)
    positive = (WHOLE, NOTHING, np.array([[0, 0, 80, 80]], np.int32))
    assert [len(of_scale) for of_scale in windows(inside, positive)] == [0, 1, 0]  # scale 2 has no positive window
    (window,) = windows(np.concatenate([inside, cut]), positive)[2]
    assert held(cut, window[None]).all()


def test_proposals_are_counted_once():
    """Eight proposals that two windows share in part: the second keeps only what the first leaves, which is too few."""
    left, right = boxes_at(10, 10, 20, 8), boxes_at(120, 10, 20, 5)
    found = windows(np.concatenate([left, right]))
    assert len(found[2]) == 1 and held(left, found[2]).all()  # 5 are not more than 5
    assert len(windows(np.concatenate([left, right, right]))[2]) == 2


def test_random_proposals_against_plain_loops():
    random = np.random.default_rng(5)
    low = random.uniform(0, (290, 190), (400, 2))
    proposals = np.concatenate([low, np.minimum(low + random.uniform(1, 70, (400, 2)), (300, 200))], axis=1)
    proposals = proposals.astype(np.float32)
    positive = (WHOLE, np.array([[0, 0, 160, 160]], np.int32), np.array([[0, 0, 80, 80], [200, 100, 280, 180]]))
    found = windows(proposals, positive)
    assert len(found[0]) == 0 and len(found[1]) and len(found[2]) > 3
    for number in (1, 2):
        waiting = []
        for x1, y1, x2, y2 in proposals.tolist():
            size = math.sqrt((x2 - x1) * (y2 - y1))
            hidden = any(x1 >= a and y1 >= b and x2 <= c and y2 <= d for a, b, c, d in positive[number])
            if min(x2 - x1, y2 - y1) >= 2 and RANGES[number].low <= size <= RANGES[number].high and not hidden:
                waiting.append((x1, y1, x2, y2))
        for a, b, c, d in found[number]:
            new = [box for box in waiting if box[0] >= a and box[1] >= b and box[2] <= c and box[3] <= d]
            assert len(new) > TRAINING.negative_proposals[number]
            waiting = [box for box in waiting if box not in new]


def test_images_of_one_pixel_and_no_proposals():
    assert [len(of_scale) for of_scale in windows(np.zeros((0, 4), np.float32))] == [0, 0, 0]
    tiny = np.array([[0, 0, 1, 1]], np.float32).repeat(9, axis=0)
    assert [len(of_scale) for of_scale in windows(tiny, size=(1, 1))] == [0, 0, 0]


def test_a_proposal_longer_than_every_window():
    """Windows of an image of 30 px are 24 and 12 px, although 25 px are in range."""
    every = dataclasses.replace(TRAINING, negative_proposals=(0, 0, 0))
    assert [len(of_scale) for of_scale in windows(boxes_at(0, 0, 25, 9), training=every, size=(30, 30))] == [0, 0, 0]
    assert [len(of_scale) for of_scale in windows(boxes_at(0, 0, 20, 9), training=every, size=(30, 30))] == [0, 1, 0]


def test_held():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [0, 0, 11, 10]], np.float32)
    assert held(boxes, np.array([[0, 0, 10, 10], [4, 5, 15, 15]])).tolist() == [True, True, False]
    assert held(boxes, NOTHING).tolist() == [False] * 3 and held(boxes[:0], WHOLE).shape == (0,)
