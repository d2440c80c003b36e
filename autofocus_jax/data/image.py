"""Image files of any kind (JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF, PNM) into uint8 RGB.

- Grey and palette images get three channels. CMYK is converted. Transparency is laid on white.
- The upper 8 of 16 bits a sample are kept, without stretching. A warning is logged if only lower bits are used.
- The first image of an animation or of several pages is taken. 32-bit and signed samples are refused.
- TurboJPEG decodes JPEG, OpenCV TIFF and Pillow the other kinds; threads run side by side.
- Images above 2^26 pixels (8192x8192, about 1 GB with copies), or above $AUTOFOCUS_MAX_PIXELS, are refused undecoded.
- `oriented=True` follows a camera's orientation tag. Without it pixels stay as stored, as boxes of COCO and VOC expect.
  The tag of a TIFF file is always followed. AVIF's own turn counts as such a tag; XMP does not.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from autofocus_jax.data import jpeg, png, tiff
from autofocus_jax.data.reading import LARGEST_IMAGE
from autofocus_jax.files import read_regular
from autofocus_jax.machine.terminal import printable
from autofocus_jax.structures import ImageError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".j2k", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif",
)  # fmt: skip
MAX_PIXELS = 2**26
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF", "PPM")  # that Pillow decodes, and no others
_PNM = tuple(b"P%d" % number for number in range(1, 8))
_KNOWN = (jpeg.SIGNATURE, b"\x89PNG", b"RIFF", b"GIF8", b"BM", *tiff.SIGNATURES, b"\xff\x4f\xff\x51", *_PNM)
_KNOWN_AT_4 = (b"ftyp", b"jP  ")
_TURNS: dict[int, Callable[[Any], Any]] = {
    2: lambda image: cv2.flip(image, 1), 3: lambda image: cv2.flip(image, -1), 4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose, 6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}  # fmt: skip
Image.init()  # otherwise the first threads that open an image do so at once


class Head(NamedTuple):
    """Facts in the head of an image file."""

    height: int  # as stored; of TIFF, as shown
    width: int
    orientation: int  # 1 to 8, the tag that `oriented` follows; 1 for TIFF
    sixteen: bool  # 16 bits a sample

    def size(self, oriented: bool) -> tuple[int, int]:
        """Return (height, width) of the decoded image."""
        turned = oriented and self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)


def max_pixels() -> int:
    """Return the largest number of pixels that an image may have."""
    given = os.environ.get("AUTOFOCUS_MAX_PIXELS", "")
    return int(given) if given.isdecimal() and int(given) else MAX_PIXELS


def limit_pixels(most: int) -> None:
    """Set the largest number of pixels of an image, for this process and its child processes."""
    if most < 1:
        raise ImageError(f"the limit of pixels must be at least 1, got {most}")
    os.environ["AUTOFOCUS_MAX_PIXELS"] = str(most)


def read_image(path: str | os.PathLike, oriented: bool = False) -> np.ndarray:
    """Decode an image file into uint8 RGB [h, w, 3], C-contiguous.

    Args:
        path: the file.
        oriented: turn the image as a camera's orientation tag says (see the module's text).

    Raises ImageError, which names the file, if it is missing, damaged, too large or no image.
    """
    return decode_image(read_bytes(path), path, oriented)


def decode_image(content: bytes, name: str | os.PathLike, oriented: bool = False) -> np.ndarray:
    """Decode the bytes of a file as read_image does; an ImageError uses `name`."""
    problem = _problem(content)
    if problem:
        raise ImageError(f"image {printable(name)} {problem}")
    head, picture = _opened(io.BytesIO(content), name, len(content))
    limit = max_pixels()
    if head.height * head.width > limit:
        raise ImageError(
            f"image {printable(name)} has {head.width}x{head.height} px, above the limit of {limit} pixels; make it "
            "smaller, or raise the limit (max-pixels, or the environment variable AUTOFOCUS_MAX_PIXELS)"
        )
    try:
        image, reach = None, 16
        if picture is None:
            image, reach = tiff.decode(content)
        elif isinstance(picture, JpegImageFile) and picture.mode in ("L", "RGB"):
            image = jpeg.decode(content)
        elif content[8:16] == b"WEBPVP8 " or png.is_plain(content):  # OpenCV is the faster one
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is not None and image is None:
            image, reach = _of_pillow(picture, head)
        if oriented and image is not None and head.orientation in _TURNS:
            image = _TURNS[head.orientation](image)
    except MemoryError:
        raise ImageError(f"image {printable(name)} does not fit into memory; make it smaller") from None
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise ImageError(f"image {printable(name)} does not fit into memory; make it smaller") from None
        raise ImageError(_undecodable(content[:12], name, len(content))) from None
    except Exception:  # whatever a damaged file makes Pillow raise
        raise ImageError(_undecodable(content[:12], name, len(content))) from None
    if image is None or not image.size:
        raise ImageError(_undecodable(content[:12], name, len(content)))
    if head.sixteen:
        tiff.say_if_dark(printable(name), reach)
    return image


def read_annotated(path: str | os.PathLike, height: int, width: int, annotations: str | os.PathLike) -> np.ndarray:
    """Return an image as uint8 RGB of its annotated size (height, width), the frame of its boxes.

    Pixels stay as stored, unless only the turned image has the annotated size: then the annotator saw the image turned.
    Raises ImageError, which names both files, if neither form has that size.
    """
    content = read_bytes(path)
    image = decode_image(content, path)
    if image.shape[:2] != (height, width) and image.shape[1::-1] == (height, width):
        image = decode_image(content, path, oriented=True)
    if image.shape[:2] != (height, width):
        raise ImageError(
            f"image {printable(path)} is {image.shape[1]}x{image.shape[0]} px but {printable(annotations)} says "
            f"{width}x{height}; the two do not belong together"
        )
    return image


def image_size(path: str | os.PathLike, oriented: bool = False) -> tuple[int, int]:
    """Return (height, width) of read_image's result from the head of the file. Raises ImageError as read_image does."""
    return image_head(path).size(oriented)


