import cv2
import numpy as np

from autofocus_jax.data import png

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 40, 4), np.uint8)
CONTENT = cv2.imencode(".png", PIXELS[..., :3])[1].tobytes()


def test_a_changed_byte_anywhere_shows():
    assert png.is_plain(CONTENT) and png.is_plain(CONTENT + b"what phones append")
    for place in range(8, len(CONTENT)):
        changed = bytearray(CONTENT)
        changed[place] ^= 1
        assert not png.is_plain(bytes(changed)), place


def test_a_part_is_not_whole():
    assert not any(png.is_plain(CONTENT[:length]) for length in range(26, len(CONTENT)))


def test_other_kinds_are_not_plain():
    for pixels in (PIXELS, PIXELS.astype(np.uint16)[..., :3]):
        assert not png.is_plain(cv2.imencode(".png", pixels)[1].tobytes())
    assert png.is_plain(cv2.imencode(".png", PIXELS[..., 0])[1].tobytes())
    assert not png.is_plain(cv2.imencode(".jpg", PIXELS[..., 0])[1].tobytes())
