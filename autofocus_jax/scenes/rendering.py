"""One rendered scene: background, objects with their boxes, foreground, camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from autofocus_jax.scenes import backgrounds, sprites
from autofocus_jax.scenes.canvas import Canvas, blank_canvas, ground_truth, put, take
from autofocus_jax.scenes.sprites import CATEGORIES
from autofocus_jax.structures import GroundTruth

SPLITS = ("train", "val", "tune")
IMAGE_SIZES = ((480, 640), (427, 640), (640, 480), (640, 427), (500, 500), (426, 640), (612, 612), (360, 640))
IMAGE_SIZE_ODDS = (0.36, 0.24, 0.12, 0.08, 0.05, 0.08, 0.03, 0.04)
SMALL, MEDIUM, LARGE = (10.0, 40.0), (40.0, 110.0), (110.0, 400.0)  # sqrt(area) of boxes, px


def render_scene(generator: np.random.Generator) -> tuple[np.ndarray, GroundTruth]:
    """Render a scene and return (uint8 RGB [h, w, 3], ground truth). The generator decides everything."""
    height, width = IMAGE_SIZES[generator.choice(len(IMAGE_SIZES), p=IMAGE_SIZE_ODDS)]
    angle = generator.uniform(0.15, 0.85) * np.pi
    light = np.array([np.cos(angle), -np.sin(angle)])
    image = backgrounds.background(generator, height, width)
    for shape in backgrounds.scatter(generator, height, width, light):
        backgrounds.draw_shape(image, shape)
    canvas = blank_canvas(image)
    crowd = None
    if generator.random() >= 0.03:
        crowd = _populate(generator, canvas, light)
    for _ in range(int(generator.choice(4, p=(0.55, 0.2, 0.15, 0.1)))):
        _foreground(generator, canvas, light)
    return camera(generator, canvas.image), ground_truth(canvas, crowd)


def _populate(generator: np.random.Generator, canvas: Canvas, light: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Put objects into the scene, large ones first.

    Small ones keep to clusters, medium ones to the same part of the image.
    """
    height, width = canvas.owner.shape
    extent = np.array([width, height], np.float64)
    small = generator.random() < 0.69
    focus = extent * generator.uniform(0.15, 0.85, 2)

    for size in log_uniform(generator, LARGE, int(generator.choice(4, p=(0.07, 0.36, 0.37, 0.2)))):
        _place(generator, canvas, size, lambda: extent * generator.uniform(0.05, 0.95, 2), light)
    crowd = _crowd(generator, canvas, focus, light) if small and generator.random() < 0.06 else None
    for size in log_uniform(generator, MEDIUM, int(generator.choice(6, p=(0.18, 0.27, 0.23, 0.16, 0.1, 0.06)))):
        _place(generator, canvas, size, lambda: focus + generator.normal(0, 0.14, 2) * width, light)
    if small:
        for number in range(int(generator.choice([1, 2, 3], p=(0.8, 0.17, 0.03)))):
            centre = focus if number == 0 else focus + generator.normal(0, 0.2, 2) * width
            centre = np.clip(centre, 40, extent - 40)
            spread = generator.uniform(16, 42)
            count = int(generator.choice([2, 3, 4, 5, 7, 9, 12], p=(0.24, 0.32, 0.2, 0.12, 0.06, 0.04, 0.02)))
            for size in log_uniform(generator, SMALL, count):
                _place(generator, canvas, size, lambda: centre + generator.normal(0, spread, 2), light)  # noqa: B023
    if generator.random() < 0.15:
        size = float(log_uniform(generator, (14.0, 160.0), 1)[0])
        _place(generator, canvas, size, lambda: focus + generator.normal(0, 0.2, 2) * width, light, blank=True)
    return crowd


def log_uniform(generator: np.random.Generator, limits: tuple[float, float], count: int) -> np.ndarray:
    """Sizes [count], log-uniform between the limits, largest first."""
    low, high = limits
    return np.sort(low * (high / low) ** generator.random(count))[::-1]


def _place(
    generator: np.random.Generator,
    canvas: Canvas,
    size: float,
    position: Callable[[], np.ndarray],
    light: np.ndarray,
    blank: bool = False,
) -> None:
    """Draw an object at a random visible position that leaves other objects visible, or leave the object out."""
    height, width = canvas.owner.shape
    label = int(generator.integers(len(CATEGORIES)))
    name = "blank" if blank else CATEGORIES[label]
    limit = np.array([0.94 * width, 0.94 * height])
    slack = 0.12 * size  # how far an object may reach out of the image
    for _ in range(6):
        half = np.minimum(size / 2, limit / 2)
        centre = np.clip(position(), half - slack, (width, height) - half + slack)
        sprite = sprites.draw(generator, name, float(size), centre, light, limit)
        if put(generator, canvas, sprite, -1 if blank else label, light):
            return