def image_head(path: str | os.PathLike) -> Head:
    """Return the facts in the head of an image file. Raises ImageError as read_image does."""
    head: Head | ImageError | None = None
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size:
            with open(path, "rb") as file:
                try:
                    head = _opened(file, path, status.st_size)[0]
                except ImageError as error:
                    head = error
    if isinstance(head, Head):
        return head
    problem = _problem(read_bytes(path))  # says what is wrong with a path
    raise ImageError(f"image {printable(path)} {problem}") if problem or head is None else head


def decode_size(content: bytes, name: str | os.PathLike, oriented: bool = False) -> tuple[int, int]:
    """Return image_size of the bytes of a file."""
    try:
        return _opened(io.BytesIO(content), name, len(content))[0].size(oriented)
    except ImageError as error:
        problem = _problem(content)
        raise ImageError(f"image {printable(name)} {problem}") if problem else error from None


def quiet_decoders() -> None:
    """Stop OpenCV from printing about damaged files. Programs call this; the ImageError says what is wrong."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return the bytes of an image file. Raises ImageError as read_image does."""
    try:
        return read_regular(path, LARGEST_IMAGE)
    except IsADirectoryError:
        raise ImageError(f"image {printable(path)} is a folder; give a file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"image {printable(path)} cannot be read ({reason}); check the path and its permissions"
        ) from None


def _opened(file: BinaryIO, name: str | os.PathLike, size: int) -> tuple[Head, Image.Image | None]:
    """The head of a file and Pillow's picture, which is not decoded yet; None in its place for TIFF."""
    start = file.read(64)
    file.seek(0)
    if start.startswith(tiff.SIGNATURES):
        return _tiff_head(file, name, start, size), None
    canvas = _webp_canvas(start)
    if canvas is not None and canvas[0] * canvas[1] > max_pixels():
        return Head(*canvas, 1, False), None  # whose decoder takes the memory when it is made
    # Plugin by plugin: Image.open knows formats that nobody asked for, and warns of large images by a global filter.
    for kind in _FORMATS:
        factory, accept = Image.OPEN.get(kind, (None, None))
        if factory is None or accept is None or accept(start) is not True:
            continue
        try:
            picture = (JpegImageFile if kind == "JPEG" else factory)(file, None)
            width, height = picture.size
            turn = tiff.orientation(picture.info.get("exif") or b"")
        except Exception:  # whatever a damaged file makes Pillow raise
            break
        if not 0 < width < 2**31 or not 0 < height < 2**31:
            break
        sixteen = start[24] == 16 if kind == "PNG" else picture.mode.startswith("I")
        return Head(height, width, turn, sixteen), picture
    raise ImageError(_undecodable(start, name, size))


