"""Pictures inside a page: JPEGs of bounded size, enlarged crops, and focus maps as PNGs."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

import cv2
import numpy as np

from autofocus_jax.report.values import FocusMap, Mark
from autofocus_jax.structures import AutoFocusError

BUDGET = 36 * 2**20  # bytes of all JPEGs of a page
MOST = 500  # photographs of a page
CROPS = 12  # of a photograph, at most
_LARGEST = 400_000  # bytes of one photograph
_SIDES = 64, 2048  # least and largest longer side of a photograph, px
_CROP = 168  # side of a crop, px
_LEAST = 48  # image px, least side of what a crop shows
_QUALITY = 80
_FOCUS = (230, 159, 0)  # Okabe and Ito's orange


def share(photographs: int) -> int:
    """Return the bytes that each of so many photographs may have, crops included."""
    return min(_LARGEST, BUDGET // max(1, photographs))


def thumbnail(image: np.ndarray, limit: int) -> bytes:
    """Return a JPEG of an image in at most `limit` bytes, or with a longer side of 64 px if none is that small.

    Args:
        image: [h, w, 3] uint8 RGB.
        limit: bytes.
    """
    longest = max(image.shape[:2])
    side = min(longest, _SIDES[1])
    while True:
        data = _jpeg(_resized(image, side / longest))
        if len(data) <= limit or side <= _SIDES[0]:
            return data
        side = max(_SIDES[0], int(0.95 * side * math.sqrt(limit / len(data))))


def crops(image: np.ndarray, marks: Sequence[Mark], limit: int) -> list[tuple[int, bytes]]:
    """Return (index, JPEG) of the surroundings of the first marks, in at most `limit` bytes together.

    Args:
        image: [h, w, 3] uint8 RGB.
        marks: boxes in image px.
        limit: bytes.
    """
    made: list[tuple[int, bytes]] = []
    for number, mark in enumerate(marks[:CROPS]):
        x1, y1, x2, y2 = surroundings(mark.box, image.shape[:2])
        data = _jpeg(cv2.resize(image[y1:y2, x1:x2], (_CROP, _CROP), interpolation=cv2.INTER_CUBIC))
        if sum(len(one) for _, one in made) + len(data) > limit:
            break
        made.append((number, data))
    return made


def surroundings(box: Sequence[float], size: Sequence[int]) -> tuple[int, int, int, int]:
    """Return the part of an image, xyxy px, that a crop of a box shows: a square of twice its side, where it fits."""
    height, width = size
    wanted = max(_LEAST, 2 * max(box[2] - box[0], box[3] - box[1]))
    side = min(math.ceil(wanted), height, width)
    x, y = (
        min(max(0, round((low + high - side) / 2)), length - side)
        for low, high, length in ((box[0], box[2], width), (box[1], box[3], height))
    )
    return x, y, x + side, y + side


def focus_png(focus: FocusMap) -> bytes:
    """Return a PNG with a pixel for each cell: orange, the less transparent the more probable."""
    values = np.clip(np.nan_to_num(np.asarray(focus.values, np.float32)), 0, 1)
    colored = np.empty((*values.shape, 4), np.uint8)
    colored[..., :3] = _FOCUS[::-1]
    colored[..., 3] = np.round(255 * np.sqrt(values))  # weak focus has its threshold at 0.02
    return _encoded(".png", colored, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def data_uri(data: bytes, kind: str) -> str:
    """Return a picture of the MIME type image/`kind` as a URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _resized(image: np.ndarray, zoom: float) -> np.ndarray:
    if zoom >= 1:
        return image
    size = [max(1, round(zoom * length)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> bytes:
    return _encoded(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def _encoded(suffix: str, image: np.ndarray, settings: list[int]) -> bytes:
    good, data = cv2.imencode(suffix, image, settings)
    if not good:
        raise AutoFocusError(
            f"a picture of {image.shape[1]}x{image.shape[0]} px cannot be encoded; leave the report out"
        )
    return data.tobytes()
