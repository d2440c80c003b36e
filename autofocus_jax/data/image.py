"""Image files as they come: JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF or PNM of any kind, into uint8 RGB.

What is decided for kinds that are not plain RGB: grey and palette images get three channels; CMYK is converted;
of 16 bits a sample the upper 8 are kept, without stretching; transparency is laid on white, as a page shows it; of an
animation or of several pages the first one is taken; 32-bit samples are refused. OpenCV decodes (threads run side by
side) and stops at 2^30 pixels, as 32768x32768; the environment variable OPENCV_IO_MAX_IMAGE_PIXELS raises that.

The orientation tag of a camera is followed with `oriented=True`, which is right for photographs as people see them;
without it the pixels stay as they are stored, which is right for boxes that do not know the tag (COCO's, VOC's). In
TIFF files the tag is part of the format and always followed.
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import warnings
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from autofocus_jax.structures import ImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".avif", ".ppm", ".pgm")
_ORIENTATION, _EXTRA_SAMPLES = 274, 338  # tags of a TIFF directory
_KNOWN = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x4f\xff\x51")
_KNOWN += tuple(b"P%d" % number for number in range(1, 8))  # PNM
_KNOWN_AT_4 = (b"ftyp", b"jP  ")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends the compressed data of a scan
_warnings_lock = threading.Lock()


def read_image(path: str | os.PathLike, oriented: bool = False) -> np.ndarray:
    """Decodes an image file into uint8 RGB [h, w, 3], C-contiguous; raises ImageError, one line naming the file.

    oriented: whether a camera's orientation tag turns the image (see the module's text); otherwise it is ignored.
    """
    return decode_image(read_bytes(path), path, oriented)


def decode_image(content: bytes, name: str | os.PathLike, oriented: bool = False) -> np.ndarray:
    """As read_image, for the bytes of a file; `name` is what an ImageError calls it."""
    problem = _problem(content)
    if problem:
        raise ImageError(f"image {_shown(name)} {problem}")
    try:
        image = _decode(content, oriented)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE_PIXELS" in str(error):
            raise ImageError(
                f"image {_shown(name)} has more pixels than OpenCV decodes (2^30, as 32768x32768); make it smaller, "
                "or set the environment variable OPENCV_IO_MAX_IMAGE_PIXELS to a larger number"
            ) from None
        if error.code == cv2.Error.STS_NO_MEM:
            raise ImageError(f"image {_shown(name)} does not fit into memory; make it smaller") from None
        image = None
    if image is None:
        known = content.startswith(_KNOWN) or content[4:8] in _KNOWN_AT_4
        what = "damaged or of a rare kind: save it anew as JPEG or PNG, or remove it" if known else "no image file"
        raise ImageError(f"image {_shown(name)} cannot be decoded ({len(content)} bytes); it is {what}")
    return image


def read_annotated(path: str | os.PathLike, height: int, width: int, annotations: str | os.PathLike) -> np.ndarray:
    """An image whose annotations state its size (height, width): uint8 RGB of that size, the frame of its boxes.

    Pixels stay as they are stored, unless only the turned image has the stated size: then the annotator saw it turned.
    Raises ImageError when neither has it, naming both files.
    """
    content = read_bytes(path)
    image = decode_image(content, path)
    if image.shape[:2] != (height, width) and image.shape[1::-1] == (height, width):
        image = decode_image(content, path, oriented=True)
    if image.shape[:2] != (height, width):
        raise ImageError(
            f"image {_shown(path)} is {image.shape[1]}x{image.shape[0]} px but {_shown(annotations)} says "
            f"{width}x{height}; the two do not belong together"
        )
    return image


def image_size(path: str | os.PathLike, oriented: bool = False) -> tuple[int, int]:
    """(height, width) of what read_image gives, from the head of the file alone; raises ImageError as it does."""
    try:
        with open(path, "rb") as file:
            size = _head(file, oriented)
    except (OSError, ValueError):
        size = None
    return size or read_image(path, oriented).shape[:2]


def decode_size(content: bytes, name: str | os.PathLike, oriented: bool = False) -> tuple[int, int]:
    """As image_size, for the bytes of a file."""
    return _head(io.BytesIO(content), oriented) or decode_image(content, name, oriented).shape[:2]


def quiet_decoders() -> None:
    """Stops OpenCV from printing about damaged files, for programs; the ImageError says what is wrong."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_bytes(path: str | os.PathLike) -> bytes:
    """The bytes of an image file; raises ImageError as read_image does."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except IsADirectoryError:
        raise ImageError(f"image {_shown(path)} is a folder; give a file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"image {_shown(path)} cannot be read ({reason}); check the path and its permissions"
        ) from None


def _shown(path: str | os.PathLike) -> str:
    """A file's name in one line that any terminal prints."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if text.isprintable() else ascii(text)[1:-1]


