"""Chips of low cost against Algorithm 1, against an exhaustive search, and on cases drawn by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autofocus_jax.errors import AutoFocusError, PlanError
from autofocus_jax.focus.buckets import Multiple
from autofocus_jax.focus.cheap_chips import cheap_chips, cheap_rules
from autofocus_jax.focus.chip_cost import PaddedCost
from autofocus_jax.focus.chips import focus_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import Bucket, ChipRule, Scale, ValidRange

AREA = PaddedCost(Multiple(), 1.0, 0)  # every case below has sides of whole cells
BUCKETS = tuple(Bucket(height, width, 1) for height, width in itertools.product((64, 96, 160, 320, 640), repeat=2))


def total(chips, cost):
    return cost((chips[:, 2:] - chips[:, :2])[:, ::-1]).sum()


def components(focus, level_size, rule):
    """Bounding boxes of the dilated components by SciPy alone, level px."""
    dilated = ndimage.binary_dilation(focus >= rule.threshold, np.ones((rule.dilation, rule.dilation)))
    found = ndimage.find_objects(ndimage.label(dilated, np.ones((3, 3)))[0])
    return np.array([(16 * x.start, 16 * y.start, min(16 * x.stop, level_size[1]), min(16 * y.stop, level_size[0]))
                     for y, x in found]).reshape(-1, 4)  # fmt: skip


def inside(boxes, chips):
    """[n, m]: which box lies whole in which chip."""
    return (boxes[:, None, :2] >= chips[:, :2]).all(axis=2) & (boxes[:, None, 2:] <= chips[:, 2:]).all(axis=2)


def share_area(boxes, others):
    return (boxes[:, None, :2] < others[:, 2:]).all(axis=2) & (others[:, :2] < boxes[:, None, 2:]).all(axis=2)


def partitions(items):
    """All ways to put items into groups."""
    if not items:
        yield []
        return
    for groups in partitions(items[1:]):
        yield [[items[0]], *groups]
        for number, group in enumerate(groups):
            yield [*groups[:number], [items[0], *group], *groups[number + 1 :]]


def least_cost(boxes, level_size, least, cost):
    """A lower bound: the cheapest partition whose groups' boxes are disjoint; chips that grow may overlap."""
    found = np.inf
    for groups in partitions(list(range(len(boxes)))):
        whole = np.array([(*boxes[group, :2].min(axis=0), *boxes[group, 2:].max(axis=0)) for group in groups])
        if np.triu(share_area(whole, whole), 1).any():
            continue
        sides = (whole[:, 2:] - whole[:, :2])[:, ::-1]
        found = min(found, cost(np.maximum(sides, np.minimum(least, level_size))).sum())
    return found


