"""Boxes drawn on an image, and pictures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from autofocus_jax.files import write_bytes
from autofocus_jax.structures import Array, AutoFocusError

RED, YELLOW, GREEN, MAGENTA = (255, 40, 30), (255, 215, 0), (40, 220, 70), (255, 60, 255)
WHITE, GREY = (255, 255, 255), (150, 150, 150)
Color = tuple[int, int, int]


def write_picture(path: Path, picture: np.ndarray, sync: bool = True) -> Path:
    """Write uint8 RGB [h, w, 3] in the format of the path's suffix, whole or not at all, and return the path.

    Args:
        path: the file.
        picture: the pixels.
        sync: as in files.whole_file.

    Raises:
        WriteError: the file cannot be written.
        AutoFocusError: the picture is too large for the format.
    """
    good, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not good:
        raise AutoFocusError(f"{path} cannot be encoded; a picture of {picture.shape[1]}x{picture.shape[0]} px is too "
                             "large for its format")  # fmt: skip
    return write_bytes(path, data, sync)


def draw_boxes(
    image: np.ndarray,
    boxes: Array,
    labels: Array | None = None,
    scores: Array | None = None,
    categories: Sequence[str] | None = None,
    color: Color = GREEN,
    thickness: int = 2,
) -> np.ndarray:
    """Return a copy of an image with boxes and captions.

    The box with the best score is drawn last, on top.

    Args:
        image: [h, w, 3] uint8 RGB.
        boxes: [n, 4], frame of the image.
        labels: [n]; captions name the category.
        scores: [n]; captions show the score.
        categories: names of the labels.
        color: of the lines, RGB.
        thickness: of the lines, px; captions grow with it from 3 on.
    """
    canvas = np.ascontiguousarray(image).copy()
    corners = np.round(np.asarray(boxes, np.float64).reshape(-1, 4)).astype(int)
    order = range(len(corners)) if scores is None else np.argsort(scores, kind="stable")
    for row in order:
        x1, y1, x2, y2 = (int(side) for side in corners[row])
        # Half-open boxes: the last pixel inside is x2 - 1.
        cv2.rectangle(canvas, (x1, y1), (max(x1, x2 - 1), max(y1, y2 - 1)), color, thickness, cv2.LINE_AA)
    for row in order:
        words = [] if labels is None or categories is None else [categories[int(labels[row])]]
        words += [] if scores is None else [f"{float(scores[row]):.2f}"]
        if words:
            _caption(canvas, " ".join(words), int(corners[row, 0]), int(corners[row, 1]), color, 0.3 * thickness)
    return canvas


def _caption(canvas: np.ndarray, text: str, x: int, y: int, color: Color, size: float) -> None:
    """Text on a dark ground above the corner (x, y), kept inside the canvas; only what it covers is touched.

    size: OpenCV's scale of the font, at least 0.6, where letters are 16 px high.
    """
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(size, 0.6)
    stroke = max(1, round(size))
    (width, height), below = cv2.getTextSize(text, font, size, stroke)
    x = max(0, min(x, canvas.shape[1] - width))
    y = min(max(y - below, height), canvas.shape[0])
    cv2.rectangle(canvas, (x, y - height - 1), (x + width, y + below - 1), (20, 20, 20), cv2.FILLED)
    cv2.putText(canvas, text, (x, y), font, size, color, stroke, cv2.LINE_AA)
