"""Damaged JPEG files are refused; whole ones give the pixels that Pillow gives, however little is in them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from autofocus_jax.data.image import decode_image
from autofocus_jax.structures import ImageError

RANDOM = np.random.default_rng(0)
PICTURE = cv2.resize(RANDOM.integers(0, 255, (20, 30, 3), np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC)
WHITE = np.full((1000, 1000, 3), 255, np.uint8)
KINDS = [{"quality": 92}, {"optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}]


def jpeg(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **options)
    return file.getvalue()


def damaged(content, lost, with_zeros):
    at = content.index(b"\xff\xda") + 14 + (len(content) - content.index(b"\xff\xda")) // 3
    return content[:at] + bytes(lost * with_zeros) + content[at + lost :]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize(("lost", "with_zeros"), [(300, True), (900, True), (900, False)])
def test_a_damaged_middle_is_refused(options, lost, with_zeros):
    content = jpeg(PICTURE, **options)
    assert decode_image(content, "good.jpg").shape == (200, 300, 3)
    with pytest.raises(ImageError, match=r"bad.jpg (is damaged: zeros lie|cannot be decoded .* damaged)"):
        decode_image(damaged(content, lost, with_zeros), "bad.jpg")


@pytest.mark.parametrize("options", [*KINDS, {"subsampling": 0}, {"keep_rgb": True}, {"exif": b"Exif\0\0" + bytes(99)}])
@pytest.mark.parametrize("picture", [PICTURE, PICTURE[..., 0], WHITE, WHITE[..., 0], 0 * WHITE,
                                     np.vstack([PICTURE, WHITE[:, :300]])])  # fmt: skip
def test_whole_files_are_what_pillow_reads(options, picture):
    """Flat pictures hold long runs of zeros where the tables are optimal, or in a progressive file."""
    content = jpeg(picture, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(decode_image(content, "a.jpg"), expected)
    for more in (b"a film of the moment before", bytes(999)):
        assert np.array_equal(decode_image(content + more, "a.jpg"), expected)


def test_a_few_bytes_before_the_end_are_harmless():
    content = jpeg(PICTURE)
    longer = content[:-2] + b"\1" * 5 + content[-2:]
    assert np.array_equal(decode_image(longer, "a.jpg"), decode_image(content, "a.jpg"))


def test_cmyk_is_pillows():
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert("CMYK").save(file, "JPEG")
    assert np.abs(decode_image(file.getvalue(), "a.jpg").astype(int) - PICTURE).mean() < 5
