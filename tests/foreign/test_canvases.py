"""Canvases: every pixel of a chip lies on one of them, and boxes come back exactly."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from autofocus_jax.focus.pyramid import Part
from autofocus_jax.foreign import canvases
from autofocus_jax.foreign.canvases import CanvasConfig, find_in_chips
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.structures import Detections

CANVAS = (40, 56)
SIDES = st.tuples(st.integers(1, 100), st.integers(1, 130))
CONFIGS = st.builds(CanvasConfig, gutter=st.integers(0, 9), grid=st.integers(1, 40), overlap=st.floats(0, 0.6),
                    packed=st.booleans())  # fmt: skip


@hypothesis.given(st.lists(SIDES, max_size=12), CONFIGS)
def test_pieces_cover_each_chip_and_never_overlap(sizes, config):
    pieces = canvases.arrange(sizes, CANVAS, config)
    times = [np.zeros(size, int) for size in sizes]
    taken = [np.zeros(CANVAS, bool) for _ in range(1 + max((piece.canvas for piece in pieces), default=-1))]
    for piece in pieces:
        x1, y1, x2, y2 = piece.box
        place = slice(piece.y, piece.y + y2 - y1), slice(piece.x, piece.x + x2 - x1)
        assert piece.y >= 0 and piece.x >= 0 and place[0].stop <= CANVAS[0] and place[1].stop <= CANVAS[1]
        near = (
            slice(max(0, piece.y - config.gutter), place[0].stop),
            slice(max(0, piece.x - config.gutter), place[1].stop),
        )
        assert not taken[piece.canvas][near].any(), "pieces overlap, or the gutter is missing"
        assert piece.x % config.grid == piece.y % config.grid == 0
        taken[piece.canvas][place] = True
        times[piece.chip][y1:y2, x1:x2] += 1
    for size, count in zip(sizes, times):
        fits = size[0] <= CANVAS[0] and size[1] <= CANVAS[1]
        assert (count == 1).all() if fits else (count >= 1).all()
    assert all(canvas.any() for canvas in taken), "a canvas is empty"


@hypothesis.given(st.lists(SIDES, max_size=12), CONFIGS)
def test_painted_pixels_are_those_of_the_chips(sizes, config):
    chips = [
        np.stack([*np.mgrid[:height, :width], np.full((height, width), number)], axis=2).astype(np.uint8)
        for number, (height, width) in enumerate(sizes)
    ]
    pieces = canvases.arrange(sizes, CANVAS, config)
    painted = canvases.paint(chips, pieces, CANVAS, (255, 254, 253))
    left = [np.ones(CANVAS, bool) for _ in painted]
    for piece in pieces:
        x1, y1, x2, y2 = piece.box
        place = slice(piece.y, piece.y + y2 - y1), slice(piece.x, piece.x + x2 - x1)
        np.testing.assert_array_equal(painted[piece.canvas][place], chips[piece.chip][y1:y2, x1:x2])
        left[piece.canvas][place] = False
    for canvas, rest in zip(painted, left):
        assert (canvas[rest] == (255, 254, 253)).all()


@hypothesis.given(st.lists(st.tuples(st.integers(12, 100), st.integers(12, 130)), min_size=1, max_size=8), st.data())
def test_boxes_come_back_exactly(sizes, data):
    """A detector that sees a mark of one colour, wherever it lies on a canvas."""
    chips, marks = [np.zeros((*size, 3), np.uint8) for size in sizes], []
    for chip in chips:
        x, y = (data.draw(st.integers(0, side - 3)) for side in (chip.shape[1], chip.shape[0]))
        chip[y : y + 3, x : x + 3] = 200
        marks.append([x, y, x + 3, y + 3])
    config = CanvasConfig(gutter=1, overlap=0.4, tolerance=1)  # marks do not touch; windows share 16 px, a mark's whole
    found, spent = find_in_chips(marked_detector(CANVAS), chips, config)
    for answer, mark in zip(found, marks):
        np.testing.assert_allclose(answer.boxes, [mark])
    assert spent.pixels == spent.canvases * CANVAS[0] * CANVAS[1] >= sum(h * w for h, w in sizes)


def marked_detector(fixed):
    """Finds each connected patch that is bright."""
    from scipy import ndimage

    def find(crops):
        found = []
        for crop in crops:
            assert fixed is None or crop.shape[:2] == fixed
            labels, _ = ndimage.label(crop[..., 0] == 200, np.ones((3, 3)))
            boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
            count = len(boxes)
            boxes = np.array(boxes, np.float32).reshape(-1, 4)
            found.append(Detections(boxes, np.full(count, 0.5, np.float32), np.zeros(count, np.int32)))
        return found

    return CropDetector(find, fixed, 32, (114, 114, 114), ("mark",))


def test_what_an_inner_border_cuts_is_dropped_and_the_chip_s_own_border_is_kept():
    chip = np.zeros((40, 100, 3), np.uint8)  # windows at x = 0..56 and 44..100
    chip[:, 30:80] = 200  # each window sees a part that its border cuts
    assert len(find_in_chips(marked_detector(CANVAS), [chip], CanvasConfig())[0][0].boxes) == 0
    chip[:] = 0
    chip[10:20, 90:100] = 200  # touches the chip's own right border
    chip[0:5, 0:5] = 200
    (found,), spent = find_in_chips(marked_detector(CANVAS), [chip], CanvasConfig())
    assert sorted(found.boxes.tolist()) == [[0, 0, 5, 5], [90, 10, 100, 20]] and spent.canvases == 2


def test_what_two_windows_see_is_found_once():
    chip = np.zeros((40, 100, 3), np.uint8)
    chip[10:14, 48:52] = 200  # whole in both windows
    (found,), _ = find_in_chips(marked_detector(CANVAS), [chip], CanvasConfig(tolerance=1))
    assert found.boxes.tolist() == [[48, 10, 52, 14]] and found.scores.tolist() == [0.5]


def test_a_box_between_two_chips_belongs_to_none_and_one_over_the_edge_is_cut():
    def find(crops):
        boxes = np.array([[19, 2, 25, 6], [12, 2, 26, 6]], np.float32)  # centres at 22, in the gutter, and 19
        return [Detections(boxes, np.full(2, 0.5, np.float32), np.zeros(2, np.int32)) for _ in crops]

    detector = CropDetector(find, CANVAS, 32, (114, 114, 114), None)
    chips = [np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)]
    found, spent = find_in_chips(detector, chips, CanvasConfig(gutter=8))
    assert spent.canvases == 1
    assert [answer.boxes.tolist() for answer in found] == [[[12, 2, 20, 6]], []]


def test_packing_takes_fewer_canvases():
    sizes = [(18, 20)] * 8
    assert max(piece.canvas for piece in canvases.arrange(sizes, CANVAS, CanvasConfig(gutter=2, grid=1))) == 1
    assert max(piece.canvas for piece in canvases.arrange(sizes, CANVAS, CanvasConfig(packed=False))) == 7


def test_a_detector_of_any_shape_gets_chips_padded_to_its_multiple():
    shapes = []

    def find(crops):
        shapes.extend(crop.shape for crop in crops)
        assert (crops[0][33:] == 77).all() and (crops[0][:33, 40:] == 77).all()
        return [Detections.none() for _ in crops]

    detector = CropDetector(find, None, 32, (77, 77, 77), None)
    found, spent = find_in_chips(detector, [np.zeros((33, 40, 3), np.uint8), np.zeros((64, 32, 3), np.uint8)])
    assert shapes == [(64, 64, 3), (64, 32, 3)] and len(found) == 2
    assert spent == (2, 64 * 64 + 64 * 32, 33 * 40 + 64 * 32)


def test_a_chip_too_large_for_one_run_is_cut_into_windows():
    chips = [np.zeros((60, 70, 3), np.uint8), np.zeros((150, 300, 3), np.uint8)]
    places = [(0, 0), (1, 1), (100, 60), (140, 297)]  # y, x; 64 px a window, less than 13 apart
    for y, x in places[1:]:
        chips[1][y : y + 3, x : x + 3] = 200
    chips[0][5:8, 9:12] = 200
    seen = []
    detector = marked_detector(None)

    def find(crops):
        seen.extend(crop.shape[:2] for crop in crops)
        return detector.find(crops)

    config = CanvasConfig(largest=128, tolerance=1)
    found, spent = find_in_chips(detector._replace(find=find), chips, config)
    assert found[0].boxes.tolist() == [[9, 5, 12, 8]]
    assert sorted(map(tuple, found[1].boxes.tolist())) == sorted((x, y, x + 3, y + 3) for y, x in places[1:])
    assert seen[0] == (64, 96) and set(seen[1:]) == {(64, 64)} and spent.canvases == len(seen)
    assert len(find_in_chips(detector, chips, CanvasConfig(largest=256))[0][1].boxes) == 3


@pytest.mark.parametrize("fixed", [CANVAS, None])
def test_no_more_canvases_are_held_at_once_than_fit(monkeypatch, fixed):
    """Parts of an image that is never whole are read for some canvases at a time, with the same answers."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[::40, ::40] = image[1::40, ::40] = 200

    class Stored:
        shape = image.shape

        def read(self, box, size):
            x1, y1, x2, y2 = map(int, box)
            return image[y1:y2, x1:x2]

    held = []
    detector = marked_detector(fixed)

    def find(crops):
        held.append(sum(crop.shape[0] * crop.shape[1] for crop in crops))
        return detector.find(crops)

    boxes = [np.array(box) for box in ((0, 0, 200, 150), (210, 10, 230, 290), (240, 100, 400, 300))]
    sizes = [(int(y2 - y1), int(x2 - x1)) for x1, y1, x2, y2 in boxes]
    parts = [Part(Stored(), box, size) for box, size in zip(boxes, sizes)]
    arrays = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]
    config = CanvasConfig(largest=64)
    expected, _ = find_in_chips(detector, arrays, config)
    monkeypatch.setattr(canvases, "_AT_ONCE", 3 * 64 * 64)
    found, spent = find_in_chips(detector._replace(find=find), parts, config)
    assert max(held) <= 5 * 64 * 64 and len(held) > 2 and sum(held) == spent.pixels
    for one, other in zip(found, expected, strict=True):
        for field, same in zip(one, other):
            np.testing.assert_array_equal(field, same)


