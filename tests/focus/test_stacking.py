from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import stacking
from autofocus_jax.focus.stacking import ScaleDetections
from autofocus_jax.structures import Detections, Placement, Scale, ValidRange

GOLDEN = Path(__file__).parent.parent / "golden" / "sniper_host.npz"
IMAGE = (400, 600)  # height, width
EVERYTHING = ValidRange(0, np.inf)


def kept(box, chip, tolerance=10):
    return stacking.border_mask(np.array([box], np.float32), np.array(chip, np.float32), IMAGE, tolerance)[0]


# a chip in the middle of the image: (100, 100) to (300, 300)
@pytest.mark.parametrize(
    "box, whole",
    [
        ([150, 150, 200, 200], True),  # interior
        ([100, 150, 200, 200], False),  # touches the left side
        ([110, 150, 200, 200], False),  # within the tolerance of it, to the px
        ([110.5, 150, 200, 200], True),  # just beyond
        ([150, 105, 200, 200], False),  # above
        ([150, 150, 295, 200], False),  # right
        ([150, 150, 200, 292], False),  # below
        ([100, 100, 300, 300], False),  # fills the chip
        ([111, 111, 289, 289], True),  # as large as can be
    ],
)
def test_chip_in_the_middle(box, whole):
    assert kept(box, [100, 100, 300, 300]) == whole


@pytest.mark.parametrize(
    "chip, box, whole",
    [
        # chip on the image's left border: that side never cuts, the other three do
        ([0, 100, 200, 300], [0, 150, 50, 200], True),
        ([0, 100, 200, 300], [0, 105, 50, 200], False),
        ([0, 100, 200, 300], [0, 150, 195, 200], False),
        ([0, 100, 200, 300], [0, 150, 50, 295], False),
        # upper, right, lower border
        ([100, 0, 300, 200], [150, 0, 200, 50], True),
        ([100, 0, 300, 200], [105, 0, 200, 50], False),
        ([400, 100, 600, 300], [550, 150, 600, 200], True),
        ([400, 100, 600, 300], [405, 150, 600, 200], False),
        ([100, 200, 300, 400], [150, 350, 200, 400], True),
        ([100, 200, 300, 400], [150, 205, 200, 400], False),
        # corners: two sides never cut
        ([0, 0, 200, 200], [0, 0, 50, 50], True),
        ([0, 0, 200, 200], [0, 0, 195, 50], False),
        ([400, 200, 600, 400], [550, 350, 600, 400], True),
        ([400, 200, 600, 400], [550, 201, 600, 400], False),
        # a chip near the border but not on it still cuts
        ([2, 100, 200, 300], [4, 150, 50, 200], False),
        # the whole image cuts nothing
        ([0, 0, 600, 400], [0, 0, 600, 400], True),
    ],
)
def test_sides_on_the_image_border_do_not_cut(chip, box, whole):
    assert kept(box, chip) == whole


def test_tolerance_zero_still_drops_what_touches():
    assert not kept([100, 150, 200, 200], [100, 100, 300, 300], tolerance=0)
    assert kept([100.5, 150, 200, 200], [100, 100, 300, 300], tolerance=0)


def test_one_chip_for_each_row():
    boxes = np.array([[100, 150, 200, 200]] * 2, np.float32)
    chips = np.array([[100, 100, 300, 300], [0, 100, 300, 300]], np.float32)
    np.testing.assert_array_equal(stacking.border_mask(boxes, chips, IMAGE, 10), [False, True])
    assert stacking.border_mask(boxes[:0], chips[:0], IMAGE, 10).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 3, 10]))