def _head(file: BinaryIO, oriented: bool) -> tuple[int, int] | None:
    """(height, width) as Pillow reads it; None where it cannot, or finds the image too large: decoding will tell."""
    try:
        # Its warnings, of large images and of odd tags, do not matter here; filters belong to the whole process.
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                width, height = image.size
                if image.format == "TIFF":
                    width, height, tag = (image.tag_v2.get(key, 1) for key in (256, 257, _ORIENTATION))
                else:
                    tag = image.getexif().get(_ORIENTATION, 1) if oriented else 1
    except Exception:  # whatever a damaged file makes Pillow raise
        return None
    return (width, height) if tag in (5, 6, 7, 8) else (height, width)


def _problem(content: bytes) -> str | None:
    """What is wrong with a file that is better not shown to a decoder, and what to do about it."""
    if not content:
        return "is empty (0 bytes); copy it again or remove it"
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "is HEIC, which is not read; convert it to JPEG"
    if content.startswith(b"\xff\xd8"):
        cut = _is_cut_jpeg(content)
    else:
        cut = content.startswith(b"\x89PNG\r\n\x1a\n") and content.rfind(b"IEND") < 0
    if cut:
        return f"is cut off after {len(content)} bytes, so it cannot be decoded whole; copy it again or remove it"
    return None


def _is_cut_jpeg(content: bytes) -> bool:
    """Whether the end of a JPEG file is missing; decoders then fill the rest with grey and go on.

    Phones append videos and other pictures to a JPEG, so its end need not be the file's.
    """
    if content.endswith(b"\xff\xd9"):
        return False
    position = 2
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return False  # not where a marker should be: damaged, which is the decoder's to judge
        marker = content[position + 1]
        if marker == 0xD9:
            return False
        if marker == 0xFF:  # a filling byte
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xDA:
            found = _JPEG_MARKER.search(content, position)
            position = found.start() if found else len(content)
    return content[position : position + 2] != b"\xff\xd9"


def _decode(content: bytes, oriented: bool) -> np.ndarray | None:
    """uint8 RGB [h, w, 3], or None; may raise cv2.error."""
    data = np.frombuffer(content, np.uint8)
    flags = cv2.IMREAD_COLOR_RGB | (0 if oriented else cv2.IMREAD_IGNORE_ORIENTATION)
    if content.startswith((b"II*\0", b"MM\0*")):
        image = cv2.imdecode(data, flags)
        if image is not None and _tiff_tag(content, _EXTRA_SAMPLES) in (1, 2):
            layers = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            if layers is not None and layers.ndim == 3 and layers.shape[2] == 4:
                image = cv2.add(image, cv2.merge([255 - _eight_bits(layers)[..., 3]] * 3))  # it comes on black
        return image
    if not _may_be_transparent(content):
        return cv2.imdecode(data, flags)
    image, kinds, metadata = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim < 3 or image.shape[2] != 4:
        return None if image is None else cv2.imdecode(data, flags)
    image = _on_white(_eight_bits(image))
    for kind, value in zip(kinds, metadata):
        if oriented and kind == cv2.IMAGE_METADATA_EXIF:
            image = _turn(image, _tiff_tag(np.asarray(value).tobytes(), _ORIENTATION))
    return image


def _may_be_transparent(content: bytes) -> bool:
    if content.startswith(b"\x89PNG"):
        return content[25:26] in (b"\x04", b"\x06") or content.find(b"tRNS", 0, content.find(b"IDAT")) >= 0
    webp = content.startswith(b"RIFF") and content[8:12] == b"WEBP"
    return (webp and content[12:16] != b"VP8 ") or content.startswith(b"GIF8") or content[4:8] in (b"ftyp", b"jP  ")


def _eight_bits(image: np.ndarray) -> np.ndarray:
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image


def _on_white(image: np.ndarray) -> np.ndarray:
    """RGB [h, w, 3] of BGRA [h, w, 4]."""
    alpha = image[..., 3]
    if alpha.min() == 255:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    opacity = cv2.merge([alpha] * 3)
    over = cv2.multiply(cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), opacity, scale=1 / 255)
    return cv2.add(over, 255 - opacity)


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image as the orientation tag (1..8) wants it shown."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _tiff_tag(content: bytes, tag: int) -> int:
    """The first value of a tag of 16-bit numbers in the first directory of a TIFF structure; 0 without it."""
    order = "<" if content.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        for entry in range(count):
            number, _, _, value = struct.unpack_from(f"{order}HHIH", content, start + 2 + 12 * entry)
            if number == tag:
                return value
    except struct.error:
        pass
    return 0
