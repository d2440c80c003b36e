"""The objects of the rendered scenes: a plate (or a body with lobes) that bears the detail its category is named after.

Everything is a polygon in unit coordinates (x right, y down, the plate inside [-0.5, 0.5]^2), bent by one linear map
and filled at several times the final resolution. Plate shape, colours and contrast are drawn at random and shared by
all categories, so only the detail tells them apart; it is 1/4 to 1/3 of the object wide at every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

CATEGORIES = (
    "bars", "rails", "cross", "ring", "dot", "wedge", "checker", "half", "tee", "corner", "twins", "clover",
)  # fmt: skip
FRACTION_BITS = 6  # of the fixed-point coordinates that polygons are filled with


class Drawing(NamedTuple):
    """Polygons [n, 2] float64 in unit coordinates."""

    plate: np.ndarray
    lobes: list[np.ndarray]  # beside the plate
    ink: list[np.ndarray]  # on the plate, cut at its rim
    holes: list[np.ndarray]  # cut out of the ink


class Sprite(NamedTuple):
    """An object ready to be put into an image."""

    colour: np.ndarray  # [h, w, 3] float32, 0..255
    alpha: np.ndarray  # [h, w] float32, 0..1
    x: int  # position of the crop in the image
    y: int
    box: np.ndarray  # [4] float64, xyxy, image frame, extent of the polygons


def _circle(x: float, y: float, radius: float, corners: int = 40) -> np.ndarray:
    angle = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)


def _rounded_square(side: float, radius: float) -> np.ndarray:
    middle = side / 2 - radius
    quarter = np.arange(9) * (np.pi / 16)
    parts = []
    for number, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        angle = quarter + number * np.pi / 2
        parts.append(np.stack([sx * middle + radius * np.cos(angle), sy * middle + radius * np.sin(angle)], axis=1))
    return np.concatenate(parts)


PLATES = (
    _circle(0, 0, 0.5),
    _rounded_square(0.92, 0.14),
    _circle(0, 0, 0.52, 6),
    _circle(0, 0, 0.52, 8),
)


def _details() -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
    """Ink and holes of the categories whose detail is on the plate."""
    return {
        "bars": ([_rectangle(-0.6, -0.37, 0.6, -0.12), _rectangle(-0.6, 0.12, 0.6, 0.37)], []),
        "rails": ([_rectangle(-0.37, -0.6, -0.12, 0.6), _rectangle(0.12, -0.6, 0.37, 0.6)], []),
        "cross": ([_rectangle(-0.4, -0.13, 0.4, 0.13), _rectangle(-0.13, -0.4, 0.13, 0.4)], []),
        "ring": ([_circle(0, 0, 0.37)], [_circle(0, 0, 0.17)]),
        "dot": ([_circle(0, 0, 0.2)], []),
        "wedge": ([np.array([[0.0, -0.38], [0.37, 0.28], [-0.37, 0.28]])], []),
        "checker": ([_rectangle(-0.6, -0.6, 0, 0), _rectangle(0, 0, 0.6, 0.6)], []),
        "half": ([_rectangle(-0.6, -0.6, 0, 0.6)], []),
        "tee": ([_rectangle(-0.37, -0.36, 0.37, -0.11), _rectangle(-0.13, -0.36, 0.13, 0.38)], []),
        "corner": ([_rectangle(-0.33, -0.36, -0.07, 0.34), _rectangle(-0.33, 0.09, 0.36, 0.34)], []),
        "blank": ([], []),
    }


DETAILS = _details()
LOBES = {
    "twins": [_circle(-0.42, 0, 0.22), _circle(0.42, 0, 0.22)],
    "clover": [_circle(0.42 * x, 0.42 * y, 0.22) for x, y in ((0, -1), (0.866, 0.5), (-0.866, 0.5))],
}


def drawing(name: str, plate: int) -> Drawing:
    """The polygons of a category (or of "blank", which is none) on plate number `plate`."""
    if name in LOBES:
        return Drawing(0.7 * PLATES[plate], LOBES[name], [], [])
    ink, holes = DETAILS[name]
    return Drawing(PLATES[plate], [], ink, holes)


def fill(mask: np.ndarray, polygon: np.ndarray, value=255, smooth: bool = True) -> None:
    """Fills a polygon [n, 2], given in half-open pixel coordinates, into a uint8 mask [h, w] or image, in place.

    smooth blends the pixels on the border. OpenCV also fills about half a pixel around the polygon, and rounds its
    corners to whole rows, so masks that need precision are filled at several times the resolution.
    """
    points = np.rint((polygon - 0.5) * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [points], value, cv2.LINE_AA if smooth else cv2.LINE_8, FRACTION_BITS)


def shape_matrix(generator: np.random.Generator) -> np.ndarray:
    """A linear map [2, 2]: rotation within 25 degrees, a little shear, aspect 0.75 to 1.33."""
    turn, shear, stretch = generator.uniform(-1, 1, 3)
    angle = turn * (25 * np.pi / 180)
    root = (4 / 3) ** (stretch / 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([[root, 0], [0, 1 / root]]) @ rotation @ np.array([[1, 0.15 * shear], [0, 1]])


def colours(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours [3] float32 of plate, rim and ink; plate and ink differ in luminance by at least 80 of 255."""
    weights = np.array([0.299, 0.587, 0.114])
    tint, other = generator.random((2, 3))
    plate = 40 + 190 * tint
    luminance = plate @ weights
    wanted = luminance + (-1 if luminance > 128 else 1) * generator.uniform(85, 150)
    ink = np.clip(wanted + 60 * (other - other @ weights), 4, 250)
    ink = np.clip(ink + (np.clip(wanted, 10, 245) - ink @ weights), 0, 255)
    rim = (plate, 0.55 * plate, 0.5 * plate + 120)[generator.integers(3)]
    return plate.astype(np.float32), rim.astype(np.float32), ink.astype(np.float32)