def test_border_mask_against_a_loop(seed, tolerance):
    generator = np.random.default_rng(seed)

    def boxes(count):  # whole px, so that sides meet the tolerance exactly
        sides = np.sort(generator.integers(0, 41, (count, 2, 2)), axis=1) * [[[15, 10]]]
        return sides.reshape(count, 4).astype(np.float32)

    chips, offsets = boxes(30), generator.integers(-12, 13, (30, 4))
    found = chips + offsets
    expected = []
    for box, chip in zip(found.tolist(), chips.tolist()):
        inner = (box[0] - chip[0], box[1] - chip[1], chip[2] - box[2], chip[3] - box[3])
        own = (chip[0] <= 0, chip[1] <= 0, chip[2] >= IMAGE[1], chip[3] >= IMAGE[0])
        expected.append(all(side or room > tolerance for side, room in zip(own, inner)))
    np.testing.assert_array_equal(stacking.border_mask(found, chips, IMAGE, tolerance), expected)
    np.testing.assert_array_equal(stacking.border_mask(found[:1], chips[0], IMAGE, tolerance), expected[:1])


def test_valid_range_has_both_ends_and_looks_at_the_area():
    boxes = np.array([[0, 0, 31.9, 32], [0, 0, 32, 32], [0, 0, 16, 64], [0, 0, 180, 180], [0, 0, 181, 180]], np.float32)
    np.testing.assert_array_equal(stacking.valid_mask(boxes, ValidRange(32, 180)), [False, True, True, True, False])


def test_projection():
    place = Placement(0, 2, np.array([100, 50, 200, 90], np.float32), np.array([2, 4], np.float32))
    np.testing.assert_allclose(stacking.project(np.array([[0, 0, 200, 160], [20, 8, 30, 12]], np.float32), place),
                               [[100, 50, 200, 90], [110, 52, 115, 53]])  # fmt: skip
    assert stacking.project(np.zeros((0, 4), np.float32), place).shape == (0, 4)


def overlap(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def naive_nms(boxes, scores, weight, threshold):
    """One class, to the end, in float64 and loops: rows (index, score)."""
    boxes, scores, left, out = boxes.astype(float), scores.astype(float), list(range(len(boxes))), []
    while left := [i for i in left if scores[i] > threshold]:
        best = max(left, key=lambda i: scores[i])
        out.append((best, scores[best]))
        left.remove(best)
        for i in left:
            scores[i] *= weight(overlap(boxes[best], boxes[i]))
    return out


def random_rows(seed, count, classes):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(5, 80, (count, 2))], axis=1).astype(np.float32)
    return boxes, generator.uniform(0, 1, count).astype(np.float32), generator.integers(0, classes, count)


def rows_sorted(rows):
    return rows[np.lexsort(np.round(rows.T, 2))]


@pytest.mark.parametrize("i", range(6))
def test_soft_nms_against_the_authors(i):
    golden = np.load(GOLDEN)
    given_rows, expected = golden[f"softnms{i}_in"], golden[f"softnms{i}_out"]
    half_open = np.array([0, 0, 1, 1], np.float32)
    rows, scores = stacking.soft_nms(given_rows[:, :4] + half_open, given_rows[:, 4], 0.55, 0.001, 10**6)
    assert len(rows) == len(expected)
    ours = np.column_stack([given_rows[rows, :4], scores])
    np.testing.assert_allclose(rows_sorted(ours), rows_sorted(expected), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0.05, 0.55]), st.sampled_from([1, 7, 1000]))
