"""Slices and the whole photograph: where they lie, what they cost, how they are merged."""

import numpy as np
import pytest

from autofocus_jax.config import StackingConfig
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.slices import SliceConfig, merge_by_ranges, merge_plainly, sliced, whole
from autofocus_jax.structures import Detections, ValidRange

MERGING = StackingConfig(border_tolerance=2, score_threshold=0.01, max_detections=100, nms_iou=0.6)


def white_finder(fixed=None, seen=None):
    """A detector of one box around all white pixels of a crop, its score their share of 20x20 px."""

    def find(crops):
        found = []
        for crop in crops:
            if seen is not None:
                seen.append(crop.shape[:2])
            ys, xs = np.nonzero(crop[..., 0] > 127)
            rows = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]] if len(xs) else []
            scores = [min(1.0, len(xs) / 400)] if len(xs) else []
            found.append(Detections(np.array(rows, np.float32).reshape(-1, 4), np.array(scores, np.float32),
                               np.zeros(len(rows), np.int32)))  # fmt: skip
        return found

    return CropDetector(find, fixed, 32, (114, 114, 114), ("white",))


def photograph(x=100, y=40, size=(120, 200)):
    image = np.zeros((*size, 3), np.uint8)
    image[y : y + 20, x : x + 20] = 255
    return image


def test_slices_are_sahi_s():
    """Starts of 64 px slices with an overlap of 0.2 (step 52): 0 and 56 of 120 px, 0, 52, 104, 136 of 200 px."""
    seen = []
    part = sliced(white_finder(seen=seen), photograph(), SliceConfig(64))
    assert [tuple(chip[:2]) for chip in part.found.chips] == [(x, y) for y in (0, 52, 56) for x in (0, 52, 104, 136)]
    assert seen == [(64, 64)] * 12 and part.spent == (12, 12 * 64 * 64) and part.pixels == 12 * 64 * 64


def test_a_slice_is_padded_to_its_square():
    seen = []
    part = sliced(white_finder(seen=seen), photograph(size=(90, 200)), SliceConfig(100))
    assert seen == [(128, 128)] * 3 and part.pixels == 3 * 90 * 100 and part.spent == (3, 3 * 128 * 128)


def test_boxes_come_back_and_duplicates_and_pieces_are_merged():
    image = photograph(x=100, y=20)  # in the slices of x 52..116 and 104..168 in parts
    part = sliced(white_finder(), image, SliceConfig(64))
    plain = merge_plainly([part], MERGING)
    assert sorted(plain.boxes[:, [0, 2]].tolist()) == [[100, 116], [104, 120]], "two pieces, too different for NMS"
    at_once = whole(white_finder(), image, 200)
    ranges = ValidRange(0, 100), ValidRange(0, 100)
    (box,) = merge_by_ranges([at_once, part], (120, 200), ranges, MERGING).boxes
    assert box.tolist() == [100, 20, 120, 40], "what a border cuts is dropped"
    assert not len(merge_by_ranges([at_once, part], (120, 200), (ValidRange(50, 100),) * 2, MERGING).boxes)


def test_a_level_of_another_size():
    part = sliced(white_finder(), photograph(x=84, y=40), SliceConfig(128, level=400))
    best = merge_plainly([part], MERGING)
    assert best.boxes[0] == pytest.approx([84, 40, 104, 60], abs=1)
    assert part.found.chips[-1].tolist() == [200 - 64, 120 - 64, 200, 120]


def test_the_whole_photograph():
    seen = []
    free = whole(white_finder(seen=seen), photograph(), 100)
    assert seen == [(60, 100)] and free.pixels == 6000 and free.spent == (1, 64 * 128), "padded to multiples of 32"
    assert free.found.detections.boxes[0] == pytest.approx([100, 40, 120, 60], abs=2)
    seen.clear()
    square = whole(white_finder(seen=seen), photograph(), 100, square=True)
    assert seen == [(128, 128)] and square.pixels == 6000 and square.spent == (1, 128 * 128), "padded to a square"
    assert square.found.detections.boxes.tolist() == free.found.detections.boxes.tolist()
    seen.clear()
    fixed = whole(white_finder((64, 64), seen), photograph(), 100)
    assert seen == [(120, 200)], "a fixed input resizes it its own way"
    assert (fixed.pixels, fixed.spent) == (64 * 64, (1, 64 * 64))


def test_what_makes_no_sense():
    with pytest.raises(ForeignError, match="at least 1 px, got 0"):
        SliceConfig(0)
    with pytest.raises(ForeignError, match=r"overlap must be in \[0, 1\), got 1"):
        SliceConfig(64, overlap=1)