def test_small_chips_go_to_the_detector_together():
    calls = []
    detector = marked_detector(None)
    counted = detector._replace(find=lambda crops: calls.append(len(crops)) or detector.find(crops))
    find_in_chips(counted, [np.zeros((128, 128, 3), np.uint8)] * 16)
    assert calls == [16]


def test_windows_follow_each_other_and_end_at_the_border():
    assert canvases.windows((40, 130), CANVAS, 0.25) == [(0, 0, 56, 40), (42, 0, 98, 40), (74, 0, 130, 40)]
    assert canvases.windows((50, 30), CANVAS, 0.2) == [(0, 0, 30, 40), (0, 10, 30, 50)]


@pytest.mark.parametrize("wrong", [{"gutter": -1}, {"grid": 0}, {"overlap": 1}, {"nms_iou": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ForeignError, match=next(iter(wrong))):
        CanvasConfig(**wrong)


def test_fill_is_the_share_of_canvases_that_shows_chips():
    detector = CropDetector(lambda crops: [Detections.none() for _ in crops], CANVAS, 32, (0, 0, 0), None)
    chips = [np.zeros((40, 70, 3), np.uint8), np.zeros((10, 56, 3), np.uint8)]
    _, spent = find_in_chips(detector, chips)
    assert spent.canvases == 3, "two windows of 40x56, of which 42 columns are in both, and the small chip"
    assert spent.fill == pytest.approx((2 * 40 * 56 + 10 * 56) / (3 * 40 * 56))
    assert (spent + spent).fill == spent.fill
