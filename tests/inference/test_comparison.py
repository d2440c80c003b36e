"""Ways side by side: their order, what is counted and timed, and images that cannot be read."""

from types import SimpleNamespace

import numpy as np
import pytest

from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import comparison as comparison_module
from autofocus_jax.inference.comparison import Comparison, Way, by_plan, one_by_one
from autofocus_jax.structures import (
    STAGES,
    AutoFocusError,
    Cost,
    Detections,
    DetectorError,
    GroundTruth,
    ImageError,
    ImageInfo,
    Scale,
    ValidRange,
)


class Clock:
    """A clock that only moves when it is told to."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(comparison_module, "time", SimpleNamespace(**dict.fromkeys(
        ("perf_counter", "process_time", "thread_time"), clock.perf_counter)))  # fmt: skip
    return clock


class Images:
    """Images of one colour, their number; the second one cannot be read."""

    categories = ("thing",)

    def __init__(self, count=4, broken=(1,), clock=None):
        self.count, self.broken, self.read, self.clock = count, broken, [], clock or Clock()

    def __len__(self):
        return self.count

    def image(self, index):
        self.read.append(index)
        self.clock.pass_by(0.5)
        if index in self.broken:
            raise ImageError(f"image {index} is broken")
        return np.full((20, 30, 3), index, np.uint8)

    def info(self, index):
        return ImageInfo(index, f"{index}.png", 20, 30)

    def ground_truth(self, index):
        return GroundTruth(np.array([[0, 0, 10, 10]], np.float32), np.zeros(1, np.int32), np.zeros(1, bool))


def way(log, name, *rows, seconds=0.0, clock=None):
    found = Detections(np.array([[0, 0, 10, 10]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32))
    one, clock = np.ones(1, np.int64), clock or Clock()
    cost = Cost(1, 600 * one, 600 * one, one, 700 * one, 2 * one, np.zeros(len(STAGES)))

    def process(image):
        log.append((name, int(image[0, 0, 0])))
        clock.pass_by(seconds)
        return found

    def finish(shared):
        clock.pass_by(seconds)
        return shared, cost

    return Way(one_by_one(process), dict.fromkeys(rows or (name,), finish))


def test_side_by_side(clock, monkeypatch):
    monkeypatch.setattr(comparison_module, "BLOCK", 3)
    log, images = [], Images()
    comparison = Comparison(images, [way(log, "a", clock=clock), way(log, "b", "b1", "b2", seconds=2, clock=clock)])
    ticks = []
    comparison.run([0, 1, 2], ticks.append)
    assert log == [("a", 0), ("a", 2), ("b", 0), ("b", 2)], "each way runs over a block"
    assert images.read.count(0) == 2, "each way reads anew"
    assert sum(ticks) == 3 and len(ticks) == 6 and comparison.images == 2
    comparison.run([3])
    assert log[4:] == [("b", 3), ("a", 3)], "each block begins with another way"
    assert comparison.images == 3
    measured = comparison.measurement("b2")
    assert measured.scores.ap == pytest.approx(100) and measured.run.indices == [0, 2, 3]
    assert (measured.cost.images, measured.cost.pixels.sum(), measured.cost.runs.sum()) == (3, 1800, 6)
    assert [one.file_name for one in measured.run.skipped] == ["1.png"]
    assert measured.run.seconds == 3 * 4, "what rows share counts in each of them"
    assert comparison.measurement("a").run.seconds == 0 and comparison.running == 3 * 6
    assert comparison.fill("a") == pytest.approx(600 / 700)


def test_reading_counts_in_each_row(clock):
    images = Images(1, (), clock)
    comparison = Comparison(images, [way([], "a", clock=clock), way([], "b", seconds=2, clock=clock)])
    comparison.run([0])
    assert (comparison.measurement("a").run.seconds, comparison.measurement("b").run.seconds) == (0.5, 4.5)
    assert comparison.running == 5 and comparison.reading == 0.5, "of one way"
    assert (comparison.cpu("a"), comparison.cpu("b")) == (0, 4), "processor time is told without that of reading"
    assert comparison.reading_cpu == 0.5


def test_what_cannot_be():
    with pytest.raises(AutoFocusError, match="two rows are called 'a'"):
        Comparison(Images(), [way([], "a"), way([], "b", "a")])
    comparison = Comparison(Images(1, (0,)), [way([], "a")])
    comparison.run([0])
    with pytest.raises(AutoFocusError, match="none of the images could be processed; the first: image 0 is broken"):
        comparison.measurement("a")


def test_an_image_that_a_detector_fails_on_counts_in_no_row():
    def detect(crops, placements):
        raise DetectorError("no luck")

    plan = Plan((Scale(20, 30, ValidRange(0, 100), None),), Loose())
    comparison = Comparison(Images(9, ()), [way([], "a"), by_plan("b", detect, plan)])
    comparison.run([0, 1])
    assert comparison.images == 0 and comparison.detections("a") == []
    assert [one.file_name for one in comparison.skipped] == ["0.png", "1.png"]
    assert all("no luck" in one.reason for one in comparison.skipped)
    with pytest.raises(DetectorError, match=r"failed on each of the first 8 images, at last: .*no luck"):
        comparison.run(range(2, 9))
