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
from autofocus_jax.data.image import SUFFIXES, decode_image, max_pixels, read_bytes
from autofocus_jax.data.reading import LARGEST_TABLE, walk
from autofocus_jax.errors import AutoFocusError, ImageError
from autofocus_jax.files import read_regular
from autofocus_jax.focus.area import Area, checked
from autofocus_jax.machine.terminal import printable

Use = Literal["only", "also", "not"]
Draw = Callable[[tuple[int, int]], np.ndarray]  # (height, width) of an image, px -> its map [H, W]

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
        files = _of_items(source, items)
        missing = [item.file_name for item in items if item not in files]
        if missing:
            raise ConfigError(f"--where {path} has no file for {len(missing)} of {len(items)} images, as "
                              f"{printable(missing[0])}; give each a mask, .geojson, .json or .npy")  # fmt: skip
        known = functools.lru_cache(_KEPT)(functools.partial(_draw_of, use=use))
        draw: Callable[[Item], Draw] = lambda item: known(files[item])  # noqa: E731
    else:
        try:
            one = _draw_of(source, use)
        except AutoFocusError as error:
            raise ConfigError(f"--where: {error}") from None
        draw = lambda item: one  # noqa: E731

    def heat(key: Hashable, size: tuple[int, int]) -> np.ndarray:
        return draw(cast(Source, key).item)(size)

    return Area(heat, "either" if use == "also" else "both")


def _of_items(folder: Path, items: Sequence[Item]) -> dict[Item, Path]:
    """The file of each image in a folder: one with the image's own relative path and another suffix."""
    order = (*_VECTORS, ".npy", *SUFFIXES)  # of several files of a name the first
    images = {os.path.realpath(item.path) for item in items}
    named: dict[str, Path] = {}
    for path in sorted(walk(folder, order), key=lambda path: order.index(path.suffix.lower()), reverse=True):
        if os.path.realpath(path) not in images:  # no photograph is its own mask
            named[path.relative_to(folder).with_suffix("").as_posix()] = path
    stems = {item: (item.name, Path(item.file_name).with_suffix("").as_posix()) for item in items}
    return {item: named[stem] for item, both in stems.items() for stem in both[::-1] if stem in named}


def _draw_of(path: Path, use: Use) -> Draw:
    """Read a file; ImageError, one line, where it is none of the known kinds."""
    draw = _inside(path)
    return draw if use != "not" else functools.lru_cache(_KEPT)(lambda size: draw(size) == 0)


def _inside(path: Path) -> Draw:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return functools.partial(_stretched, _mask(path), path)
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
    boxes = suffix == ".json"
    try:
        shapes = (_boxes if boxes else _polygons)(json.loads(content))
        good = all(np.isfinite(ring).all() and np.abs(ring).max() < 2**24 for shape in shapes for ring in shape)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        good = False
    if not good:
        wanted = "a list of boxes [x1, y1, x2, y2] in px" if boxes else "GeoJSON polygons, [x, y] in px"
        raise ImageError(f"the area {printable(path)} cannot be understood; want {wanted} of the image")
    if shapes and sum(_size(shape[0]) for shape in shapes) < 1:
        raise ImageError(f"the area {printable(path)} covers less than a pixel; give its coordinates in px of the "
                         "image, not in degrees or shares")  # fmt: skip
    return functools.lru_cache(_KEPT)(functools.partial(_drawn, shapes, _fill_box if boxes else _fill_polygon, path))


def _mask(path: Path) -> np.ndarray:
    """Return where an image is white, [h, w] bool; ImageError for one that is transparent anywhere."""
    content = read_bytes(path)
    image = decode_image(content, path, oriented=True)
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if (
        raw is not None
        and raw.ndim == 3
        and raw.shape[2] == 4
        and raw[..., 3].min() < (255 if raw.dtype == np.uint8 else 65535)
    ):
        raise ImageError(f"the area {printable(path)} is transparent in places; give a mask without that, white "
                         "inside and black outside")  # fmt: skip
    return image.max(axis=2) > _WHITE


