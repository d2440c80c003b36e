"""`--where`: an area to look at, or to leave out, from a mask, polygons, boxes or a heat map."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np

from autofocus_jax.command.detection_run import Source
from autofocus_jax.command.inputs import Item
from autofocus_jax.config import ConfigError
from autofocus_jax.data.image import SUFFIXES, max_pixels, read_image
from autofocus_jax.data.reading import LARGEST_TABLE
from autofocus_jax.errors import AutoFocusError, ImageError
from autofocus_jax.files import read_regular
from autofocus_jax.focus.area import Area, checked
from autofocus_jax.machine.terminal import printable

Use = Literal["only", "also", "not"]
Draw = Callable[[tuple[int, int]], np.ndarray]  # (height, width) of an image, px -> its map [H, W] float32

_FINEST = 4096  # px, the longer side of a drawn map at most
_WHITE = 127  # a mask's pixel above it, in any channel, is inside
_BITS = 4  # of fractions of a px, in what OpenCV draws
_KEPT = 4  # maps that are kept, of sizes or files
_VECTORS = (".geojson", ".json")


def read_area(path: str, use: Use, items: Sequence[Item]) -> Area:
    """Return the area that a file describes, or a folder with a file for each image.

    Args:
        path: a mask (an image), .geojson (polygons), .json (boxes), .npy (a heat map), or a folder of such files, each
            with the image's name. Coordinates are px of the image.
        use: "only" looks inside alone, "also" looks inside besides where the detector says so, "not" leaves it out.
        items: the images, which a folder must have files for.

    Raises:
        ConfigError: the file cannot be understood, or an image has none.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        files = {item: _of_item(source, item) for item in items}
        missing = [item.file_name for item, file in files.items() if file is None]
        if missing:
            raise ConfigError(f"--where {path} has no file for {len(missing)} of {len(items)} images, as "
                              f"{printable(missing[0])}; give each a mask, .geojson, .json or .npy")  # fmt: skip
        known = functools.lru_cache(_KEPT)(_draw_of)
        draw: Callable[[Item], Draw] = lambda item: known(files[item])  # noqa: E731
    else:
        try:
            one = _draw_of(source)
        except AutoFocusError as error:
            raise ConfigError(f"--where: {error}") from None
        draw = lambda item: one  # noqa: E731

    def heat(key: Hashable, size: tuple[int, int]) -> np.ndarray:
        values = draw(cast(Source, key).item)(size)
        return 1 - values if use == "not" else values

    return Area(heat, "either" if use == "also" else "both")


def _of_item(folder: Path, item: Item) -> Path | None:
    """The file of an image in a folder: its own relative path with another suffix."""
    names = (folder / f"{item.name}{suffix}" for suffix in (*_VECTORS, ".npy", *SUFFIXES))
    return next((path for path in names if path.is_file()), None)


def _draw_of(path: Path) -> Draw:
    """Read a file; ImageError, one line, where it is none of the known kinds."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        inside = (read_image(path, oriented=True).max(axis=2) > _WHITE).astype(np.float32)
        return functools.partial(_stretched, inside, path)
    try:
        content = read_regular(path, min(LARGEST_TABLE, 8 * max_pixels() + 4096))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"the area {printable(path)} cannot be read ({reason}); give a file that is there") from None
    if suffix == ".npy":
        return functools.partial(_stretched, _heat(content, path), path)
    if suffix not in _VECTORS:
        raise ImageError(f"the area {printable(path)} has an unknown suffix; give a mask ({', '.join(SUFFIXES)}), "
                         ".geojson, .json or .npy")  # fmt: skip
    try:
        shapes = (_polygons if suffix == ".geojson" else _boxes)(json.loads(content))
        rings = [[np.asarray(ring, np.float64)[:, :2] for ring in shape] for shape in shapes]
        good = all(np.isfinite(ring).all() and np.abs(ring).max() < 2**24 for shape in rings for ring in shape)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        good = False
    if not good:
        wanted = "GeoJSON polygons, [x, y] in px" if suffix == ".geojson" else "a list of boxes [x1, y1, x2, y2] in px"
        raise ImageError(f"the area {printable(path)} cannot be understood; want {wanted} of the image")
    return functools.lru_cache(_KEPT)(functools.partial(_drawn, rings, path))


def _heat(content: bytes, path: Path) -> np.ndarray:
    try:
        return checked(np.load(io.BytesIO(content), allow_pickle=False))
    except AutoFocusError as error:
        raise ImageError(f"the area {printable(path)} cannot be used; {error}") from None
    except Exception:  # whatever a damaged header makes NumPy raise
        raise ImageError(f"the area {printable(path)} is no array of numbers that np.save wrote") from None


def _boxes(content: Any) -> list[list[Any]]:
    """Boxes [[x1, y1, x2, y2], ...] as polygons of one ring."""
    corners = np.asarray(content, np.float64).reshape(-1, 4)
    if len(corners) != len(content) or not (corners[:, :2] < corners[:, 2:]).all():
        raise ValueError("no boxes")
    return [[[(x1, y1), (x2, y1), (x2, y2), (x1, y2)]] for x1, y1, x2, y2 in corners]


def _polygons(content: Any) -> list[list[Any]]:
    """The polygons of a GeoJSON object, each as its rings: the border, then holes."""
    kind = content["type"]
    if kind == "FeatureCollection":
        return [polygon for feature in content["features"] for polygon in _polygons(feature)]
    if kind == "GeometryCollection":
        return [polygon for geometry in content["geometries"] for polygon in _polygons(geometry)]
    if kind == "Feature":
        return _polygons(content["geometry"])
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a {kind} has no area")
    return [content["coordinates"]] if kind == "Polygon" else list(content["coordinates"])


def _drawn(shapes: Sequence[Sequence[np.ndarray]], path: Path, size: tuple[int, int]) -> np.ndarray:
    """Polygons as a map of an image of `size` (height, width); ImageError where none of them reaches it."""
    scale = min(1.0, _FINEST / max(size))
    canvas = np.zeros([max(1, round(side * scale)) for side in size], np.uint8)
    factors = np.array(canvas.shape[::-1]) / size[::-1]
    for rings in shapes:
        shape = np.zeros_like(canvas)
        points = [np.round((ring * factors - 0.5) * 2**_BITS).astype(np.int32) for ring in rings]
        cv2.fillPoly(shape, points, 1, shift=_BITS)  # rings inside others are holes
        canvas |= shape
    if shapes and not canvas.any():
        raise ImageError(f"the area {printable(path)} lies outside an image of {size[1]}x{size[0]} px; give its "
                         "coordinates in px of the image")  # fmt: skip
    return canvas.astype(np.float32)


def _stretched(values: np.ndarray, path: Path, size: tuple[int, int]) -> np.ndarray:
    """A map for an image of `size`; ImageError where their proportions differ by more than a row or column."""
    (rows, columns), (height, width) = values.shape, size
    if abs(rows - height * columns / width) > 1 and abs(columns - width * rows / height) > 1:
        raise ImageError(f"the area {printable(path)} has {columns}x{rows} px for an image of {width}x{height} px; "
                         "give it the image's size, or its proportions")  # fmt: skip
    return values


def described(path: str, use: Use) -> str:
    """Return a line that says what the area does."""
    says = {"only": "looking and reporting only inside", "also": "looking again in any case inside",
            "not": "looking and reporting only outside"}  # fmt: skip
    return f"{says[use]} {printable(os.fspath(path))}"
