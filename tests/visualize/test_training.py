"""Panels of training chips: colours where they belong, on hand-drawn chips."""

import numpy as np
import pytest

from autofocus_jax.structures import BACKGROUND, FOCUS, IGNORE, ChipBatch, DetectorOutput, TrainBatch
from autofocus_jax.visualize import training as panels
from autofocus_jax.visualize.boxes import GREEN, GREY, MAGENTA, RED, YELLOW


@pytest.fixture
def batch():
    """Three chips of 64 px: 64x64 with three boxes and all labels; one that is not valid; 32x48 without boxes."""
    boxes = np.zeros((3, 4, 4), np.float32)
    boxes[0, :3] = [[8, 8, 24, 24], [32, 8, 56, 24], [8, 40, 24, 56]]
    labels = np.array([[1, 0, -1, 0], [0] * 4, [0] * 4], np.int32)
    present = np.array([[True, True, True, False], [False] * 4, [False] * 4])
    trainable = np.array([[True, False, False, False], [False] * 4, [False] * 4])
    focus = np.full((3, 4, 4), IGNORE, np.int8)
    focus[0] = BACKGROUND
    focus[0, 0, 0], focus[0, 3, 3] = FOCUS, IGNORE
    focus[2, :2, :3] = BACKGROUND
    pixels = np.full((3, 64, 64, 3), 128, np.uint8)
    chips = ChipBatch(pixels, np.array([[64, 64], [64, 64], [32, 48]], np.int32), np.array([True, False, True]))
    return TrainBatch(chips, boxes, labels, present, trainable, focus)


def at(tile, x, y):
    """Colour of a tile at a place in chip px."""
    zoom = tile.shape[0] / 64
    return tuple(int(value) for value in tile[round(y * zoom), round(x * zoom)])


def near(color, wanted):
    return np.abs(np.array(color) - wanted).max() <= 30


def test_boxes_have_the_colour_of_what_they_do(batch):
    tile = panels._boxes_tile(batch, 0, ())
    assert near(at(tile, 8, 16), GREEN) and near(at(tile, 32, 16), YELLOW) and near(at(tile, 8, 48), GREY)
    assert near(at(tile, 16, 16), (128, 128, 128))
    named = panels._boxes_tile(batch, 0, ("a", "b"))
    assert (named != tile).any() and near(at(named, 32, 16), YELLOW)


def test_labels_are_tinted_and_what_is_not_filled_is_dark(batch):
    tile = panels._labels_tile(batch, 0)
    red, blue, plain = at(tile, 8, 8), at(tile, 56, 56), at(tile, 24, 24)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50 and plain == (128, 128, 128)
    tile = panels._labels_tile(batch, 2)
    assert at(tile, 8, 8) == (128, 128, 128)
    assert near(at(tile, 8, 50), panels._VOID) and near(at(tile, 60, 8), panels._VOID)


def output(batch, **changes):
    count = len(batch.boxes)
    boxes = np.tile(np.array([[8, 8, 40, 40], [8, 8, 40, 41], [44, 44, 60, 60]], np.float32), (count, 1, 1))
    scores = np.zeros((count, 3, 2), np.float32)
    scores[:, :, 1] = [0.9, 0.8, 0.2]
    focus = np.zeros((count, 4, 4), np.float32)
    focus[:, 1, 3] = 1.0
    return DetectorOutput(boxes, scores, np.ones((count, 3), bool), focus)._replace(**changes)


def test_predictions(batch):
    tile = panels._output_tile(batch, output(batch), 0, (), 0.3)
    assert near(at(tile, 8, 30), MAGENTA)
    assert at(tile, 44, 52) == (128, 128, 128)  # a score too low
    tinted = at(tile, 56, 24)
    assert tinted[0] > tinted[2] + 50 and near(np.array(tinted), 0.45 * 128 + 0.55 * np.array(RED))
    none = panels._output_tile(batch, output(batch, valid=np.zeros((3, 3), bool)), 0, (), 0.3)
    assert at(none, 8, 30) == (128, 128, 128)


def test_a_column_for_each_valid_chip(batch):
    two, three = panels.panels(batch), panels.panels(batch, output(batch), ("a", "b"))
    assert two.dtype == np.uint8 and two.ndim == 3 and two.shape[2] == 3
    one = panels.panels(batch, count=1)
    assert one.shape[1] < two.shape[1] and two.shape[1] == three.shape[1] and three.shape[0] > two.shape[0]
    assert panels.first(batch, 5).chips.valid.tolist() == [True, True]
    np.testing.assert_array_equal(panels.first(batch, 1).boxes, batch.boxes[:1])


def test_no_valid_chip_and_values_that_are_not_finite(batch):
    empty = batch._replace(chips=batch.chips._replace(valid=np.zeros(3, bool)))
    assert panels.panels(empty, output(batch)).size
    broken = batch._replace(boxes=batch.boxes * np.nan)
    wild = output(batch, boxes=np.full((3, 3, 4), np.inf, np.float32), focus=np.full((3, 4, 4), np.nan, np.float32),
                  scores=np.full((3, 3, 2), np.nan, np.float32))  # fmt: skip
    assert panels.panels(broken, wild).shape == panels.panels(batch, output(batch)).shape
