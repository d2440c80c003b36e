"""Ways side by side: their order, what is counted and timed, and images that cannot be read."""

import time

import numpy as np
import pytest

from autofocus_jax.inference.comparison import Comparison, Way
from autofocus_jax.structures import STAGES, AutoFocusError, Cost, Detections, GroundTruth, ImageError, ImageInfo


class Images:
    """Images of one colour, their number; the second one cannot be read."""

    categories = ("thing",)

    def __init__(self, count=4, broken=(1,)):
        self.count, self.broken, self.read = count, broken, []

    def __len__(self):
        return self.count

    def image(self, index):
        self.read.append(index)
        time.sleep(0.01)
        if index in self.broken:
            raise ImageError(f"image {index} is broken")
        return np.full((20, 30, 3), index, np.uint8)

    def info(self, index):
        return ImageInfo(index, f"{index}.png", 20, 30)

    def ground_truth(self, index):
        return GroundTruth(np.array([[0, 0, 10, 10]], np.float32), np.zeros(1, np.int32), np.zeros(1, bool))


def way(log, name, *rows, score=0.9, seconds=0.0):
    found = Detections(np.array([[0, 0, 10, 10]], np.float32), np.array([score], np.float32), np.zeros(1, np.int32))
    one = np.ones(1, np.int64)
    cost = Cost(1, 600 * one, 600 * one, one, 700 * one, 2 * one, np.zeros(len(STAGES)))

    def share(key, image):
        log.append((name, key))
        assert (image == key).all()
        time.sleep(seconds)
        return found

    def finish(shared):
        time.sleep(seconds)
        return shared, cost

    return Way(share, dict.fromkeys(rows or (name,), finish))


def test_side_by_side():
    log, images = [], Images()
    comparison = Comparison(images, [way(log, "a"), way(log, "b", "b1", "b2", seconds=0.02)])
    ticks = []
    comparison.run([0, 1, 2], ticks.append)
    assert log[:2] == [("a", 0), ("b", 0)], "the first image is run once more, to warm up"
    assert log[2:] == [("a", 0), ("b", 0), ("b", 2), ("a", 2)], "each image begins with another way"
    assert images.read == [0, 1, 2] and ticks == [1, 1, 1] and comparison.images == 2
    comparison.run([3])
    assert log[6:] == [("a", 3), ("b", 3)] and comparison.images == 3
    measured = comparison.measurement("b2")
    assert measured.scores.ap == pytest.approx(100) and measured.run.indices == [0, 2, 3]
    assert (measured.cost.images, measured.cost.pixels.sum(), measured.cost.runs.sum()) == (3, 1800, 6)
    assert [one.file_name for one in measured.run.skipped] == ["1.png"]
    assert 3 * 0.04 <= measured.run.seconds < 3 * 0.2, "what rows share counts in each of them"
    assert comparison.measurement("a").run.seconds < 3 * 0.04
    assert comparison.reading >= 0.03


def test_what_cannot_be():
    with pytest.raises(AutoFocusError, match="two rows are called 'a'"):
        Comparison(Images(), [way([], "a"), way([], "b", "a")])
    comparison = Comparison(Images(1, (0,)), [way([], "a")])
    comparison.run([0])
    with pytest.raises(AutoFocusError, match="none of the images could be read; the first: image 0 is broken"):
        comparison.measurement("a")
