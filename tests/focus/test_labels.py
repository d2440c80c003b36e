import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.structures import BACKGROUND, FOCUS, IGNORE, FocusRange

RANGE = FocusRange(5, 64, 90)


def naive(boxes, height, width, a, b, c):
    """Section 4.1, cell by cell and box by box."""
    labels = np.zeros((-(-height // 16), -(-width // 16)), int)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            cell = (16 * column, 16 * row, min(16 * column + 16, width), min(16 * row + 16, height))
            answers = set()
            for x1, y1, x2, y2 in boxes.astype(float):
                if min(x2, cell[2]) > max(x1, cell[0]) and min(y2, cell[3]) > max(y1, cell[1]):
                    side = np.sqrt(np.float32(x2 - x1) * np.float32(y2 - y1))
                    if a < side < b:
                        answers.add(FOCUS)
                    elif side <= a or b <= side <= c:
                        answers.add(IGNORE)
            labels[row, column] = FOCUS if FOCUS in answers else IGNORE if IGNORE in answers else BACKGROUND
    return labels


quarter_px = st.integers(-160, 800).map(lambda n: n / 4)
box = st.tuples(quarter_px, quarter_px, st.integers(1, 500), st.integers(1, 500)).map(
    lambda b: (b[0], b[1], b[0] + b[2] / 4, b[1] + b[3] / 4)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(box, max_size=8), st.integers(1, 150), st.integers(1, 150))
def test_equals_the_formula_cell_by_cell(boxes, height, width):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = focus_labels(boxes, height, width, RANGE)
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, naive(boxes, height, width, 5, 64, 90))


@pytest.mark.parametrize(
    "side, label",
    [
        (4, IGNORE),
        (5, IGNORE),
        (6, FOCUS),
        (63, FOCUS),
        (64, IGNORE),
        (90, IGNORE),
        (91, BACKGROUND),
        (200, BACKGROUND),
    ],
)
def test_ends_of_the_ranges(side, label):
    labels = focus_labels(np.array([[0, 0, side, side]]), 224, 224, RANGE)
    cells = -(-side // 16)
    assert (labels[:cells, :cells] == label).all()
    assert (labels[cells:] == BACKGROUND).all() and (labels[:, cells:] == BACKGROUND).all()


def test_a_box_that_only_touches_a_cell_does_not_label_it():
    labels = focus_labels(np.array([[16, 16, 32, 32]]), 64, 64, RANGE)
    assert labels[1, 1] == FOCUS and np.count_nonzero(labels) == 1


def test_focus_wins_over_ignore_wins_over_background():
    boxes = np.array([[0, 0, 80, 80], [0, 0, 20, 20], [0, 0, 128, 128]])  # ignore, focus, background
    labels = focus_labels(boxes, 128, 128, RANGE)
    assert (labels[:2, :2] == FOCUS).all() and labels[4, 4] == IGNORE and labels[5, 5] == BACKGROUND


def test_no_boxes_and_one_pixel():
    np.testing.assert_array_equal(focus_labels(np.zeros((0, 4)), 1, 17, RANGE), [[0, 0]])
    np.testing.assert_array_equal(focus_labels(np.array([[-10, -10, 10, 10]]), 1, 1, RANGE), [[FOCUS]])


def test_empty_and_outside_boxes_label_nothing():
    boxes = np.array([[8, 8, 8, 40], [40, 40, 8, 8], [64, 0, 80, 16], [-20, 0, 0, 16]])
    assert not focus_labels(boxes, 64, 64, RANGE).any()


def test_size_of_the_uncut_box_counts():
    assert focus_labels(np.array([[-60, 0, 20, 80]]), 80, 80, RANGE)[0, 0] == IGNORE
    cut = np.array([[0, 0, 20, 80]])
    assert focus_labels(cut, 80, 80, RANGE)[0, 0] == FOCUS


def test_crowd_regions_are_ignore_unless_another_box_focuses():
    boxes = np.array([[0, 0, 200, 200], [16, 16, 40, 40], [100, 100, 110, 110]])
    labels = focus_labels(boxes, 208, 208, RANGE, ignore=np.array([True, False, True]))
    assert (labels[1:3, 1:3] == FOCUS).all() and labels[6, 6] == IGNORE and labels[12, 12] == IGNORE
    assert np.count_nonzero(labels == FOCUS) == 4


def test_other_strides():
    labels = focus_labels(np.array([[8, 0, 16, 16]]), 32, 32, RANGE, stride=8)
    expected = np.zeros((4, 4))
    expected[:2, 1] = FOCUS
    np.testing.assert_array_equal(labels, expected)
