import cv2
import numpy as np
import pytest

from autofocus_jax.focus import pyramid
from autofocus_jax.structures import ImageError, Scale, ValidRange


def scale(min_side, max_side):
    return Scale(min_side, max_side, ValidRange(0, 1), None)


@pytest.mark.parametrize(
    "size, sides, expected",
    [
        ((480, 640), (480, 512), 512 / 640),  # 640 > 512: the longer side decides
        ((480, 512), (480, 512), 1.0),  # exactly max_side is allowed
        ((480, 640), (800, 1280), 800 / 480),
        ((640, 480), (800, 1280), 800 / 480),  # portrait alike
        ((375, 500), (1400, 2000), 1400 / 375),
        ((100, 1000), (480, 512), 0.512),
        ((1000, 1067), (480, 512), 0.48),  # 512.16 rounds to 512
        ((1000, 1068), (480, 512), 512 / 1068),  # 512.64 rounds to 513
    ],
)
def test_factor_follows_the_rule(size, sides, expected):
    assert pyramid.factor(*size, scale(*sides)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (333, 517), (480, 640)])
def test_whole_image_is_the_level(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for setting in (scale(48, 64), scale(200, 300)):
        factor = pyramid.factor(*size, setting)
        pixels, box, factors = pyramid.crop(image, np.array([0, 0, size[1], size[0]]), factor)
        assert pixels.shape[:2] == pyramid.level_size(*size, setting)
        assert max(pixels.shape[:2]) <= setting.max_side
        np.testing.assert_array_equal(box, [0, 0, size[1], size[0]])
        np.testing.assert_allclose(factors, [pixels.shape[1] / size[1], pixels.shape[0] / size[0]], rtol=1e-6)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        np.testing.assert_array_equal(pixels, cv2.resize(image, pixels.shape[1::-1], interpolation=how))


def test_crop_rounds_outward_and_stays_inside():
    image = np.arange(20 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(20, 30, 3)
    pixels, box, factors = pyramid.crop(image, np.array([-5.0, 2.9, 10.1, 7.0]), 1.0)
    np.testing.assert_array_equal(box, [0, 2, 11, 7])
    np.testing.assert_array_equal(pixels, image[2:7, 0:11])
    np.testing.assert_array_equal(factors, [1, 1])
    _, box, _ = pyramid.crop(image, np.array([25.5, 15.5, 99, 99]), 2.0)
    np.testing.assert_array_equal(box, [25, 15, 30, 20])


def test_corners_of_a_chip_project_to_corners_of_its_box():
    image = np.zeros((101, 203, 3), np.uint8)
    for factor in (0.37, 1.0, 2.6):
        pixels, box, factors = pyramid.crop(image, np.array([13, 7, 60, 50]), factor)
        np.testing.assert_allclose(np.array(pixels.shape[1::-1]) / factors + box[:2], box[2:], rtol=1e-6)


def test_one_pixel():
    pixels, _, factors = pyramid.crop(np.full((9, 9, 3), 7, np.uint8), np.array([4, 4, 5, 5]), 0.1)
    assert pixels.shape == (1, 1, 3) and pixels[0, 0, 0] == 7
    np.testing.assert_array_equal(factors, [1, 1])


def test_a_mark_is_found_where_it_was_put():
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:120, 150:210] = 255
    for factor in (0.5, 2.0, 3.3):
        pixels, box, factors = pyramid.crop(image, np.array([100, 50, 250, 170]), factor)
        rows, columns = np.nonzero(pixels[..., 0] > 127)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / np.tile(factors, 2)
        np.testing.assert_allclose(found + np.tile(box[:2], 2), [150, 80, 210, 120], atol=1 / factor)


@pytest.mark.parametrize("box", [[30, 0, 40, 10], [5, 5, 5, 9], [-9, 0, 0, 9]])
def test_box_without_pixels_is_one_clear_error(box):
    with pytest.raises(ImageError, match=r"holds no pixel of an image of 20x30"):
        pyramid.crop(np.zeros((20, 30, 3), np.uint8), np.array(box), 1.0)


@pytest.mark.parametrize(("size", "how"), [((95, 120), "area"), ((100, 120), "area"), ((110, 140), "linear"),
                                           ((95, 140), "linear")])  # fmt: skip
def test_sides_decide_how_a_chip_is_resized(size, how):
    """A chip that shrinks to fit a bucket becomes smaller at a factor of 1 too."""
    image = np.random.default_rng(2).integers(0, 256, (100, 125, 3), np.uint8)
    pixels, _, _ = pyramid.crop(image, np.array([0, 0, 125, 100]), 1.02, size)
    interpolation = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}[how]
    np.testing.assert_array_equal(pixels, cv2.resize(image, size[::-1], interpolation=interpolation))
