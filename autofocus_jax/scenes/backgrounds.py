"""Backgrounds of the rendered scenes: materials of value noise, horizons, and things that are no object."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from autofocus_jax.scenes.sprites import fill

# Colours (RGB) that a material runs through from its dark to its light parts.
PALETTES = {
    "sky": ((96, 140, 190), (140, 180, 220), (190, 212, 232), (236, 240, 244)),
    "dusk": ((70, 74, 110), (140, 110, 130), (214, 156, 126), (244, 208, 160)),
    "grass": ((34, 52, 22), (66, 92, 38), (104, 128, 58), (158, 168, 92)),
    "soil": ((52, 40, 30), (92, 72, 54), (128, 104, 80), (176, 152, 122)),
    "sand": ((150, 126, 94), (184, 160, 122), (206, 186, 150), (230, 214, 184)),
    "water": ((24, 54, 72), (44, 86, 104), (80, 124, 138), (150, 182, 188)),
    "wood": ((70, 44, 26), (112, 74, 44), (146, 104, 66), (184, 144, 98)),
    "stone": ((66, 66, 68), (104, 104, 102), (138, 136, 132), (178, 174, 168)),
    "snow": ((170, 180, 196), (200, 208, 218), (224, 228, 234), (246, 248, 250)),
    "wall": ((150, 140, 130), (172, 162, 150), (188, 178, 166), (206, 198, 186)),
}
SKIES = ("sky", "sky", "dusk", "snow")
GROUNDS = ("grass", "soil", "sand", "water", "stone", "snow")
SURFACES = ("grass", "soil", "sand", "water", "wood", "stone", "wall")


class Shape(NamedTuple):
    """Something drawn that is no object: coloured polygons, drawn in order, in image coordinates."""

    polygons: list[np.ndarray]
    colours: list[np.ndarray]


def value_noise(
    generator: np.random.Generator, height: int, width: int, cell: float, persistence: float, stretch: float = 1.0
) -> np.ndarray:
    """Noise [height, width] float32 in 0..1: octaves of random grids, the coarsest with cells of `cell` px.

    stretch: how much longer the cells are along x than along y.
    """
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    while cell >= 1.5:
        rows, columns = int(height / cell) + 3, int(width / (cell * stretch)) + 3
        grid = generator.random((rows, columns), dtype=np.float32)
        total += np.float32(weight) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cell /= 2
        weight *= persistence
    low, high = float(total.min()), float(total.max())
    return (total - np.float32(low)) * np.float32(1 / max(high - low, 1e-6))


def _ramp(generator: np.random.Generator, palette: str) -> np.ndarray:
    """Colours [1, 256, 3] uint8 of a palette, shifted a little."""
    stops = np.array(PALETTES[palette], np.float32) + generator.uniform(-18, 18, 3).astype(np.float32)
    at = np.linspace(0, 255, len(stops))
    ramp = np.stack([np.interp(np.arange(256), at, stops[:, channel]) for channel in range(3)], axis=-1)
    return np.clip(np.rint(ramp), 0, 255).astype(np.uint8)[None]


def material(generator: np.random.Generator, height: int, width: int, palette: str, calm: bool = False) -> np.ndarray:
    """Return a surface [height, width, 3] uint8, made at half the resolution, which the sensor's noise hides."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    persistence = generator.uniform(0.25, 0.4) if calm else generator.uniform(0.45, 0.7)
    stretch = {"wood": 10.0, "water": 4.0, "sky": 2.5, "dusk": 3.0}.get(palette, 1.0)
    cell = generator.uniform(16, 90)
    noise = value_noise(generator, rows, columns, cell, persistence, stretch)
    if palette == "wood":
        planks = generator.integers(2, 7)
        row = np.arange(rows) * planks / rows
        tone = generator.uniform(-0.15, 0.15, planks + 1).astype(np.float32)
        noise = noise * 0.7 + 0.15 + tone[row.astype(int)][:, None]
        noise[(row % 1) < 1.5 * planks / rows] = 0
    contrast = generator.uniform(0.35, 1.0)
    offset = generator.uniform(0, 1 - contrast)
    index = np.clip((noise * np.float32(contrast) + np.float32(offset)) * 255, 0, 255).astype(np.uint8)
    index = cv2.resize(index, (width, height), interpolation=cv2.INTER_LINEAR)
    ramp = _ramp(generator, palette)[0]
    return cv2.merge([cv2.LUT(index, np.ascontiguousarray(ramp[:, channel])) for channel in range(3)])


