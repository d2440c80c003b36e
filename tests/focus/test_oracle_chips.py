import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.chips import focus_chips, whole_level
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import (
    BACKGROUND,
    FOCUS,
    IGNORE,
    AutoFocusError,
    Bucket,
    ChipRule,
    FocusRange,
    GroundTruth,
    Scale,
    ValidRange,
)

RANGE = FocusRange(3, 32, 45)
SCALES = (
    Scale(64, 80, ValidRange(28, np.inf), ChipRule(0.5, 3, 24)),
    Scale(128, 160, ValidRange(14, 30), ChipRule(0.5, 1, 40)),
    Scale(250, 330, ValidRange(0, 15), None),
)
BUCKETS = (Bucket(80, 80, 2), Bucket(160, 160, 2), Bucket(336, 336, 2))


def truth_of(boxes, ignore=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore)
    return GroundTruth(boxes, np.zeros(len(boxes), np.int32), ignore)


def drawn(generator):
    """A size (height, width) and objects of an image, some of them crowds and some touching its borders."""
    height, width = (int(side) for side in np.exp(generator.uniform(np.log(20), np.log(260), 2)))
    count = int(generator.integers(0, 8))
    centre = generator.uniform(0, 1, (count, 2)) * [width, height]
    half = np.exp(generator.uniform(np.log(1), np.log(60), (count, 2))) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    return (height, width), truth_of(boxes, generator.random(count) < 0.15)


def assert_equal_to_the_cascade(size, truth, scales, functions=None, buckets=BUCKETS, shrink=0.0):
    plan = Plan(scales, buckets, StackingConfig(), functions, shrink)
    _, info, (stages,) = cascade([np.zeros((*size, 3), np.uint8)], oracle_detect([truth], RANGE, 1), plan)
    ours = oracle_chips(size, truth, plan, RANGE)
    assert len(ours) == len(stages) == len(scales)
    for index, (chips, stage) in enumerate(zip(ours, stages)):
        np.testing.assert_array_equal(chips.boxes, stage.chips)
        assert chips.boxes.dtype == np.float32 and chips.sizes.shape == (len(chips.boxes), 2)
        assert chips.sizes.prod(axis=1).sum() == info.pixels[index]
        assert len(chips.labels) == len(stage.focus)
        for label, focus in zip(chips.labels, stage.focus):
            np.testing.assert_array_equal(label == FOCUS, focus > 0.5)
    return ours


def test_chips_are_those_of_the_cascade_with_the_oracle():
    generator = np.random.default_rng(3)
    several = 0
    for _ in range(60):
        ours = assert_equal_to_the_cascade(*drawn(generator), SCALES)
        several += len(ours[-1].boxes) > 1
    assert several > 10  # the cases are not all trivial


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 5]), st.integers(1, 90))
def test_chips_are_those_of_the_cascade_with_any_rule(seed, dilation, least):
    rule = ChipRule(0.5, dilation, least)
    scales = tuple(dataclasses.replace(scale, chips=scale.chips and rule) for scale in SCALES)
    assert_equal_to_the_cascade(*drawn(np.random.default_rng(seed)), scales)


def test_chip_functions_replace_the_rules():
    generator = np.random.default_rng(11)
    functions = [partial(focus_chips, rule=ChipRule(0.5, 5, 16)), whole_level]
    for _ in range(10):
        size, truth = drawn(generator)
        ours = assert_equal_to_the_cascade(size, truth, SCALES, functions)
        np.testing.assert_array_equal(ours[2].boxes, ours[1].boxes)
        pyramid = oracle_chips(size, truth, Plan(SCALES).pyramid(), RANGE)
        assert all(chips.boxes.tolist() == [[0, 0, size[1], size[0]]] for chips in pyramid)


def test_a_case_drawn_by_hand():
    """One object of 8 px in an image of scale 1's own size: factors are 1, 2 and 4."""
    scales = (*SCALES[:2], dataclasses.replace(SCALES[2], min_side=256))
    first, second, third = oracle_chips((64, 64), truth_of([[34, 18, 42, 26]]), Plan(scales), RANGE)
    np.testing.assert_array_equal(first.sizes, [[64, 64]])
    expected = np.full((4, 4), BACKGROUND)
    expected[1, 2] = FOCUS
    np.testing.assert_array_equal(first.labels[0], expected)
    np.testing.assert_array_equal(second.boxes, [[16, 0, 64, 48]])  # dilated by a cell on each side
    np.testing.assert_array_equal(second.sizes, [[96, 96]])
    # There it is [36, 36, 52, 52], cells 2 and 3 of both axes, 32 px; grown to 40 px: [28, 28, 68, 68].
    np.testing.assert_array_equal(third.boxes, [[16 + 14, 14, 16 + 34, 34]])
    np.testing.assert_array_equal(third.sizes, [[80, 80]])
    assert third.labels == ()


def test_sizes_out_of_the_focus_range_and_crowds_ask_for_nothing():
    boxes = [[0, 0, 2, 2], [10, 10, 48, 48], [50, 50, 58, 58]]
    first, second, third = oracle_chips((64, 64), truth_of(boxes, [False, False, True]), Plan(SCALES), RANGE)
    assert first.labels[0][0, 0] == IGNORE and first.labels[0][3, 3] == IGNORE
    for chips in (second, third):
        assert chips.boxes.shape == (0, 4) and chips.sizes.shape == (0, 2) and chips.labels == ()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_no_objects_and_one_pixel(size):
    ours = assert_equal_to_the_cascade(size, truth_of([]), SCALES)
    assert [len(chips.boxes) for chips in ours] == [1, 0, 0]
    assert_equal_to_the_cascade(size, truth_of([[0, 0, 1, 1]]), SCALES)


def test_one_scale_has_only_its_level():
    (chips,) = oracle_chips((30, 60), truth_of([[0, 0, 9, 9]]), Plan(SCALES[:1]), RANGE)
    np.testing.assert_array_equal(chips.sizes, [[40, 80]])
    assert chips.labels == ()


def test_an_image_without_a_pixel_is_an_error():
    with pytest.raises(AutoFocusError, match="0x9 px has no pixel"):
        oracle_chips((0, 9), truth_of([]), Plan(SCALES), RANGE)


@st.composite
def bucket_sets(draw):
    """Buckets that make many chips shrink, and one that holds every level."""
    sides = st.integers(1, 20).map(lambda cells: 16 * cells)
    shapes = draw(st.lists(st.tuples(sides, sides), max_size=12, unique=True))
    return tuple(Bucket(height, width, 2) for height, width in [*shapes, (336, 336)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), bucket_sets(), st.sampled_from([0.02, 0.05, 0.2]), st.integers(1, 90))
def test_chips_are_those_of_the_cascade_that_shrinks_them(seed, buckets, shrink, least):
    rule = ChipRule(0.5, 3, least)
    scales = tuple(dataclasses.replace(scale, chips=scale.chips and rule) for scale in SCALES)
    assert_equal_to_the_cascade(*drawn(np.random.default_rng(seed)), scales, None, buckets, shrink)


def test_some_chips_do_shrink():
    """Guards the test above against buckets that change nothing."""
    buckets = (Bucket(64, 64, 1), Bucket(336, 336, 1))
    plan = Plan((Scale(66, 80, ValidRange(0, 9), None),), buckets, shrink=0.05)
    (chips,) = oracle_chips((66, 66), truth_of([]), plan, RANGE)
    np.testing.assert_array_equal(chips.sizes, [[64, 64]])
