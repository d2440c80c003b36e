"""Matching and sampling on cases drawn by hand; one row a candidate."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.detector.matching import NOTHING, OBJECT, UNUSED, hardest, match, sample

RPN = {"positive_iou": 0.5, "negative_iou": 0.4, "ignore_iou": 0.3, "best_is_positive": True}
ROI = {"positive_iou": 0.5, "negative_iou": 0.5, "ignore_iou": 0.5, "best_is_positive": False}


def labels(candidates, boxes, classes, trainable, present=None, **rule):
    boxes, candidates = (np.array(b, np.float32).reshape(-1, 4) for b in (boxes, candidates))
    present = np.ones(len(boxes), bool) if present is None else np.array(present, bool)
    found = match(candidates, boxes, np.array(classes, np.int32), present, np.array(trainable, bool), **rule)
    return np.asarray(found.label).tolist(), np.asarray(found.index).tolist()


def test_in_range_box():
    box = [0, 0, 10, 10]
    candidates = [
        [0, 0, 10, 10],
        [0, 0, 10, 20],  # IoU 0.5
        [0, 0, 10, 22],  # 0.4545: between the thresholds
        [0, 0, 10, 26],  # 0.385
        [50, 50, 60, 60],
    ]
    assert labels(candidates, [box], [2], [1], **RPN)[0] == [OBJECT, OBJECT, UNUSED, NOTHING, NOTHING]
    assert labels(candidates, [box], [2], [1], **ROI)[0] == [OBJECT, OBJECT, NOTHING, NOTHING, NOTHING]


def test_out_of_range_box_trains_nothing():
    box = [0, 0, 10, 10]
    candidates = [
        [0, 0, 10, 10],
        [0, 0, 10, 30],  # IoU 1/3 > 0.3
        [0, 0, 10, 40],  # 0.25
        [50, 50, 60, 60],
    ]
    assert labels(candidates, [box], [2], [0], **RPN)[0] == [UNUSED, UNUSED, NOTHING, NOTHING]
    assert labels(candidates, [box], [2], [0], **ROI)[0] == [UNUSED, NOTHING, NOTHING, NOTHING]


def test_object_wins_over_an_out_of_range_box_and_a_region():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 100, 100]]
    assert labels([[0, 0, 10, 10]], boxes, [0, 0, -1], [1, 0, 0], **RPN) == ([OBJECT], [0])


def test_ignore_region_goes_by_coverage():
    """Small candidates in a large region have a small IoU with it, and still are no background."""
    region = [0, 0, 100, 100]
    candidates = [[10, 10, 20, 20], [96, 0, 105, 10], [94, 0, 106, 10], [0, 0, 300, 300], [200, 200, 210, 210]]
    # Covered: all, 4/9, exactly half, a ninth, nothing.
    assert labels(candidates, [region], [-1], [0], **RPN)[0] == [UNUSED, NOTHING, NOTHING, NOTHING, NOTHING]
    assert labels([[93, 0, 106, 10]], [region], [-1], [0], **RPN)[0] == [UNUSED]


def test_padding_is_nothing():
    """Rows that are not present do not count, whatever they hold."""
    candidates = [[0, 0, 10, 10], [0, 0, 0, 0]]
    for box in ([0, 0, 0, 0], [0, 0, 10, 10]):
        for classes in (0, -1):
            assert labels(candidates, [box], [classes], [0], [0], **RPN)[0] == [NOTHING, NOTHING]


def test_best_anchor():
    candidates = [[0, 0, 10, 10], [0, 0, 8, 10], [0, 0, 10, 8], [40, 40, 50, 50]]
    box = [0, 0, 4, 8]  # IoU 0.32, 0.4, 0.4: two candidates tie for the best
    assert labels(candidates, [box], [0], [1], **RPN)[0] == [NOTHING, OBJECT, OBJECT, NOTHING]
    assert labels(candidates, [box], [0], [1], **{**RPN, "best_is_positive": False})[0][1] == UNUSED
    # A box that no candidate touches has no best one; one that is out of range does not want one.
    assert labels(candidates, [[90, 90, 99, 99]], [0], [1], **RPN)[0] == [NOTHING] * 4
    assert labels(candidates, [box], [0], [0], **RPN)[0] == [UNUSED, UNUSED, UNUSED, NOTHING]


def test_index_is_the_trainable_box_that_overlaps_most():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 10, 14]]
    assert labels([[0, 0, 10, 13]], boxes, [0, 1, 2], [1, 1, 0], **RPN) == ([OBJECT], [1])


def test_two_boxes_far_apart():
    boxes = [[0, 0, 10, 10], [100, 100, 120, 120]]
    assert labels([[100, 100, 120, 120], [0, 0, 9, 10]], boxes, [0, 1], [1, 1], **ROI) == ([OBJECT, OBJECT], [1, 0])


_sample = jax.jit(sample, static_argnums=(2, 3))


@pytest.mark.parametrize("count", [1, 8, 30, 64])
@given(seed=st.integers(0, 2**32 - 1), share=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_sample(count, seed, share):
    """Counts are as large as allowed, nothing is picked that may not be."""
    draws = np.random.default_rng(seed).random(30)
    label = np.where(draws < share[0], OBJECT, np.where(draws < max(share), NOTHING, UNUSED)).astype(np.int32)
    chosen = _sample(jax.random.key(seed), label, count, 0.25)
    positive, negative = np.asarray(chosen.positive), np.asarray(chosen.negative)
    assert (label[positive] == OBJECT).all() and (label[negative] == NOTHING).all()
    wanted = min((label == OBJECT).sum(), max(1, count // 4))
    assert positive.sum() == wanted
    assert negative.sum() == min((label == NOTHING).sum(), count - wanted)


_hardest = jax.jit(hardest, static_argnums=2)


@pytest.mark.parametrize("count", [1, 7, 30, 64])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_hardest(count, seed, share):
    """Against sorting; costs differ, and some are 0."""
    random = np.random.default_rng(seed)
    label = np.where(random.random(30) < share, random.integers(0, 4, 30), UNUSED).astype(np.int32)
    cost = random.permutation(30).astype(np.float32)
    usable = sorted(np.flatnonzero(label >= 0), key=lambda row: -cost[row])
    expected = np.isin(np.arange(30), usable[:count])
    np.testing.assert_array_equal(_hardest(cost, label, count), expected)


def test_hardest_of_equals():
    """Exactly as many as asked for where all cost the same."""
    label = np.array([0, -1, 2, 0, 1, -1], np.int32)
    chosen = np.asarray(hardest(np.zeros(6, np.float32), label, 3))
    assert chosen.sum() == 3 and not chosen[label < 0].any()


def test_every_candidate_has_the_same_chance():
    label = np.array([OBJECT] * 8 + [NOTHING] * 24, np.int32)
    keys = jax.random.split(jax.random.key(0), 4000)
    chosen = jax.vmap(lambda key: sample(key, label, 8, 0.25))(keys)
    share = np.asarray(chosen.positive | chosen.negative).mean(axis=0)
    np.testing.assert_allclose(share[:8], 2 / 8, atol=0.04)
    np.testing.assert_allclose(share[8:], 6 / 24, atol=0.04)