def _heat(content: bytes, path: Path) -> np.ndarray:
    try:
        return checked(np.load(io.BytesIO(content), allow_pickle=False))
    except AutoFocusError as error:
        raise ImageError(f"the area {printable(path)} cannot be used; {error}") from None
    except Exception:  # whatever a damaged header makes NumPy raise
        raise ImageError(f"the area {printable(path)} is no array of numbers that np.save wrote") from None


def _boxes(content: Any) -> list[list[np.ndarray]]:
    """Boxes [[x1, y1, x2, y2], ...] as shapes of one ring, [[x1, y1], [x2, y2]]."""
    corners = np.asarray(content, np.float64).reshape(-1, 2, 2)
    if len(corners) != len(content) or not (corners[:, 0] < corners[:, 1]).all():
        raise ValueError("no boxes")
    return [[box] for box in corners]


def _polygons(content: Any) -> list[list[np.ndarray]]:
    """The polygons of a GeoJSON object, each as its rings [n, 2]: the border, then holes. Empty ones are left out."""
    kind = content["type"]
    if kind == "FeatureCollection":
        return [polygon for feature in content["features"] for polygon in _polygons(feature)]
    if kind == "GeometryCollection":
        return [polygon for geometry in content["geometries"] for polygon in _polygons(geometry)]
    if kind == "Feature":
        return _polygons(content["geometry"]) if content["geometry"] is not None else []
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a {kind} has no area")
    polygons = [content["coordinates"]] if kind == "Polygon" else content["coordinates"]
    return [[np.asarray(ring, np.float64)[:, :2] for ring in polygon] for polygon in polygons if polygon]


def _size(ring: np.ndarray) -> float:
    """Area of a ring [n, 2] of a polygon, or of a box [2, 2]."""
    if len(ring) == 2:
        return float(np.prod(ring[1] - ring[0]))
    (x, y), (after_x, after_y) = ring.T, np.roll(ring, -1, axis=0).T
    return abs(float((x * after_y - y * after_x).sum())) / 2


def _fill_box(canvas: np.ndarray, rings: Sequence[np.ndarray]) -> None:
    """Mark the cells that a box touches."""
    (left, top), (right, bottom) = np.floor(rings[0][0] + 1e-6), np.ceil(rings[0][1] - 1e-6)
    rows, columns = (slice(max(0, int(low)), max(0, int(high))) for low, high in ((top, bottom), (left, right)))
    canvas[rows, columns] = 1


def _fill_polygon(canvas: np.ndarray, rings: Sequence[np.ndarray]) -> None:
    """Mark the cells of a polygon and of its border; rings inside others are holes."""
    shape = np.zeros_like(canvas)
    points = [np.round((ring - 0.5) * 2**_BITS).astype(np.int32) for ring in rings]
    cv2.fillPoly(shape, points, 1, shift=_BITS)
    canvas |= shape


def _drawn(shapes: Sequence[Sequence[np.ndarray]], fill: Callable, path: Path, size: tuple[int, int]) -> np.ndarray:
    """Shapes as a map of an image of `size` (height, width); ImageError where none of them reaches it."""
    scale = min(1.0, _FINEST / max(size))
    canvas = np.zeros([max(1, round(side * scale)) for side in size], np.uint8)
    factors = np.array(canvas.shape[::-1]) / size[::-1]
    for rings in shapes:
        fill(canvas, [ring * factors for ring in rings])
    if shapes and not canvas.any():
        raise ImageError(f"the area {printable(path)} lies outside an image of {size[1]}x{size[0]} px; give its "
                         "coordinates in px of the image")  # fmt: skip
    return canvas > 0


def _stretched(values: np.ndarray, path: Path, size: tuple[int, int]) -> np.ndarray:
    """A map for an image of `size`; ImageError where their proportions differ by more than a row or column."""
    (rows, columns), (height, width) = values.shape, size
    if abs(rows - height * columns / width) > 1 and abs(columns - width * rows / height) > 1:
        raise ImageError(f"the area {printable(path)} has {columns}x{rows} px for an image of {width}x{height} px; "
                         "give it the image's size, or its proportions")  # fmt: skip
    return values


def described(path: str, use: Use) -> str:
    """Return a line that says what the area does."""
    says = {"only": "looking again and reporting only inside", "also": "looking again in any case inside",
            "not": "looking again and reporting only outside"}  # fmt: skip
    return f"{says[use]} {printable(os.fspath(path))}"
