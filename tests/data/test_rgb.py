"""Images of every kind that Python has, as RGB."""

import numpy as np
import pytest
from PIL import Image

from autofocus_jax.data.rgb import as_rgb
from autofocus_jax.structures import ImageError

PICTURE = np.random.default_rng(3).integers(0, 255, (60, 90, 3), np.uint8)


def test_as_rgb():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    expected = np.stack([grey] * 3, axis=2)
    np.testing.assert_array_equal(as_rgb(grey), expected)
    np.testing.assert_array_equal(as_rgb(grey[..., None]), expected)
    np.testing.assert_array_equal(as_rgb(grey.astype(np.uint16) * 256 + 7), expected)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(grey)), expected)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(grey.astype(np.uint16) * 257)), expected)
    half = np.array([[[100, 0, 200, 0], [100, 0, 200, 255], [100, 0, 200, 51]]], np.uint8)  # transparency on white
    for image in (half, Image.fromarray(half)):
        np.testing.assert_array_equal(as_rgb(image), [[[255] * 3, [100, 0, 200], [224, 204, 244]]])
    palette = Image.fromarray(PICTURE).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(as_rgb(palette), np.asarray(palette.convert("RGB")))
    cmyk = Image.new("CMYK", (2, 1), (0, 255, 255, 0))
    np.testing.assert_array_equal(as_rgb(cmyk), [[[255, 0, 0]] * 2])


def test_orientation_of_pil_images_and_files(tmp_path):
    image = Image.fromarray(PICTURE)
    tag = Image.Exif()
    tag[274] = 6  # turn by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=tag)
    expected = np.rot90(PICTURE, -1)
    np.testing.assert_array_equal(as_rgb(Image.open(tmp_path / "a.png")), expected)
    np.testing.assert_array_equal(as_rgb(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pil_images_of_32_bits_are_refused_as_files_are(mode):
    """Pillow's own conversion makes everything above 255 white."""
    with pytest.raises(ImageError, match=f"32 bits .mode {mode}.; scale them to 8"):
        as_rgb(Image.new(mode, (4, 3), 1000))
