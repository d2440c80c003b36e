"""The engine reads ahead in bounded windows, keeps the order, and survives images that cannot be read."""

import threading

import numpy as np
import pytest

from autofocus_jax.inference.engine import run
from autofocus_jax.structures import AutoFocusError, CascadeInfo, Detections


def picture(number):
    return np.full((4, 5, 3), number, np.uint8)


def answer(image):
    """Detections that tell which image they are of."""
    return Detections(np.zeros((1, 4), np.float32), np.array([float(image[0, 0, 0])]), np.zeros(1, np.int32))


def recording_cascade(windows):
    def cascade(images):
        windows.append([int(image[0, 0, 0]) for image in images])
        cost = np.array([len(images), 10 * len(images)])
        return [answer(image) for image in images], CascadeInfo(len(images), cost, cost, cost, cost), []

    return cascade


@pytest.mark.parametrize("window", [1, 2, 3, 7, 50])
def test_order_windows_and_sums(memory_dataset, window):
    data = memory_dataset([picture(number) for number in range(9)], [None] * 9)
    indices = [8, 1, 5, 0, 3, 2, 7]
    windows, steps = [], []
    result = run(data, indices, recording_cascade(windows), window, steps.append)
    assert result.indices == indices and [int(found.scores[0]) for found in result.detections] == indices
    assert [image for part in windows for image in part] == indices
    assert all(len(part) == window for part in windows[:-1]) and len(windows) == -(-7 // window)
    assert steps == [len(part) for part in windows]
    assert result.info.images == 7 and result.info.chips.tolist() == [7, 70] and result.seconds > 0
    assert result.skipped == []


def test_corrupt_images_are_skipped_and_named(memory_dataset):
    images = [None if number in (0, 3, 4) else picture(number) for number in range(6)]
    windows, steps = [], []
    result = run(memory_dataset(images, [None] * 6), range(6), recording_cascade(windows), 2, steps.append)
    assert result.indices == [1, 2, 5] and windows == [[1, 2], [5]]
    assert [(item.index, item.file_name) for item in result.skipped] == [(0, "0.png"), (3, "3.png"), (4, "4.png")]
    assert "cannot be decoded" in result.skipped[0].reason and sum(steps) == 6


def test_no_image_can_be_read(memory_dataset):
    windows = []
    result = run(memory_dataset([None, None], [None] * 2), range(2), recording_cascade(windows), 4)
    assert result.info is None and result.detections == [] and len(result.skipped) == 2 and windows == []
    assert run(memory_dataset([], []), [], recording_cascade(windows), 4).indices == []


def test_reads_ahead_but_not_far(memory_dataset):
    """While a window runs the next is read, and never more than two windows are held."""
    started, window, next_is_read = [], 4, threading.Event()

    class Counting(memory_dataset):
        def image(self, index):
            started.append(index)
            if len(started) >= 2 * window - 1:
                next_is_read.set()
            return super().image(index)

    seen = []

    def cascade(images):
        if not seen:
            assert next_is_read.wait(20), "the next window was not read while this one ran"
        seen.append(len(images))
        assert len(started) <= (len(seen) + 1) * window
        return recording_cascade([])(images)

    data = Counting([picture(number) for number in range(20)], [None] * 20)
    assert run(data, range(20), cascade, window).indices == list(range(20))


@pytest.mark.parametrize("error", [KeyboardInterrupt, AutoFocusError])
def test_other_errors_end_the_run_and_its_threads(memory_dataset, error):
    before = threading.active_count()

    def cascade(images):
        raise error("stop")

    with pytest.raises(error, match="stop"):
        run(memory_dataset([picture(0)] * 30, [None] * 30), range(30), cascade, 4)
    assert threading.active_count() == before


def test_an_error_of_reading_that_is_not_the_images_is_raised(memory_dataset):
    class Broken(memory_dataset):
        def image(self, index):
            raise IndexError("a mistake in the program")

    with pytest.raises(IndexError, match="a mistake"):
        run(Broken([None], [None]), range(1), recording_cascade([]), 4)
