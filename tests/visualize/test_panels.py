"""Pictures: the right colours in the right places, on drawn input."""

import math

import numpy as np
import pytest

from autofocus_jax.focus.cascade import Stage
from autofocus_jax.structures import ChipRule, Detections, Scale, ValidRange
from autofocus_jax.visualize import boxes, panels

GREY = np.full((240, 480, 3), 100, np.uint8)  # tiles of it are 480 x 960: twice as large
SCALES = (Scale(120, 240, ValidRange(0, math.inf), ChipRule(0.5, 1, 16)), Scale(240, 480, ValidRange(0, 90), None))
CHIP = np.array([[200, 40, 400, 200]], np.float32)


def detections(boxes=(), scores=()):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.asarray(scores, np.float32), np.zeros(len(boxes), np.int32))


def is_color(pixels, color):
    return (np.abs(pixels.astype(int) - np.array(color)) < 40).all(axis=-1)


def test_draw_boxes_leaves_the_image_alone():
    before = GREY.copy()
    picture = boxes.draw_boxes(GREY, np.array([[50, 60, 150, 120]]), thickness=1)
    np.testing.assert_array_equal(GREY, before)
    drawn = np.argwhere(is_color(picture, boxes.GREEN))
    assert drawn.min(axis=0).tolist() == [60, 50] and drawn.max(axis=0).tolist() == [119, 149]
    assert (picture[70:110, 60:140] == 100).all()


@pytest.mark.parametrize("box", [[0, 0, 20, 20], [470, 230, 480, 240], [-50, -50, 600, 400], [30, 30, 30, 30]])
def test_draw_boxes_at_the_borders(box):
    picture = boxes.draw_boxes(GREY, np.array([box]), np.array([1]), np.array([0.5]), ["a", "a long name"])
    assert picture.shape == GREY.shape and (picture != GREY).any()


def test_captions_grow_with_the_lines():
    heights = []
    for thickness in (1, 2, 6):
        picture = boxes.draw_boxes(GREY, np.array([[90, 120, 91, 121]]), np.array([0]), None, ["a"],
                                       thickness=thickness)  # fmt: skip
        ground = np.argwhere((picture == 20).all(axis=-1))
        heights.append(np.ptp(ground[:, 0]))
    assert heights[0] == heights[1] and 2.5 < heights[2] / heights[1] < 3.5


def test_draw_no_boxes():
    np.testing.assert_array_equal(boxes.draw_boxes(GREY, np.zeros((0, 4))), GREY)


def test_stage_tile():
    focus = np.zeros((10, 10), np.float32)
    focus[:5, :5] = 1  # the upper left quarter of the chip
    removed = detections([[300, 150, 340, 199]], [0.9])
    kept = detections([[320, 60, 380, 100], [210, 130, 250, 180]], [0.9, 0.1])
    tile = panels.stage_tile(GREY, Stage(CHIP, (focus,), kept, removed))
    assert tile.shape == (480, 960, 3)
    assert tile[400, 100].max() < 40  # not processed
    assert tile[350, 500].tolist() == [75, 75, 75]  # processed
    red, plain = tile[120, 440].astype(int), tile[300, 440].astype(int)
    assert red[0] > 100 > red[1] and (plain == 75).all()
    assert is_color(tile[80, 440], boxes.YELLOW) and is_color(tile[200, 400], boxes.YELLOW)
    assert is_color(tile[120, 700], boxes.GREEN) and is_color(tile[300, 640], boxes.MAGENTA)
    assert not is_color(tile[250:370, 415:510], boxes.GREEN).any()  # below the score


def test_a_stage_without_chips_is_dark():
    tile = panels.stage_tile(GREY, Stage(np.zeros((0, 4), np.float32), (), detections(), detections()))
    assert tile.max() < 40


def test_result_tile_over_ground_truth(truth):
    found, wanted = [[20, 60, 100, 140]], [[200, 60, 280, 140]]
    tile = panels.result_tile(GREY, detections(found, [0.8]), ["a"], truth(wanted, [0]))
    assert is_color(tile[200, 40], boxes.GREEN) and is_color(tile[200, 400], boxes.WHITE)
    assert not is_color(panels.result_tile(GREY, detections(found, [0.8]), ["a"])[200, 400], boxes.WHITE)


def test_panel(truth):
    whole = np.array([[0, 0, 480, 240]], np.float32)
    stages = [
        Stage(whole, (np.zeros((8, 15), np.float32),), detections(), detections()),
        Stage(CHIP, (), detections([[300, 60, 340, 100]], [0.9]), detections()),
    ]
    picture = panels.panel(GREY, stages, SCALES, detections([[300, 60, 340, 100]], [0.9]), ["a"], truth())
    height, width, channels = picture.shape
    assert channels == 3 and picture.dtype == np.uint8 and width > 3 * 480 and height > 200
    yellow = np.flatnonzero(is_color(picture, boxes.YELLOW).any(axis=0))
    assert yellow.min() < width / 3 and width / 3 < yellow.max() < 2 * width / 3
    title = panels._title(GREY, 2, stages[1], SCALES[1])
    assert title == "scale 2: 1 chip, 32k px (28% of 480x240)"
    with pytest.raises(ValueError, match="zip"):
        panels.panel(GREY, stages[:1], SCALES, detections(), ["a"])