def _webp_canvas(start: bytes) -> tuple[int, int] | None:
    """(height, width) of a WebP file."""
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return None
    if start[12:16] == b"VP8X":
        return 1 + int.from_bytes(start[27:30], "little"), 1 + int.from_bytes(start[24:27], "little")
    if start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return int.from_bytes(start[28:30], "little") & 0x3FFF, int.from_bytes(start[26:28], "little") & 0x3FFF


def _tiff_head(file: BinaryIO, name: str | os.PathLike, start: bytes, size: int) -> Head:
    wanted = (tiff.WIDTH, tiff.HEIGHT, tiff.BITS, tiff.ORIENTATION, tiff.SAMPLES, tiff.FORMAT)
    found = tiff.tags(file, wanted)
    width, height, turn = (found.get(tag, 1) for tag in (tiff.WIDTH, tiff.HEIGHT, tiff.ORIENTATION))
    samples, bits, form = (found.get(tag, 1) for tag in (tiff.SAMPLES, tiff.BITS, tiff.FORMAT))
    if tiff.WIDTH not in found or tiff.HEIGHT not in found or not width or not height:
        raise ImageError(_undecodable(start, name, size))
    if form == 2:
        raise ImageError(f"image {printable(name)} has signed samples, which are not read; convert it to unsigned ones")
    if form not in (1, 4) or bits > 16:
        kind = f"{bits} bits{tiff.FORMATS.get(form, ' of an unknown format')}"
        raise ImageError(f"image {printable(name)} has samples of {kind}, which cannot be decoded; save it anew with 8 "
                         "or 16 bits")  # fmt: skip
    if samples > 4:
        raise ImageError(f"image {printable(name)} has {samples} bands; choose three and save them as RGB")
    turned = turn in (5, 6, 7, 8)
    return Head(*((width, height) if turned else (height, width)), 1, bits == 16)


def _undecodable(start: bytes, name: str | os.PathLike, size: int) -> str:
    known = start.startswith(_KNOWN) or start[4:8] in _KNOWN_AT_4
    what = "damaged or of a rare kind: save it anew as JPEG or PNG, or remove it" if known else "no image file"
    return f"image {printable(name)} cannot be decoded ({size} bytes); it is {what}"


def _problem(content: bytes) -> str | None:
    """Return the fault of a file that no decoder should see, and what to do about it, or None."""
    if not content:
        return "is empty (0 bytes); copy it again or remove it"
    brands = content[8:64] if content[4:8] == b"ftyp" else b""
    if b"avif" not in brands and brands.startswith((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")):
        return "is HEIC, which is not read; convert it to JPEG"
    if content.startswith(jpeg.SIGNATURE):
        return jpeg.problem(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content.rfind(b"IEND") < 0:
        return jpeg.CUT.format(len(content))
    return tiff.misread(content) if content.startswith(tiff.SIGNATURES) else None


def _of_pillow(picture: Image.Image, head: Head) -> tuple[np.ndarray, int]:
    """uint8 RGB [h, w, 3] of a picture that was opened, and how many bits its largest sample uses, of 16-bit ones."""
    picture.load()
    if picture.mode == "F" or (picture.mode.startswith("I") and not head.sixteen):
        raise ValueError("samples of 32 bits")
    reach = 16
    if picture.mode.startswith("I"):
        samples = np.asarray(picture)
        reach = tiff.bits_used(samples)
        picture = Image.fromarray((samples >> 8).astype(np.uint8))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        picture = Image.new("RGB", clear.size, (255, 255, 255))
        picture.paste(clear, mask=clear.getchannel("A"))
    elif picture.mode != "RGB":
        picture = picture.convert("RGB")
    image = np.array(picture)
    if head.sixteen and reach == 16:
        reach = tiff.bits_used(image) + 8
    return image, reach
