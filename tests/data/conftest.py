"""Three images with boxes of all sorts, and what the tests of the sources compare with."""

import cv2
import numpy as np
import pytest

from autofocus_jax.structures import AutoFocusError, GroundTruth, ImageInfo

CATEGORIES = ("person", "sign", "tooth brush", "zebra")


@pytest.fixture
def sample(memory_dataset):
    """A data set in memory: whole pixels, sixteenths and hundredths, an ignore region, an empty image, a border."""
    generator = np.random.default_rng(0)
    sizes = ((30, 40), (480, 640), (853, 1280))
    images = [cv2.blur(generator.integers(0, 256, (*size, 3), np.uint8), (9, 9)) for size in sizes]
    boxes = [
        [[0, 0, 40, 30], [1, 2, 3, 4]],
        [],
        [[10.0625, 20.5, 1279.9375, 400.25], [0.01, 7.77, 99.99, 853], [3, 5, 7, 9]],
    ]
    truths = [
        GroundTruth(np.array(boxes[0], np.float32), np.array([3, 0], np.int32), np.array([False, False])),
        GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool)),
        GroundTruth(np.array(boxes[2], np.float32), np.array([1, 2, 1], np.int32), np.array([False, False, True])),
    ]
    return memory_dataset(images, truths, CATEGORIES)


@pytest.fixture
def same():
    """same(data, wanted): whether two data sets have the same images, sizes, categories and ground truth, in order."""

    def check(data, wanted):
        assert data.categories == wanted.categories and len(data) == len(wanted) and data.dropped == 0
        for index in range(len(wanted)):
            image, truth = data[index]
            info = data.info(index)
            assert isinstance(info, ImageInfo) and (info.height, info.width) == image.shape[:2]
            np.testing.assert_array_equal(image, wanted.image(index))
            for mine, other in zip(truth, wanted.ground_truth(index), strict=True):
                assert mine.dtype == other.dtype
                np.testing.assert_array_equal(mine, other)

    return check


@pytest.fixture
def complaint():
    """complaint(function) -> the message of the AutoFocusError that it raises, which is one line."""

    def call(function):
        with pytest.raises(AutoFocusError) as caught:
            function()
        message = str(caught.value)
        assert "\n" not in message
        return message

    return call
