"""A foreign detector inside the cascade."""

import threading

import numpy as np
import pytest

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.foreign.canvases import CanvasConfig
from autofocus_jax.foreign.detect import ForeignDetect, as_output
from autofocus_jax.foreign.found import CropDetector, ForeignError, Found, nothing
from autofocus_jax.structures import Bucket, ChipBatch, ChipRule, Placement, Scale, ValidRange
from autofocus_jax.where.weak import weak


def bright(fixed=None, score=lambda side: 0.9):
    """Finds one box around all bright pixels of a crop; `score` of its longer side, crop px."""

    def find(crops):
        found = []
        for crop in crops:
            ys, xs = np.nonzero(crop[..., 0] > 128)
            if not len(ys):
                found.append(nothing())
                continue
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            value = score(max(box[2] - box[0], box[3] - box[1]))
            found.append(Found(np.array([box], np.float32), np.array([value], np.float32), np.array([1], np.int32)))
        return found

    return CropDetector(find, fixed, 32, (7, 7, 7), ("a", "b"))


@pytest.mark.parametrize("fixed", [None, (96, 96)])
def test_weak_focus_finds_what_is_small_by_looking_again(fixed):
    """At scale 1 the object is seen weakly, and only at scale 2, in a small chip, well."""
    image = np.zeros((640, 960, 3), np.uint8)
    image[304:320, 512:536] = 255
    detector = bright(fixed, lambda side: 0.05 if side < 20 else 0.9)
    detect = ForeignDetect(detector, weak(32), CanvasConfig())
    scales = [
        Scale(160, 240, ValidRange(100, np.inf), ChipRule(0.02, 3, 16)),
        Scale(640, 960, ValidRange(0, 200), None),
    ]
    buckets = [Bucket(height, width, 4) for height in range(32, 672, 32) for width in range(32, 992, 32)]
    (found,), info, _ = cascade([image], scales, detect, buckets, StackingConfig())
    np.testing.assert_allclose(found.boxes, [[512, 304, 536, 320]])
    assert found.labels.tolist() == [1] and found.scores[0] == pytest.approx(0.9)
    assert info.chips.tolist() == [1, 1] and info.pixels[1] < 0.07 * 640 * 960
    assert detect.concurrency == 1 and detect.spent.pixels >= info.pixels.sum()
    if fixed:
        assert detect.spent.pixels == detect.spent.canvases * 96 * 96 and detect.spent.canvases >= 7


def batch_of(*crops, images=None):
    height, width = (max(crop.shape[axis] for crop in crops) for axis in (0, 1))
    pixels = np.zeros((len(crops) + 1, height, width, 3), np.uint8)
    size = np.zeros((len(crops) + 1, 2), np.int32)
    for row, crop in enumerate(crops):
        pixels[row, : crop.shape[0], : crop.shape[1]], size[row] = crop, crop.shape[:2]
    places = [
        Placement(image, 1, np.array([0, 0, 9, 9], np.float32), np.ones(2, np.float32))
        for image in (images or [0] * len(crops))
    ]
    return ChipBatch(pixels, size, np.arange(len(pixels)) < len(crops)), places


def test_chips_are_padded_with_the_detector_s_own_value_not_the_batch_s_zeros():
    seen = []
    detector = bright()._replace(find=lambda crops: seen.extend(crops) or [nothing() for _ in crops])
    ForeignDetect(detector)(*batch_of(np.full((20, 40, 3), 9, np.uint8), np.full((33, 32, 3), 9, np.uint8)))
    assert [crop.shape for crop in seen] == [(32, 64, 3), (64, 32, 3)]
    assert set(np.unique(seen[0][20:])) == {7} and set(np.unique(seen[0][:20, :40])) == {9}


def test_chips_of_different_images_never_share_a_canvas():
    detect = ForeignDetect(bright((96, 96)))
    crops = [np.zeros((20, 20, 3), np.uint8)] * 4
    detect(*batch_of(*crops, images=[0, 0, 1, 1]))
    assert detect.spent == (2, 2 * 96 * 96)


def test_sparse_answers_become_padded_arrays():
    found = [
        nothing(),
        Found(np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32), np.array([0.5, 0.25], np.float32), np.array([2, 0])),
    ]
    output = as_output(found, 3, ("a", "b", "c"))
    assert output.boxes.shape == (3, 2, 4) and output.valid.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert output.scores[1].tolist() == [[0, 0, 0.5], [0.25, 0, 0]] and output.boxes[1, 1].tolist() == [5, 6, 7, 8]
    assert as_output(found, 2, None).scores.shape == (2, 2, 3)


def test_without_a_where_the_focus_map_is_empty():
    output = ForeignDetect(bright())(*batch_of(np.full((40, 50, 3), 255, np.uint8)))
    assert output.focus.shape == (2, 3, 4) and not output.focus.any() and output.valid[0, 0]


def test_one_call_at_a_time():
    inside, most, entered = [], [], threading.Event()

    def find(crops):
        inside.append(1)
        most.append(len(inside))
        entered.wait(0.05)
        inside.pop()
        return [nothing() for _ in crops]

    detect = ForeignDetect(bright()._replace(find=find))
    threads = [threading.Thread(target=detect, args=batch_of(np.zeros((32, 32, 3), np.uint8))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1] and detect.spent.canvases == 4


def test_an_error_of_the_detector_ends_the_cascade():
    def find(crops):
        raise ForeignError("the callback raised")

    scales, buckets = [Scale(64, 64, ValidRange(0, 99), None)], [Bucket(64, 64, 1)]
    with pytest.raises(ForeignError, match="the callback raised"):
        cascade([np.zeros((64, 64, 3), np.uint8)], scales, ForeignDetect(bright()._replace(find=find)), buckets,
                StackingConfig())  # fmt: skip
