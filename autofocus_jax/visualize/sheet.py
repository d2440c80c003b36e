"""Tiles side by side as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def enlarged(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """Return the image [h, w, 3] resized to a longer side of `longest` px, and the factor."""
    zoom = longest / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA), zoom


def sheet(
    columns: Sequence[Sequence[np.ndarray]], titles: Sequence[str], legend: str, inches: tuple[float, float],
    rows: Sequence[str] = (),
) -> np.ndarray:  # fmt: skip
    """Return a picture [H, W, 3] uint8 RGB of columns of tiles, each under its title.

    Args:
        columns: tiles [h, w, 3] uint8 RGB, top to bottom; as many in each.
        titles: of the columns.
        legend: stands below.
        inches: (width, height) of the picture, 150 px each.
        rows: names at the left, top to bottom.
    """
    # Here, because the import takes longer than everything else of a short run that draws nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=150, layout="constrained")
    grid = figure.subplots(max(map(len, columns), default=1), max(len(columns), 1), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for place, tiles, title in zip(grid.T, columns, titles):
        place[0].set_title(title, fontsize=10)
        for axes, tile in zip(place, tiles):
            axes.imshow(tile, interpolation="antialiased")
    for axes, name in zip(grid[:, 0], rows):
        axes.set_ylabel(name, fontsize=10)
    figure.supxlabel(legend, fontsize=9)
    drawing = FigureCanvasAgg(figure)
    drawing.draw()
    return np.asarray(drawing.buffer_rgba())[..., :3].copy()
