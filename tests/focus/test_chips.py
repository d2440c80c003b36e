from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.focus.chips import focus_chips, merge_overlapping, whole_level, whole_pixels
from autofocus_jax.structures import AutoFocusError, ChipRule

GOLDEN = Path(__file__).parent.parent / "golden" / "sniper_host.npz"


def naive_chips(focus, height, width, threshold, dilation, least):
    """Algorithm 1 in loops: flood fill, then merging pairs one at a time."""
    radius = dilation // 2
    rows, columns = focus.shape
    on = {
        (r + i, c + j)
        for r, c in zip(*np.nonzero(focus >= threshold))
        for i in range(-radius, radius + 1)
        for j in range(-radius, radius + 1)
        if 0 <= r + i < rows and 0 <= c + j < columns
    }
    boxes = []
    while on:
        stack, component = [on.pop()], []
        while stack:
            r, c = stack.pop()
            component.append((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & on
            on -= near
            stack += near
        ys, xs = zip(*component)
        spans = []
        for cells, length in ((xs, width), (ys, height)):
            low, high = 16 * min(cells), min(16 * max(cells) + 16, length)
            side = max(high - low, min(least, length))
            low = min(max(low - (side - (high - low)) // 2, 0), length - side)
            spans.append((low, low + side))
        boxes.append((spans[0][0], spans[1][0], spans[0][1], spans[1][1]))
    done = False
    while not done:
        done = True
        for i, a in enumerate(boxes):
            for j, b in enumerate(boxes[:i]):
                if done and a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
                    merged = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
                    boxes = [box for k, box in enumerate(boxes) if k not in (i, j)] + [merged]
                    done = False
            if not done:
                break
    return sorted(boxes)


def disjoint(boxes):
    canvas = [(a[:2] < b[2:]).all() and (b[:2] < a[2:]).all() for i, a in enumerate(boxes) for b in boxes[:i]]
    return not any(canvas)


def covers(boxes, cells, height, width):
    canvas = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in np.asarray(boxes, int):
        canvas[y1:y2, x1:x2] = True
    return all(canvas[16 * r : 16 * r + 16, 16 * c : 16 * c + 16].all() for r, c in np.argwhere(cells))


@st.composite
def cases(draw):
    height, width = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    focus = generator.random((-(-height // 16), -(-width // 16))).astype(np.float32)
    rule = ChipRule(
        draw(st.sampled_from([0.3, 0.8, 0.95, 0.99])), draw(st.sampled_from([1, 3, 5, 41])), draw(st.integers(1, 300))
    )
    return focus, (height, width), rule


@settings(max_examples=300, deadline=None)
@given(cases())
def test_properties_of_chips(case):
    focus, (height, width), rule = case
    chips = focus_chips(focus, (height, width), rule)
    assert chips.dtype == np.int32 and chips.shape[1:] == (4,)
    assert covers(chips, focus >= rule.threshold, height, width)
    assert disjoint(chips)
    assert (chips[:, :2] >= 0).all() and (chips[:, 2:] <= [width, height]).all()
    sides = chips[:, 2:] - chips[:, :2]
    assert (sides >= np.minimum(rule.min_size, [width, height])).all()
    np.testing.assert_array_equal(merge_overlapping(chips), chips)
    assert sorted(map(tuple, chips.tolist())) == naive_chips(
        focus, height, width, rule.threshold, rule.dilation, rule.min_size
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 25)] * 2), max_size=25), st.randoms())
def test_merging_is_stable_and_blind_to_order(boxes, random):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.int32).reshape(-1, 4)
    merged = merge_overlapping(boxes)
    assert disjoint(merged)
    np.testing.assert_array_equal(merge_overlapping(merged), merged)
    shuffled = boxes[random.sample(range(len(boxes)), len(boxes))]
    assert sorted(map(tuple, merge_overlapping(shuffled))) == sorted(map(tuple, merged))
    assert all(((merged[:, :2] <= b[:2]) & (merged[:, 2:] >= b[2:])).all(axis=1).any() for b in boxes)


def test_touching_boxes_stay_apart():
    boxes = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20]], np.int32)
    np.testing.assert_array_equal(merge_overlapping(boxes), boxes)


def test_hundreds_of_components():
    focus = np.zeros((88, 125), np.float32)
    focus[1::4, 1::4] = 1  # dilated: 3 x 3 cells each, 16 px apart
    chips = focus_chips(focus, (1400, 2000), ChipRule(0.5, 3, 1))
    assert sorted(map(tuple, chips.tolist())) == naive_chips(focus, 1400, 2000, 0.5, 3, 1)
    assert len(chips) == 22 * 31
    merged = focus_chips(focus, (1400, 2000), ChipRule(0.5, 3, 96))  # all grow into each other, by 24 px a side
    np.testing.assert_array_equal(merged, [[0, 0, 1992, 1400]])


def test_merging_nothing_and_empty_boxes():
    assert merge_overlapping(np.zeros((0, 4), np.int32)).shape == (0, 4)
    empty = np.array([[5, 5, 5, 9], [5, 5, 5, 9], [5, 9, 5, 9]], np.int32)
    np.testing.assert_array_equal(merge_overlapping(empty), empty)


def test_no_focus_pixels():
    chips = focus_chips(np.zeros((4, 4)), (64, 64), ChipRule(0.5, 3, 32))
    assert chips.shape == (0, 4) and chips.dtype == np.int32
    assert focus_chips(np.full((4, 4), 1.0), (64, 64), ChipRule(1.01, 3, 32)).shape == (0, 4)