def _crowd(
    generator: np.random.Generator, canvas: Canvas, centre: np.ndarray, light: np.ndarray
) -> tuple[np.ndarray, int] | None:
    """A dense patch of tiny objects of one category: (box [4], label). Later objects keep off it."""
    height, width = canvas.owner.shape
    label = int(generator.integers(len(CATEGORIES)))
    half = generator.uniform((22, 18), (60, 40))
    centre = np.clip(centre, half + 8, (width, height) - half - 8)
    limit = np.array([width, height], np.float64)
    first = len(canvas.whole)
    for size in log_uniform(generator, (8.0, 14.0), int(half[0] * half[1] / 28)):
        at = centre + generator.uniform(-1, 1, 2) * (half - 6)
        sprite = sprites.draw(generator, CATEGORIES[label], float(size), at, light, limit)
        put(generator, canvas, sprite, -1, light)
    if len(canvas.whole) == first:
        return None
    extents = np.array(canvas.boxes[first:])
    box = np.concatenate([extents[:, :2].min(axis=0), extents[:, 2:].max(axis=0)])
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    crop = canvas.owner[y1:y2, x1:x2]
    crop[crop >= first] = first
    crop[crop == 0] = first
    canvas.whole[first] = 0
    return box, label


def _foreground(generator: np.random.Generator, canvas: Canvas, light: np.ndarray) -> None:
    """Draw something in front of an object or anywhere, if the objects stay visible."""
    height, width = canvas.owner.shape
    make = backgrounds.OCCLUDERS[generator.integers(len(backgrounds.OCCLUDERS))]
    size = float(20 * 15 ** generator.random())
    for _ in range(3):
        centre = generator.random(2) * (width, height)
        if len(canvas.boxes) > 1 and generator.random() < 0.7:
            box = canvas.boxes[generator.integers(1, len(canvas.boxes))]
            centre = box[:2] + generator.random(2) * (box[2:] - box[:2])
            size = min(size, 1.2 * float(np.max(box[2:] - box[:2])))
        shape = make(generator, centre, size, light)
        points = np.concatenate(shape.polygons)
        x1, y1 = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, (width, height))
        x2, y2 = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, (width, height))
        if x1 >= x2 or y1 >= y2:
            continue
        mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
        for polygon in shape.polygons:
            sprites.fill(mask, polygon - (x1, y1))
        if take(canvas, (slice(y1, y2), slice(x1, x2)), mask > 127, 0):
            backgrounds.draw_shape(canvas.image, shape)
            return


def camera(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light, slight blur, exposure and sensor noise."""
    height, width = image.shape[:2]
    corners = generator.uniform(0.75, 1.2, (3, 3)).astype(np.float32)
    lit = cv2.resize(corners, (width // 4, height // 4), interpolation=cv2.INTER_CUBIC)
    lit = cv2.resize(lit, (width, height), interpolation=cv2.INTER_LINEAR)
    image = cv2.multiply(image, cv2.merge([lit, lit, lit]), dtype=cv2.CV_8U)
    blur = generator.uniform(-0.5, 0.65)
    if blur > 0.25:
        image = cv2.GaussianBlur(image, (5, 5), blur)
    gain, bias, gamma = generator.uniform((0.75, -14, 0.8), (1.15, 18, 1.3))
    level = np.arange(256) / 255
    table = np.clip(np.rint(255 * ((level**gamma - 0.5) * gain + 0.5) + bias), 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table)
    noise = generator.integers(0, 256, (2, *image.shape), dtype=np.uint8)
    strength = generator.uniform(0.01, 0.09)
    grain = cv2.addWeighted(noise[0], strength, noise[1], -strength, 128)
    return cv2.addWeighted(image, 1.0, grain, 1.0, -128)


def image_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the generator of one image, which depends on the image's place in the data set alone."""
    return np.random.default_rng([seed, SPLITS.index(split), index])


def render_files(folder: Path, seed: int, split: str, indices: range) -> Iterator[dict]:
    """Render images into folder/%06d.jpg. Yield a dict for each: index, height, width, boxes, labels, ignore."""
    for index in indices:
        image, truth = render_scene(image_generator(seed, split, index))
        ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not ok:
            raise RuntimeError(f"OpenCV could not encode image {index} as JPEG")
        (folder / f"{index:06d}.jpg").write_bytes(data.tobytes())
        record = {name: value.tolist() for name, value in truth._asdict().items()}
        yield {"index": index, "height": image.shape[0], "width": image.shape[1], **record}


def render_part(folder: Path, seed: int, split: str, indices: range) -> list[dict]:
    """Return the records of render_files, for a process of source.py's pool."""
    return list(render_files(folder, seed, split, indices))
