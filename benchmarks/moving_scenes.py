"""Rendered videos with known truth: the package's scenes with objects that move, turn, appear and leave."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from autofocus_jax.scenes import backgrounds, sprites
from autofocus_jax.scenes.canvas import blank_canvas, ground_truth, put
from autofocus_jax.scenes.rendering import LARGE, MEDIUM, SMALL, camera, log_uniform
from autofocus_jax.scenes.sprites import CATEGORIES
from autofocus_jax.structures import GroundTruth

HEIGHT, WIDTH = 480, 640
FASTEST = 3.0  # px a frame
TURN = 0.06  # standard deviation of a velocity's change in a frame, in parts of the speed


class Frame(NamedTuple):
    """A frame, what is in it, and which object each row is."""

    image: np.ndarray  # [480, 640, 3] uint8
    truth: GroundTruth
    numbers: list[int]  # of the object in each row of `truth`


class _Mover(NamedTuple):
    seed: int  # of its looks
    label: int
    size: float  # px
    path: np.ndarray  # [frames, 2], centre in the world, px
    first: int  # frame that it appears in


def moving_scene(seed: int, frames: int, pan: float) -> list[Frame]:
    """Render a video.

    The demo's scenes decide how many objects there are and how large. A third of the objects stand still. A third
    appear after the first frame. Small objects keep together and move together.

    Args:
        seed: decides everything.
        frames: number of frames.
        pan: px that the camera moves in a frame, to the right and half as far down.
    """
    generator = np.random.default_rng([seed, 77])
    reach = int(np.ceil(pan * frames))
    angle = generator.uniform(0.15, 0.85) * np.pi
    light = np.array([np.cos(angle), -np.sin(angle)])
    world = backgrounds.background(generator, HEIGHT + reach, WIDTH + reach)
    for shape in backgrounds.scatter(generator, HEIGHT + reach, WIDTH + reach, light):
        backgrounds.draw_shape(world, shape)
    movers = _movers(generator, frames, reach)
    lens = int(generator.integers(2**31))
    return [_frame(generator, world, movers, number, pan, light, lens) for number in range(frames)]


def _movers(generator: np.random.Generator, frames: int, reach: int) -> list[_Mover]:
    extent = np.array([WIDTH + reach, HEIGHT + reach], np.float64)
    groups = [(size, extent * generator.uniform(0.15, 0.85, 2), None)
              for limits, most in ((LARGE, 3), (MEDIUM, 6))
              for size in log_uniform(generator, limits, int(generator.integers(most)))]  # fmt: skip
    if generator.random() < 0.69:
        centre, common = extent * generator.uniform(0.2, 0.8, 2), _velocities(generator, frames)
        groups += [(size, centre + generator.normal(0, 30, 2), common)
                   for size in log_uniform(generator, SMALL, int(generator.integers(2, 9)))]  # fmt: skip
    movers = []
    for size, start, common in groups:
        velocities = _velocities(generator, frames) if common is None else common
        first = 0 if generator.random() < 2 / 3 else int(generator.integers(1, max(2, frames - 20)))
        path = start + np.cumsum(velocities, axis=0)
        label, looks = int(generator.integers(len(CATEGORIES))), int(generator.integers(2**31))
        movers.append(_Mover(looks, label, float(size), path, first))
    return movers


def _velocities(generator: np.random.Generator, frames: int) -> np.ndarray:
    """Velocities [frames, 2], px a frame, which turn and change at random; a third are 0."""
    speed = 0.0 if generator.random() < 1 / 3 else generator.uniform(0.3, FASTEST)
    angle = generator.uniform(0, 2 * np.pi)
    changes = generator.normal(0, TURN * speed, (frames, 2))
    return speed * np.array([np.cos(angle), np.sin(angle)]) + np.cumsum(changes, axis=0)


def _frame(generator, world, movers, number, pan, light, lens) -> Frame:
    offset = np.array([pan * number, pan * number / 2])
    x, y = np.rint(offset).astype(int)  # a camera of whole px, as cheap stabilisers move
    canvas = blank_canvas(world[y : y + HEIGHT, x : x + WIDTH].copy())
    drawn = []
    for index, mover in enumerate(movers):
        if number < mover.first:
            continue
        looks = np.random.default_rng(mover.seed)
        limit = np.array([0.94 * WIDTH, 0.94 * HEIGHT])
        sprite = sprites.draw(looks, CATEGORIES[mover.label], mover.size, mover.path[number] - (x, y), light, limit)
        if put(looks, canvas, sprite, mover.label, light):
            drawn.append(index)
    image = camera(np.random.default_rng(lens), canvas.image)
    gain = 1 + 0.08 * np.sin(number / 7)  # the sun comes and goes
    noise = generator.normal(0, 1.5, image.shape).astype(np.float32)
    image = np.clip(gain * image + noise, 0, 255).astype(np.uint8)
    return Frame(image, ground_truth(canvas, None), drawn)