def test_soft_nms_against_loops(seed, count, sigma, limit):
    boxes, scores, _ = random_rows(seed, count, 1)
    rows, ours = stacking.soft_nms(boxes, scores, sigma, 0.05, limit)
    expected = naive_nms(boxes, scores, lambda iou: np.exp(-(iou**2) / sigma), 0.05)[:limit]
    np.testing.assert_allclose(ours, [score for _, score in expected], atol=1e-5)
    assert (np.diff(ours) <= 0).all() and len(set(rows)) == len(rows)
    for row, score, (other, _) in zip(rows, ours, expected):
        assert row == other or np.isclose(ours, score, atol=1e-5).sum() > 1  # only near ties may swap


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 80), st.sampled_from([None, 0.3, 0.6]), st.sampled_from([5, 1000]))
def test_merge_is_the_start_of_every_class_run_to_its_end(seed, count, nms_iou, limit):
    boxes, scores, labels = random_rows(seed, count, 4)
    config = StackingConfig(score_threshold=0.02, max_detections=limit, nms_iou=nms_iou)
    ours = stacking.merge(boxes, scores, labels.astype(np.int32), config)
    weight = (lambda iou: np.exp(-(iou**2) / 0.55)) if nms_iou is None else (lambda iou: float(iou <= nms_iou))
    expected = []
    for label in range(4):
        of_class = np.flatnonzero(labels == label)
        for row, score in naive_nms(boxes[of_class], scores[of_class], weight, 0.02):
            expected.append([*boxes[of_class[row]], score, label])
    expected = np.array(sorted(expected, key=lambda row: -row[4])[:limit]).reshape(-1, 6)
    assert ours.labels.dtype == np.int32 and ours.boxes.shape == (len(expected), 4)
    np.testing.assert_allclose(ours.scores, expected[:, 4], atol=1e-5)
    rows = np.column_stack([ours.boxes, ours.scores, ours.labels])
    clear = np.abs(np.subtract.outer(rows[:, 4], rows[:, 4])).__lt__(1e-5).sum(axis=1) == 1 if len(rows) else []
    np.testing.assert_allclose(rows[clear], expected[clear], atol=1e-4)


