"""TIFF files read by windows, for images that are too large to decode: GeoTIFF, COG, pyramidal TIFF, slides.

A coarse level comes from the file's overviews and a chip from its own window, so the bytes read fall as the pixels do.
Needs rasterio (the extra `raster`). Files of one huge strip, or without the overviews that a first look needs, are
refused.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax.data.image import image_head, max_pixels, read_image
from autofocus_jax.data.tiff import EXTRA_SAMPLES, ORIENTATION, SIGNATURES, bits_used, say_if_dark, tags
from autofocus_jax.machine.terminal import printable
from autofocus_jax.structures import ImageError

_LARGEST_LEVEL = 2**30  # pixels of the coarsest overview: a first look may have to read all of it
_LARGEST_BLOCK = 2**25  # samples of a tile or strip, which is decoded as a whole


class Place(NamedTuple):
    """Where an image lies: px (x, y) are at (a x + b y + c, d x + e y + f) in a coordinate reference system."""

    epsg: int  # its code
    affine: tuple[float, float, float, float, float, float]  # a to f


class Raster:
    """An open TIFF file as focus.pyramid.Regions: its parts are read when they are asked for. Threads take turns.

    Attributes:
        shape: (height, width, 3), px.
    """

    def __init__(self, path: str | os.PathLike):
        """Open a file.

        Raises:
            ImageError: rasterio is not installed, or the file is none that can be read by windows.
        """
        self._name = printable(path)
        image_head(path)  # refuses kinds of samples that are not read
        _check_installed(f"image {self._name} is above the limit of {max_pixels()} pixels and would be read by windows")
        self._lock, self._unseen = threading.Lock(), True
        with _damage_refused(self._name):
            self._file = file = _opened(path, self._name)
            _check_form(file, self._name)
            self.shape = (file.height, file.width, 3)
            self._sixteen = file.dtypes[0] == "uint16"
            self._inverted = file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
            self._bands = [1, 2, 3] if file.count >= 3 else [1]
            alpha = [number for number, kind in enumerate(file.colorinterp, 1) if kind.name == "alpha"]
            self._alpha = alpha[0] if alpha and file.count > 2 else None
        with open(path, "rb") as content:
            self._associated = tags(content, (EXTRA_SAMPLES,)).get(EXTRA_SAMPLES) == 1

    def read(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
        """Return a part of the image, uint8 RGB [h, w, 3].

        Args:
            box: xyxy, image px, inside the image; fractions are allowed.
            size: (height, width) that the caller wants, px. The answer has at least so many, or all that are stored.

        Raises:
            ImageError: this part of the file is damaged.
        """
        from rasterio.enums import Resampling
        from rasterio.windows import Window

        x1, y1, x2, y2 = box
        bands = self._bands + ([self._alpha] if self._alpha else [])
        # GDAL takes its nearest overview, which is coarse work: at twice the size most of the means are the caller's.
        exact = max(1, round(y2 - y1)), max(1, round(x2 - x1))
        least = min(exact[0], 2 * size[0]), min(exact[1], 2 * size[1])
        read = least if least[0] >= size[0] and least[1] >= size[1] else exact
        with self._lock, _damage_refused(f"{self._name} at [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"):
            pixels = self._file.read(
                bands, window=Window(x1, y1, x2 - x1, y2 - y1), out_shape=(len(bands), *read),
                resampling=Resampling.average,
            )  # fmt: skip
        if self._sixteen:
            if self._unseen:
                say_if_dark(self._name, bits_used(pixels.transpose(1, 2, 0)))
                self._unseen = False
            pixels = (pixels >> 8).astype(np.uint8)
        colours = 255 - pixels[: len(self._bands)] if self._inverted else pixels[: len(self._bands)]
        if self._alpha:  # laid on white, as data.image does
            clear = 255 - pixels[-1].astype(np.uint16)
            solid = 255 * colours if self._associated else colours * (255 - clear)
            colours = np.minimum((solid + 255 * clear + 127) // 255, 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(colours, (3, *read)).transpose(1, 2, 0))


def is_tiff(path: str | os.PathLike) -> bool:
    """Return whether a file begins as TIFF does; False for what cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(4).startswith(SIGNATURES)
    except (OSError, ValueError):
        return False