def background(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture [height, width, 3] uint8 without anything in it: a landscape, two materials, or one surface."""
    kind = generator.random()
    if kind < 0.4:
        image = _landscape(generator, height, width)
    elif kind < 0.65:
        first, second = generator.choice(SURFACES, 2, replace=False)
        image = material(generator, height, width, str(first))
        other = material(generator, height, width, str(second))
        border = value_noise(generator, height // 4, width // 4, generator.uniform(20, 60), 0.5)
        mask = np.clip((border - np.float32(generator.uniform(0.35, 0.65))) * 12, 0, 1)
        image = _mixed(image, other, cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR))
    else:
        image = material(generator, height, width, str(generator.choice(SURFACES)))
    return image


def _mixed(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = np.ascontiguousarray(alpha, np.float32)
    return cv2.blendLinear(above, below, weight, 1 - weight)


def _landscape(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    sky = material(generator, height, width, str(generator.choice(SKIES)), calm=True)
    x = np.linspace(0, 1, 33)
    level = generator.uniform(0.2, 0.6)
    layers = int(generator.integers(1, 4))
    image = sky
    for number in range(layers):
        rough = (0.16, 0.1, 0.04)[number] if layers > 1 else 0.04
        line = level + rough * (np.interp(x, np.linspace(0, 1, 7), generator.uniform(-1, 1, 7)))
        line += 0.2 * rough * generator.uniform(-1, 1, 33)
        ground = material(generator, height, width, str(generator.choice(GROUNDS)))
        if number < layers - 1:  # what is far away fades into the sky
            ground = cv2.addWeighted(ground, 0.55, sky, 0.45, 0)
        mask = np.zeros((height, width), np.uint8)
        curve = np.stack([x * (width + 8) - 4, line * height], axis=1)
        fill(mask, np.concatenate([curve, [[width + 4, height + 4], [-4, height + 4]]]))
        image = _mixed(image, ground, mask.astype(np.float32) * np.float32(1 / 255))
        level += generator.uniform(0.06, 0.16)
    return image


def _natural_colour(generator: np.random.Generator, any_colour: float) -> np.ndarray:
    """A colour [3] float32: from a palette, or with probability any_colour a random one."""
    if generator.random() < any_colour:
        return (30 + 200 * generator.random(3)).astype(np.float32)
    palette = PALETTES[str(generator.choice(SURFACES))]
    first, second = np.array(palette, np.float32)[generator.integers(0, len(palette), 2)]
    return first + np.float32(generator.random()) * (second - first)


def rock(generator: np.random.Generator, centre: np.ndarray, size: float, light: np.ndarray) -> Shape:
    """An irregular lump with a lit side."""
    corners = int(generator.integers(6, 12))
    angle = (np.arange(corners) + generator.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    radius = size / 2 * generator.uniform(0.65, 1.1, corners)
    flat = generator.uniform(0.45, 0.9)
    outline = np.stack([np.cos(angle) * radius, flat * np.sin(angle) * radius], axis=1)
    colour = _natural_colour(generator, 0.1)
    steps = (1.0, 0.78, 0.5)
    polygons = [centre + outline * step + light * size * 0.22 * (1 - step) for step in steps]
    return Shape(polygons, [colour * tone for tone in (0.6, 0.85, 1.05)])


def leaf(generator: np.random.Generator, centre: np.ndarray, size: float, light: np.ndarray) -> Shape:
    """A lens with a midrib, its two halves lit differently."""
    t = np.linspace(0, 1, 11)
    width = generator.uniform(0.14, 0.3)
    bend = generator.uniform(-0.3, 0.3)
    spine = np.stack([t - 0.5, bend * (t - t * t)], axis=1)
    offset = np.stack([np.zeros_like(t), width * np.sin(np.pi * t) * (1.25 - 0.5 * t)], axis=1)
    angle = generator.uniform(0, 2 * np.pi)
    turn = size * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    colour = _natural_colour(generator, 0.15)
    side = 1 if np.sin(angle) * light[0] + np.cos(angle) * light[1] > 0 else -1
    upper, lower = np.concatenate([spine, (spine + offset)[::-1]]), np.concatenate([spine, (spine - offset)[::-1]])
    rib = np.concatenate([spine, (spine + np.array([0, 0.02]))[::-1]])
    polygons = [centre + part @ turn for part in (upper, lower, rib)]
    return Shape(polygons, [colour * (1 + 0.12 * side), colour * (1 - 0.12 * side), colour * 0.65])


def twig(generator: np.random.Generator, centre: np.ndarray, size: float, light: np.ndarray) -> Shape:
    """A thin crooked line."""
    joints = int(generator.integers(3, 7))
    along = np.linspace(-0.5, 0.5, joints) * size
    across = generator.uniform(-0.08, 0.08, joints) * size
    angle = generator.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    thickness = np.linspace(1, 0.4, joints) * generator.uniform(0.8, 1.5 + 0.02 * size)
    line = np.stack([along, across], axis=1)
    offset = np.stack([np.zeros(joints), thickness / 2], axis=1)
    outline = np.concatenate([line + offset, (line - offset)[::-1]]) @ turn
    return Shape([centre + outline], [_natural_colour(generator, 0.1) * np.float32(generator.uniform(0.5, 1.1))])


def post(generator: np.random.Generator, centre: np.ndarray, size: float, light: np.ndarray) -> Shape:
    """A long bar with a lit side, upright or nearly level."""
    half = np.array([size * generator.uniform(0.04, 0.12), size * 0.8])
    angle = generator.normal(0, 0.12) + (np.pi / 2 if generator.random() < 0.3 else 0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    lit = corners * np.array([0.35, 1]) + np.array([0.3 * half[0] * np.sign(light[0]), 0])
    colour = _natural_colour(generator, 0.2)
    return Shape([centre + part @ turn for part in (corners, lit)], [colour * 0.75, colour * 1.05])


def panel(generator: np.random.Generator, centre: np.ndarray, size: float, light: np.ndarray) -> Shape:
    """A flat four-sided board with a darker edge."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) + generator.uniform(-0.12, 0.12, (4, 2))
    corners = corners * size * np.array([generator.uniform(0.6, 1.6), generator.uniform(0.4, 1)])
    colour = _natural_colour(generator, 0.3)
    return Shape([centre + corners + light * -0.03 * size, centre + corners], [colour * 0.5, colour])


DISTRACTORS = (rock, rock, leaf, leaf, leaf, twig, twig, post, panel)
OCCLUDERS = (leaf, leaf, twig, post)


def scatter(generator: np.random.Generator, height: int, width: int, light: np.ndarray) -> list[Shape]:
    """Distractors of all sizes for the background, large ones first; small ones lie in a few places."""
    count = int(generator.integers(3, 16))
    sizes = np.sort(12 * (260 / 12) ** generator.random(count))[::-1]
    places = generator.random((int(generator.integers(1, 4)), 2)) * (width, height)
    shapes = []
    for size in sizes:
        centre = generator.random(2) * (width, height)
        if size < 60:
            centre = places[generator.integers(len(places))] + generator.normal(0, 35, 2)
        make = DISTRACTORS[generator.integers(len(DISTRACTORS))]
        shapes.append(make(generator, centre, float(size), light))
    return shapes


def draw_shape(image: np.ndarray, shape: Shape) -> None:
    """Draw a shape into a uint8 image, in place."""
    for polygon, colour in zip(shape.polygons, shape.colours, strict=True):
        fill(image, polygon, tuple(np.clip(np.rint(colour), 0, 255).tolist()))