def crowded_rows(seed, count, classes):
    """Rows around a few objects of each class, with scores on a coarse grid: heavy decay and many exact ties."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    centre = generator.uniform(0, 100, (classes, 2, 2))[labels, generator.integers(0, 2, count)]
    corner = centre + generator.uniform(-3, 3, (count, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(25, 30, (count, 2))], axis=1).astype(np.float32)
    return boxes, (generator.integers(1, 12, count) / 12).astype(np.float32), labels.astype(np.int32)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 400),
    st.sampled_from([1, 3, 40]),
    st.sampled_from([None, 0.5]),
    st.sampled_from([1, 2, 10, 30]),
)
def test_few_picks_are_the_first_of_all_picks(seed, count, classes, nms_iou, limit):
    rows = crowded_rows(seed, count, classes)
    everything = StackingConfig(score_threshold=1e-3, max_detections=10**6, nms_iou=nms_iou)
    all_picks = stacking.merge(*rows, everything)
    first = stacking.merge(*rows, StackingConfig(score_threshold=1e-3, max_detections=limit, nms_iou=nms_iou))
    for ours, expected in zip(first, all_picks):  # to the last bit, ties too
        np.testing.assert_array_equal(ours, expected[:limit])
    assert len(first.scores) == min(limit, len(all_picks.scores))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.sampled_from([3, 1000]))
def test_ties_go_to_the_lower_class_then_to_the_earlier_row(seed, count, limit):
    boxes, scores, labels = crowded_rows(seed, count, 3)
    ours = stacking.merge(boxes, scores, labels, StackingConfig(max_detections=limit, nms_iou=0.5))
    expected = []
    for label in range(3):
        of_class = np.flatnonzero(labels == label)
        picks = naive_nms(boxes[of_class], scores[of_class], lambda iou: float(iou <= 0.5), 1e-3)
        expected += [(of_class[row], score) for row, score in picks]
    expected = [row for row, _ in sorted(expected, key=lambda pick: -pick[1])[:limit]]  # sorting is stable
    np.testing.assert_array_equal(ours.boxes, boxes[expected])
    np.testing.assert_array_equal(ours.labels, labels[expected])
    np.testing.assert_array_equal(ours.scores, scores[expected])


def test_no_row_is_asked_for():
    boxes, scores, _ = crowded_rows(0, 20, 1)
    assert [len(part) for part in stacking.soft_nms(boxes, scores, 0.55, 1e-3, 0)] == [0, 0]


def test_merge_of_nothing_and_of_nothing_good():
    config = StackingConfig()
    empty = stacking.merge(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), config)
    assert [field.shape for field in empty] == [(0, 4), (0,), (0,)]
    boxes = np.array([[0, 0, 5, 5]] * 3, np.float32)
    poor = stacking.merge(boxes, np.array([1e-3, 0, np.nan], np.float32), np.zeros(3, np.int32), config)
    assert len(poor.scores) == 0


def test_classes_do_not_touch_each_other_and_equal_boxes_decay():
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    merged = stacking.merge(
        boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([3, 3, 5], np.int32), StackingConfig()
    )
    np.testing.assert_array_equal(merged.labels, [3, 5, 3])
    np.testing.assert_allclose(merged.scores, [0.9, 0.7, 0.8 * np.exp(-1 / 0.55)], rtol=1e-5)


def test_boxes_without_area_do_no_harm():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], np.float32)
    merged = stacking.merge(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int32), StackingConfig())
    np.testing.assert_allclose(merged.scores, [0.9, 0.8, 0.7])


def detections(rows):
    rows = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_stack_is_its_rules_one_after_the_other(seed):
    generator = np.random.default_rng(seed)
    scales = (Scale(400, 600, ValidRange(40, np.inf), None), Scale(800, 1200, ValidRange(0, 50), None))
    found, kept_rows = [], []
    of_scales = [[0, 0, 600, 400]], [[0, 0, 90, 80], [60, 30, 150, 160], [5, 0, 80, 400]]
    for scale, chips in zip(scales, of_scales):
        rows = Detections(*random_rows(generator.integers(2**32), generator.integers(0, 60), 4))
        chip, chips = generator.integers(0, len(chips), len(rows.scores)), np.array(chips, np.float32)
        found.append(ScaleDetections(rows, chip, chips))
        valid = stacking.valid_mask(rows.boxes, scale.valid)
        whole = stacking.border_mask(rows.boxes, chips[chip], IMAGE, 10)
        kept_rows.append([Detections(*(field[mask] for field in rows)) for mask in (valid & whole, valid & ~whole)])
    merged, stages = stacking.stack(found, IMAGE, scales, StackingConfig())
    for stage, expected in zip(stages, kept_rows):
        for ours, theirs in zip(stage, expected):
            assert all(np.array_equal(*pair) for pair in zip(ours, theirs))
    every = [np.concatenate(parts) for parts in zip(*(kept for kept, _ in kept_rows))]
    for ours, theirs in zip(merged, stacking.merge(*every, StackingConfig())):
        np.testing.assert_array_equal(ours, theirs)


def test_stack_puts_all_rules_together():
    scales = (Scale(400, 600, ValidRange(50, np.inf), None), Scale(800, 1200, ValidRange(0, 60), None))
    coarse = ScaleDetections(
        detections([[0, 0, 100, 100, 0.9, 0], [200, 200, 220, 220, 0.8, 1]]),  # the second is too small here
        np.array([0, 0]),
        np.array([[0, 0, 600, 400]], np.float32),
    )
    fine = ScaleDetections(
        detections([[205, 205, 225, 225, 0.7, 1], [103, 150, 140, 180, 0.6, 1], [0, 0, 96, 100, 0.5, 0]]),
        np.array([0, 0, 1]),  # interior; cut by the left side of its chip; out of range
        np.array([[100, 100, 300, 300], [0, 0, 100, 100]], np.float32),
    )
    merged, (first, second) = stacking.stack([coarse, fine], IMAGE, scales, StackingConfig())
    np.testing.assert_allclose(merged.boxes, [[0, 0, 100, 100], [205, 205, 225, 225]])
    np.testing.assert_array_equal(merged.labels, [0, 1])
    assert len(first.kept.scores) == 1 and len(first.removed.scores) == 0
    np.testing.assert_allclose(second.kept.scores, [0.7])
    np.testing.assert_allclose(second.removed.scores, [0.6])