def read_or_open(path: str | os.PathLike) -> np.ndarray | Raster:
    """Return an image as read_image(path, oriented=True) does, or as a Raster if it is a TIFF file above the limit.

    Raises:
        ImageError: as read_image and Raster do.
    """
    if by_windows(path):
        return Raster(path)
    return read_image(path, oriented=True)


def by_windows(path: str | os.PathLike) -> bool:
    """Return whether `read_or_open` gives a Raster. Raises ImageError as image_head does."""
    if not Path(path).is_file() or not is_tiff(path):
        return False
    head = image_head(path)
    return head.height * head.width > max_pixels()


def place_of(path: str | os.PathLike) -> Place:
    """Return where a TIFF file says that its image lies.

    Raises:
        ImageError: rasterio is not installed, or the file has no such place.
    """
    name = printable(path)
    if not is_tiff(path):
        raise ImageError(f"image {name} is no TIFF file, so it has no coordinates")
    _check_installed(f"image {name} may have coordinates, which are read")
    with _damage_refused(name), _opened(path, name) as file:
        crs, affine, placed = file.crs, tuple(file.transform)[:6], not file.transform.is_identity
        epsg = crs.to_epsg() if crs else None
    if not crs:
        raise ImageError(f"image {name} has no coordinate reference system (CRS)")
    if not placed:
        raise ImageError(f"image {name} has a CRS and no geotransform; georeference it")
    if epsg is None:
        raise ImageError(f"image {name} has a CRS without an EPSG code; reproject it (gdalwarp -t_srs EPSG:...)")
    a, b, _, d, e, _ = affine
    if not np.isfinite(affine).all() or a * e == b * d:
        raise ImageError(f"image {name} has a geotransform that places nothing ({affine}); georeference it")
    return Place(epsg, affine)


def _check_installed(why: str) -> None:
    if importlib.util.find_spec("rasterio") is None:
        raise ImageError(f"{why} by rasterio, which is not installed; pip install 'autofocus_jax[raster]'")


def _opened(path: str | os.PathLike, name: str) -> Any:
    """Return rasterio's data set of a TIFF file that is upright."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with open(path, "rb") as file:
        turn = tags(file, (ORIENTATION,)).get(ORIENTATION, 1)
    if turn != 1:
        raise ImageError(f"image {name} has an orientation tag ({turn}), which is not followed here; save it upright")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # GTiff alone: other drivers read files that a file names.
        return rasterio.open(Path(path).absolute(), driver="GTiff")


@contextlib.contextmanager
def _damage_refused(name: str) -> Iterator[None]:
    """Raise ImageError for what rasterio raises over a damaged file: its own errors, and GDAL's as they come."""
    _quiet()
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with rasterio.Env():  # GDAL's lines go to the log and not to stderr
            yield
    except (RasterioError, CPLE_BaseError, UnicodeError, ValueError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        raise ImageError(f"image {name} cannot be read by windows ({said}); save it anew") from None


def _quiet() -> None:
    os.environ.setdefault("GDAL_CACHEMAX", "128")  # MB of decoded tiles; else a share of the memory
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # the ImageError says what is wrong


def _check_form(found: Any, name: str) -> None:
    """Raise ImageError for a file whose parts cannot be read in bounded memory and time."""
    height, width = found.block_shapes[0]
    if height * width * found.count > _LARGEST_BLOCK:
        raise ImageError(f"image {name} is stored in pieces of {width}x{height} px, which are too large to decode one "
                         "by one; save it in tiles (gdal_translate -of COG)")  # fmt: skip
    coarsest = max([1, *found.overviews(1)])
    if found.height * found.width > _LARGEST_LEVEL * coarsest**2:
        raise ImageError(f"image {name} has {found.width}x{found.height} px and no overview below {_LARGEST_LEVEL} "
                         "pixels; add overviews (gdaladdo, or gdal_translate -of COG)")  # fmt: skip
    bits = found.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8")
    if bits not in ("8", "16"):
        raise ImageError(f"image {name} has samples of {bits} bits, which are not read by windows; save it anew with 8 "
                         "or 16 bits")  # fmt: skip
    if found.count < 3 and found.colorinterp[0].name == "palette":
        raise ImageError(f"image {name} has a palette, which is not read by windows; save it as RGB "
                         "(gdal_translate -expand rgb)")  # fmt: skip
