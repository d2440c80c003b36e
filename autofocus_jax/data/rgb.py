"""Images of every kind that Python has, as arrays of RGB."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from autofocus_jax.data.image import image_size, read_image
from autofocus_jax.structures import ImageError

Image = Any  # a path, a NumPy array (uint8: RGB [h, w, 3], RGBA [h, w, 4] or grey [h, w]) or a PIL image


def as_rgb(image: Image) -> np.ndarray:
    """Return uint8 RGB [h, w, 3] of a path, a NumPy array or a PIL image.

    Files and PIL images are turned as their orientation tag says. Transparency is laid on white. The upper 8 of 16 bits
    a sample are kept.

    Raises:
        ImageError: the value is no image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, oriented=True)
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # PIL, which is not imported for this
        image = _of_pil(image)
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{type(image).__name__} is no image; give a path, a NumPy array or a PIL image")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ImageError(f"an array of {image.dtype} is no image; give uint8 from 0 to 255")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ImageError(f"an array of shape {list(image.shape)} is no image; give [h, w, 3], [h, w, 4] or [h, w]")
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 4:
        opacity = image[..., 3:].astype(np.float32) / 255
        image = np.round(image[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(image)


def rgb_size(image: Image) -> tuple[int, int]:
    """Return (height, width) of as_rgb's result; for a file from its head alone. Raises ImageError as as_rgb does."""
    return image_size(image, oriented=True) if isinstance(image, str | os.PathLike) else as_rgb(image).shape[:2]


def _of_pil(image: Any) -> np.ndarray:
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        if image.mode in ("I", "F"):  # whose conversion makes everything above 255 white
            raise ValueError(f"its samples have 32 bits (mode {image.mode}); scale them to 8")
        transparent = image.has_transparency_data
        return np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"PIL image {getattr(image, 'filename', '')!r} cannot be decoded ({error})") from None
