"""Tags of TIFF files and of EXIF blocks, which are small TIFF files."""

from __future__ import annotations

import io
import logging
import math
import struct
from collections.abc import Collection
from typing import Any, BinaryIO

import cv2
import numpy as np

WIDTH, HEIGHT, BITS, ORIENTATION, SAMPLES, TILE_WIDTH, EXTRA_SAMPLES, FORMAT = 256, 257, 258, 274, 277, 322, 338, 339
PHOTOMETRIC = 262
FORMATS = {1: "", 3: " (floating point)", 4: "", 5: " (complex)", 6: " (complex)"}  # what messages call them
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of values that are whole numbers
log = logging.getLogger("autofocus_jax.data.image")
_DARK = 14  # bits of 16
_MOST = 4096  # entries of a directory that are looked at


def tags(file: BinaryIO, wanted: Collection[int]) -> dict[int, int]:
    """Return the first value of each wanted tag of the first directory. Damaged or missing tags are left out."""
    found: dict[int, int] = {}
    try:
        file.seek(0)
        head = file.read(16)
        if head[:4] not in SIGNATURES:
            return found
        order, large = "<" if head.startswith(b"I") else ">", head[2:4].strip(b"\0") == b"+"
        count, entry, place = ("Q", "HHQ8s", "Q") if large else ("H", "HHI4s", "I")
        (start,) = struct.unpack_from(f"{order}{place}", head, 8 if large else 4)
        file.seek(start)
        (entries,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(f"{order}{count}")))
        size = struct.calcsize(f"{order}{entry}")
        directory = file.read(size * min(entries, _MOST))
        for number in range(len(directory) // size):
            tag, kind, length, data = struct.unpack_from(f"{order}{entry}", directory, size * number)
            if tag not in wanted or tag in found or kind not in _TYPES or not length:
                continue  # of tags that come twice, decoders take the first too
            one = f"{order}{_TYPES[kind]}"
            if struct.calcsize(one) * length > len(data):
                file.seek(struct.unpack(f"{order}{place}", data)[0])
                data = file.read(struct.calcsize(one))
            found[tag] = struct.unpack_from(one, data)[0]
    except (struct.error, ValueError, OverflowError, OSError):
        pass
    return found


def orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block; 1 if the block has none."""
    value = tags(io.BytesIO(exif.removeprefix(b"Exif\0\0")), (ORIENTATION,)).get(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def decode(content: bytes) -> tuple[np.ndarray | None, int]:
    """Return uint8 RGB [h, w, 3], and how many bits its samples use, of 16-bit ones; or None.

    OpenCV reads more kinds of TIFF than Pillow; None is for what it cannot read.
    """
    data = np.frombuffer(content, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    found = tags(io.BytesIO(content), (EXTRA_SAMPLES, BITS))
    sixteen = found.get(BITS) == 16
    if image is None:
        return None, 16
    if found.get(EXTRA_SAMPLES) in (1, 2):
        layers = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if layers is not None and layers.ndim == 3 and layers.shape[2] == 4:
            alpha: Any = layers[..., 3]
            alpha = (alpha >> 8).astype(np.uint8) if alpha.dtype == np.uint16 else alpha
            image = cv2.add(image, cv2.merge([255 - alpha] * 3))  # it comes on black
    return image, bits_used(image) + 8 if sixteen else 16


def misread(content: bytes) -> str | None:
    """Return what the decoder would read wrong in a TIFF file, as the rest of a sentence; None for nothing."""
    found = tags(io.BytesIO(content), (PHOTOMETRIC, SAMPLES, BITS, WIDTH, TILE_WIDTH))
    samples, tile = found.get(SAMPLES, 1), found.get(TILE_WIDTH)
    if samples in (3, 4) and found.get(PHOTOMETRIC) in (0, 1):  # OpenCV reads the first band alone
        return f"has {samples} bands that are not marked as RGB; mark them (gdal_translate -co PHOTOMETRIC=RGB)"
    if tile and found.get(WIDTH, 0) % tile and (samples == 2 or (samples == 1 and found.get(BITS) == 16)):
        return "is grey, in tiles that do not divide its width; save it in strips"  # OpenCV 5.0 drops the last tiles
    return None


def say_if_dark(name: str, reach: int) -> None:
    """Log a warning of an image of 16 bits that uses so few of them that its upper 8 are nearly black."""
    if reach <= _DARK:
        log.warning("image %s has 16 bits a sample and uses the lower %d alone, so it is nearly black; stretch it",
                    name, reach)  # fmt: skip


def bits_used(samples: np.ndarray) -> int:
    """Return how many bits the samples use, but for a thousandth of them: hot pixels of a sensor do not count."""
    step = max(1, math.isqrt(samples.shape[0] * samples.shape[1]) // 256) if samples.size else 1
    some = samples[::step, ::step]
    return int(np.quantile(some, 0.999, method="lower")).bit_length() if some.size else 0