@st.composite
def cases(draw):
    height, width = draw(st.integers(1, 500)), draw(st.integers(1, 500))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    focus = generator.random((-(-height // 16), -(-width // 16))).astype(np.float32)
    rule = ChipRule(draw(st.sampled_from([0.5, 0.9, 0.97, 0.99])), draw(st.sampled_from([1, 3])),
                    draw(st.integers(1, 200)))  # fmt: skip
    cost = PaddedCost(draw(st.sampled_from([Multiple(), Multiple(64), BUCKETS])), draw(st.floats(0.5, 3)),
                      draw(st.sampled_from([0, 100, 5000, 1e6])))  # fmt: skip
    return focus, (height, width), rule, cost


@settings(max_examples=400, deadline=None)
@given(cases())
def test_properties(case):
    focus, (height, width), rule, cost = case
    chips = cheap_chips(focus, (height, width), rule, cost)
    usual = focus_chips(focus, (height, width), rule)
    assert chips.dtype == np.int32 and chips.shape[1:] == (4,)
    assert total(chips, cost) <= total(usual, cost)
    assert not np.triu(share_area(chips, chips), 1).any()
    assert (chips[:, :2] >= 0).all() and (chips[:, 2:] <= [width, height]).all()
    assert ((chips[:, 2:] - chips[:, :2]) >= np.minimum(rule.min_size, [width, height])).all()
    boxes = components(focus, (height, width), rule)
    assert inside(boxes, chips).any(axis=1).all()  # every dilated cell, and no component is cut
    assert inside(boxes, chips).any(axis=0).all()  # no chip for nothing
    np.testing.assert_array_equal(chips, cheap_chips(focus, (height, width), rule, cost))
    if len(boxes) < 2:
        np.testing.assert_array_equal(chips, usual)


@st.composite
def few_boxes(draw):
    """A map with up to five components."""
    focus = np.zeros((20, 20), np.float32)
    for _ in range(draw(st.integers(2, 5))):
        y, x, h, w = (draw(st.integers(low, high)) for low, high in ((0, 18), (0, 18), (1, 4), (1, 4)))
        focus[y : y + h, x : x + w] = 1
    cost = PaddedCost(draw(st.sampled_from([Multiple(), BUCKETS])), 2.0, draw(st.sampled_from([0, 1000, 8000])))
    return focus, ChipRule(0.5, 1, draw(st.sampled_from([1, 32, 64, 96]))), cost


def bounds(case):
    """Costs of (the lower bound, the chips, Algorithm 1)."""
    focus, rule, cost = case
    boxes = components(focus, (320, 320), rule)
    least = least_cost(boxes, (320, 320), rule.min_size, cost)
    return least, *(total(chips, cost) for chips in (cheap_chips(focus, (320, 320), rule, cost),
                                                     focus_chips(focus, (320, 320), rule)))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(few_boxes())
def test_between_the_cheapest_partition_and_algorithm_1(case):
    least, ours, usual = bounds(case)
    assert least <= ours <= usual
    boxes = components(case[0], (320, 320), case[1])
    if len(boxes) == 2 and case[1].min_size == 1:  # nothing to search and nothing to move
        assert ours == least


def cells(*places, shape=(20, 20)):
    focus = np.zeros(shape, np.float32)
    for y, x in places:
        focus[y, x] = 1
    return focus


def test_pays_the_price_of_a_chip_once_where_that_is_cheaper():
    focus, rule = cells((2, 2), (2, 5)), ChipRule(0.5, 1, 1)
    apart, joint = [[32, 32, 48, 48], [80, 32, 96, 48]], [[32, 32, 96, 48]]
    for price, expected in ((0, apart), (512, apart), (513, joint), (10_000, joint)):  # 2 cells more are 512 px
        chips = cheap_chips(focus, (320, 320), rule, PaddedCost(Multiple(), 1.0, price))
        np.testing.assert_array_equal(chips, expected)


def test_grows_after_merging():
    focus, rule = cells((4, 4), (4, 6)), ChipRule(0.5, 1, 64)
    np.testing.assert_array_equal(focus_chips(focus, (320, 320), rule), [[40, 40, 136, 104]])
    np.testing.assert_array_equal(cheap_chips(focus, (320, 320), rule, AREA), [[56, 40, 120, 104]])


def test_chips_that_grow_into_each_other_move_apart():
    focus, rule = cells(shape=(20, 20)), ChipRule(0.5, 1, 96)
    focus[2:6, 2:6] = focus[7:11, 7:11] = 1  # 144 x 144 px together, against 2 chips of 96 x 96
    np.testing.assert_array_equal(focus_chips(focus, (320, 320), rule), [[16, 16, 192, 192]])
    chips = cheap_chips(focus, (320, 320), rule, AREA)
    np.testing.assert_array_equal(chips, [[8, 16, 104, 112], [104, 96, 200, 192]])


def test_chips_without_room_become_one():
    focus, rule = cells((0, 0), (5, 5), shape=(6, 6)), ChipRule(0.5, 1, 64)  # 64 + 64 px do not fit into 96
    np.testing.assert_array_equal(cheap_chips(focus, (96, 96), rule, AREA), [[0, 0, 96, 96]])


def test_a_bucket_that_is_paid_anyway_is_filled():
    focus, rule = cells((2, 2), (2, 5)), ChipRule(0.5, 1, 1)
    one_size = PaddedCost((Bucket(64, 64, 1),), 1.0, 0)
    np.testing.assert_array_equal(cheap_chips(focus, (320, 320), rule, one_size), [[32, 32, 96, 48]])


def test_what_an_enclosing_box_overlaps_is_merged_too():
    focus = cells((2, 2), (2, 8))
    focus[1:6, 5] = 1  # between the two, and taller
    chips = cheap_chips(focus, (320, 320), ChipRule(0.5, 1, 1), PaddedCost(Multiple(), 1.0, 1e6))
    np.testing.assert_array_equal(chips, [[32, 16, 144, 96]])


def test_no_focus_pixel_the_whole_level_and_a_wrong_map():
    rule = ChipRule(0.5, 3, 32)
    assert cheap_chips(np.zeros((4, 4)), (64, 64), rule, AREA).shape == (0, 4)
    whole = cheap_chips(np.zeros((4, 4)), (64, 50), dataclasses.replace(rule, threshold=0), AREA)
    np.testing.assert_array_equal(whole, [[0, 0, 50, 64]])
    with pytest.raises(AutoFocusError, match="the focus map has 8x8"):
        cheap_chips(np.zeros((8, 8)), (64, 64), rule, AREA)


def test_rules_of_a_plan():
    rules = (ChipRule(0.1, 3, 32), ChipRule(0.2, 1, 64))
    scales = [Scale(side, longest, ValidRange(0, 100), rule)
              for side, longest, rule in zip((100, 200, 300), (150, 500, 600), (*rules, None))]  # fmt: skip
    plan = Plan(tuple(scales), (Bucket(640, 640, 1),), shrink=0.1)
    made = cheap_rules(plan, (100, 200), 5.0)  # factors 0.75, 2, 3
    assert [rule.keywords["rule"] for rule in made] == list(rules)
    assert [rule.keywords["cost"] for rule in made] == [PaddedCost(plan.buckets, step, 5.0, 0.1)
                                                        for step in (2 / 0.75, 1.5)]  # fmt: skip
    assert dataclasses.replace(plan, rules=made).functions == made
    bare = dataclasses.replace(plan, rules=made, scales=(dataclasses.replace(scales[0], chips=None), *scales[1:]))
    with pytest.raises(PlanError, match="scale 1 has no chip rule"):
        cheap_rules(bare, (100, 200))
