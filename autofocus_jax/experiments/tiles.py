"""Rows of pictures with cells and boxes on them, for figures: everything in the frame of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from autofocus_jax.experiments import figure
from autofocus_jax.focus import pyramid
from autofocus_jax.structures import STRIDE, Scale


def grid(images: Sequence[np.ndarray], columns: int) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure as wide as a page, with a row of `columns` axes, as high as needed, for each image [h, w, 3]."""
    ratios = [image.shape[0] / image.shape[1] for image in images]
    tile = figure.PAGE / columns
    height = sum(ratio * tile + 0.22 for ratio in ratios) + 0.3
    sketch, axes = figure.new(figure.PAGE, height, len(images), columns, gridspec_kw={"height_ratios": ratios})
    return sketch, [axes[row * columns : (row + 1) * columns] for row in range(len(images))]


def show(axes: Axes, image: np.ndarray, title: str, brightness: float = 1.0) -> None:
    """Show an image [h, w, 3] uint8 in axes whose coordinates are its pixels."""
    height, width = image.shape[:2]
    axes.imshow((image * brightness).astype(np.uint8), extent=(0, width, height, 0), interpolation="antialiased")
    axes.set_title(title, fontsize=7, pad=2)
    axes.set_axis_off()


def darken(axes: Axes, chips: np.ndarray, size: tuple[int, int]) -> None:
    """Darken the area outside the chips [c, 4] of an image of `size` (height, width)."""
    cover = np.zeros((*size, 4), np.float32)
    cover[..., 3] = 0.6
    for x1, y1, x2, y2 in np.round(chips).astype(int):
        cover[y1:y2, x1:x2, 3] = 0
    axes.imshow(cover, extent=(0, size[1], size[0], 0), interpolation="nearest")


def cells(
    axes: Axes, values: np.ndarray, chip: np.ndarray, scale: Scale, size: tuple[int, int], color: str, strength: float
) -> None:
    """Tint the cells of a chip [4] (image frame) by values [rows, columns] in 0..1."""
    x1, y1, x2, y2 = (float(side) for side in chip)
    height, width = pyramid.chip_size(chip, pyramid.factor(*size, scale))
    tint = np.empty((*values.shape, 4))
    tint[..., :3] = to_rgb(color)
    tint[..., 3] = strength * np.clip(values, 0, 1)
    right, bottom = (
        x1 + values.shape[1] * STRIDE * (x2 - x1) / width,
        y1 + values.shape[0] * STRIDE * (y2 - y1) / height,
    )
    shown = axes.imshow(tint, extent=(x1, right, bottom, y1), interpolation="nearest")
    shown.set_clip_path(Rectangle((x1, y1), x2 - x1, y2 - y1, transform=axes.transData))
    axes.set(xlim=(0, size[1]), ylim=(size[0], 0))


def outline(axes: Axes, boxes: np.ndarray, color: str, width: float) -> None:
    """Draw boxes [n, 4] (image frame) as lines of `width` points."""
    patches = [Rectangle((x1, y1), x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=color, linewidth=width))


def legend(sketch: Figure, looks: Mapping[str, str]) -> Figure:
    """Write a legend of the colours below the figure and return the figure."""
    handles = [Patch(facecolor=color, edgecolor=figure.GREY, linewidth=0.5) for color in looks.values()]
    sketch.legend(handles, list(looks), loc="outside lower center", ncols=len(looks), handlelength=1.0)
    return sketch