@pytest.mark.parametrize("least", [1, 16, 10_000])
def test_threshold_zero_is_the_whole_level(least):
    for value in (0.0, 0.3, np.nan):
        chips = focus_chips(np.full((3, 5), value), (47, 65), ChipRule(0, 3, least))
        np.testing.assert_array_equal(chips, [[0, 0, 65, 47]])
        np.testing.assert_array_equal(chips, whole_level(np.full((3, 5), value), (47, 65)))


def test_threshold_itself_takes_part_and_nan_does_not():
    focus = np.full((4, 4), np.nan)
    focus[2, 1] = 0.5
    np.testing.assert_array_equal(focus_chips(focus, (64, 64), ChipRule(0.5, 1, 1)), [[16, 32, 32, 48]])


def test_one_pixel_level():
    np.testing.assert_array_equal(focus_chips(np.ones((1, 1)), (1, 1), ChipRule(0.5, 3, 256)), [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    "cell, expected",
    [
        ((0, 0), [0, 0, 64, 64]),
        ((0, 7), [56, 0, 120, 64]),
        ((6, 0), [0, 36, 64, 100]),
        ((6, 7), [56, 36, 120, 100]),
        ((3, 4), [40, 24, 104, 88]),
    ],
)
def test_small_chips_grow_about_their_centre_and_stay_inside(cell, expected):
    focus = np.zeros((7, 8))
    focus[cell] = 1
    np.testing.assert_array_equal(focus_chips(focus, (100, 120), ChipRule(0.5, 1, 64)), [expected])


def test_diagonal_cells_are_one_component():
    focus = np.zeros((4, 4))
    focus[0, 0] = focus[1, 1] = focus[3, 0] = 1
    chips = focus_chips(focus, (64, 64), ChipRule(0.5, 1, 1))
    assert sorted(map(tuple, chips.tolist())) == [(0, 0, 32, 32), (0, 48, 16, 64)]


def test_a_map_of_another_level_is_an_error():
    with pytest.raises(AutoFocusError, match="7x8 cells of 16 px; the focus map has 8x8"):
        focus_chips(np.zeros((8, 8)), (100, 120), ChipRule(0.5, 1, 64))


def test_against_the_authors_chip_generator():
    ours, theirs = [], []
    golden = np.load(GOLDEN)
    count = sum(name.endswith("_map") for name in golden)
    assert count == 24
    for i in range(count):
        focus = golden[f"chips{i}_map"]
        width, height, dilation, threshold, least = golden[f"chips{i}_params"]
        chips = focus_chips(focus, (int(height), int(width)), ChipRule(threshold, int(dilation), int(least)))
        assert covers(chips, focus >= threshold, int(height), int(width))
        for boxes, costs in ((chips, ours), (golden[f"chips{i}_chips"], theirs)):
            costs.append(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum())
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 25)] * 2), max_size=12),
    st.floats(0.2, 3),
    st.floats(0.2, 3),
)
def test_whole_pixels_rounds_outward_and_stays_disjoint(boxes, x, y):
    boxes = merge_overlapping(np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.int32).reshape(-1, 4))
    exact = boxes * np.array([x, y, x, y])
    rounded = whole_pixels(exact)
    assert rounded.dtype == np.int32 and disjoint(rounded)
    assert (rounded[:, :2] < rounded[:, 2:]).all()
    outward = np.concatenate([np.floor(exact[:, :2]), np.ceil(exact[:, 2:])], axis=1)
    for box in rounded:  # each comes from one box and gives up less than a pixel of it on the right and below
        source = (outward[:, :2] == box[:2]).all(axis=1) & (outward[:, 2:] - box[2:] <= 1).all(axis=1)
        assert (source & (outward[:, 2:] >= box[2:]).all(axis=1)).any()
    wide = ((exact[:, 2:] - exact[:, :2]) >= 1).all(axis=1)
    assert all((rounded[:, :2] == np.floor(box[:2])).all(axis=1).any() for box in exact[wide])
    if disjoint(outward):
        np.testing.assert_array_equal(rounded, outward)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(0, 12)] * 2), max_size=12), st.floats(0.2, 1.5))
def test_whole_pixels_against_loops(boxes, factor):
    exact = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes]).reshape(-1, 4) * factor
    low, high = np.floor(exact[:, :2]).astype(int), np.ceil(exact[:, 2:]).astype(int)
    expected = []
    for i, box in enumerate(exact):
        limits = high[i].copy()
        for j, other in enumerate(exact):
            if (low[i] < high[j]).all() and (low[j] < high[i]).all():
                if box[2] <= other[0]:
                    limits[0] = min(limits[0], low[j][0])
                elif box[3] <= other[1] and not other[2] <= box[0]:
                    limits[1] = min(limits[1], low[j][1])
        if (low[i] < limits).all():
            expected.append([*low[i], *limits])
    np.testing.assert_array_equal(whole_pixels(exact), np.array(expected).reshape(-1, 4))


def test_whole_pixels_of_neighbours():
    boxes = np.array([[0, 0, 1.5, 4], [1.5, 0, 3, 4], [0, 4.2, 3, 6]])
    np.testing.assert_array_equal(whole_pixels(boxes), [[0, 0, 1, 4], [1, 0, 3, 4], [0, 4, 3, 6]])
    assert whole_pixels(np.zeros((0, 4))).shape == (0, 4)


def test_boxes_that_meet_at_a_corner_give_up_one_column_and_no_row():
    boxes = np.array([[0, 0, 10.4, 10.4], [10.4, 10.4, 20, 20]])
    np.testing.assert_array_equal(whole_pixels(boxes), [[0, 0, 10, 11], [10, 10, 20, 20]])
    boxes = np.array([[10.4, 0, 20, 10.4], [0, 10.4, 10.4, 20]])
    np.testing.assert_array_equal(whole_pixels(boxes), [[10, 0, 20, 11], [0, 10, 10, 20]])