def draw(
    generator: np.random.Generator, name: str, size: float, centre: np.ndarray, light: np.ndarray, limit: np.ndarray
) -> Sprite:
    """Renders one object.

    size: sqrt of its box's area, px. centre: [2] (x, y) of the box, image frame. light: unit vector [2] towards the
    light. limit: [2] largest (width, height); a larger object is drawn smaller.
    """
    parts = drawing(name, int(generator.integers(len(PLATES))))
    matrix = shape_matrix(generator)
    outline = np.concatenate([parts.plate, *parts.lobes]) @ matrix.T
    low, high = outline.min(axis=0), outline.max(axis=0)
    factor = min(size / np.sqrt(np.prod(high - low)), np.min(limit / (high - low)))
    origin = centre - factor * (low + high) / 2
    box = np.rint(16 * np.concatenate([origin + factor * low, origin + factor * high])) / 16

    corner = np.floor(box[:2]).astype(int) - 1
    width, height = (np.ceil(box[2:]).astype(int) + 1 - corner).tolist()
    fine = 8 if size < 32 else 4 if size < 96 else 2

    def mask(polygons: list[np.ndarray], holes: Sequence[np.ndarray] = (), shrink: float = 1.0) -> np.ndarray:
        canvas = np.zeros((height * fine, width * fine), np.uint8)
        for polygon, value in [(p, 255) for p in polygons] + [(p, 0) for p in holes]:
            fill(canvas, fine * (origin - corner + factor * shrink * (polygon @ matrix.T)), value, smooth=False)
        return canvas

    plate = mask([parts.plate])
    inner = mask([parts.plate], shrink=0.88)
    ink = cv2.min(mask(parts.ink, parts.holes), inner)
    whole = cv2.max(plate, mask(parts.lobes)) if parts.lobes else plate
    plate, inner, ink, whole = (_reduce(item, fine) for item in (plate, inner, ink, whole))

    base, rim, mark = colours(generator)
    colour = np.empty((height, width, 3), np.float32)
    if parts.lobes:
        colour[:] = mark
        colour += plate[..., None] * (base - mark)
    else:
        colour[:] = rim
        colour += inner[..., None] * (base - rim)
    colour += ink[..., None] * (mark - colour)
    return Sprite(_shaded(generator, colour, light), whole, int(corner[0]), int(corner[1]), box)


def _reduce(mask: np.ndarray, fine: int) -> np.ndarray:
    """Mean [h, w] float32 in 0..1 of every fine x fine square."""
    height, width = mask.shape
    small = cv2.resize(mask, (width // fine, height // fine), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) * np.float32(1 / 255)


def _shaded(generator: np.random.Generator, colour: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Multiplies with a gradient along the light and, where there is room to see it, a soft stain."""
    height, width = colour.shape[:2]
    strength, stain = generator.uniform(0.1, 0.5), generator.uniform(0.0, 0.25)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(light[0])
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(light[1])
    shade = 1 + np.float32(strength) * (y[:, None] + x[None])
    grid = generator.random((7, 7), dtype=np.float32)
    if min(height, width) >= 32:
        shade += np.float32(stain) * (cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) - 0.5)
    return np.clip(colour * shade[..., None], 0, 255)
