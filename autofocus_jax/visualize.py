"""Pictures: boxes on an image, and panels of all stages like the paper's Fig. 8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from autofocus_jax.files import write_bytes
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.structures import AutoFocusError, Detections, GroundTruth, Scale

RED, YELLOW, GREEN, MAGENTA = (255, 40, 30), (255, 215, 0), (40, 220, 70), (255, 60, 255)
WHITE, GREY = (255, 255, 255), (150, 150, 150)
Color = tuple[int, int, int]

_TILE = 960  # longer side of a tile, px
_LEGEND = (
    "bright: processed at this scale   red: focus map   yellow: chips   green: kept   "
    "magenta: removed at a chip's border   white: ground truth (grey: ignored)"
)


def write_picture(path: Path, picture: np.ndarray, sync: bool = True) -> Path:
    """Writes uint8 RGB [h, w, 3] in the format of the path's suffix, whole or not at all; returns the path.

    sync: as in files.whole_file. Raises WriteError, and AutoFocusError for a picture too large for the format.
    """
    good, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not good:
        raise AutoFocusError(f"{path} cannot be encoded; a picture of {picture.shape[1]}x{picture.shape[0]} px is too "
                             "large for its format")  # fmt: skip
    return write_bytes(path, data, sync)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    categories: Sequence[str] | None = None,
    color: Color = GREEN,
    thickness: int = 2,
) -> np.ndarray:
    """A copy of an image [h, w, 3] uint8 RGB with boxes [n, 4] in its frame.

    Captions name the category of labels [n] and the score of scores [n], as far as they are given. The best-scored box
    is drawn last, on top. thickness: of the lines, px; captions grow with it from 3 on.
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


def stage_tile(image: np.ndarray, stage: Stage, min_score: float = 0.3) -> np.ndarray:
    """One scale of one image, uint8 RGB with a longer side of 960 px.

    What the scale did not process is dark; its focus map is red, its chips yellow, detections of at least min_score
    green, and those that stacking removed because a chip cut them magenta.
    """
    canvas, zoom = _enlarged(image)
    canvas = (0.75 * canvas).astype(np.uint8)
    dark = (0.3 * canvas).astype(np.uint8)
    for number, chip in enumerate(np.asarray(stage.chips, np.float64) * zoom):
        area = _slices(chip, canvas.shape)
        dark[area] = canvas[area]
        if number < len(stage.focus):
            _tint(dark[area], stage.focus[number])
    dark = draw_boxes(dark, stage.chips * zoom, color=YELLOW, thickness=5)
    for found, color in ((stage.removed, MAGENTA), (stage.kept, GREEN)):
        dark = draw_boxes(dark, found.boxes[found.scores >= min_score] * zoom, color=color)
    return dark


def result_tile(
    image: np.ndarray,
    detections: Detections,
    categories: Sequence[str],
    truth: GroundTruth | None = None,
    min_score: float = 0.3,
) -> np.ndarray:
    """Final detections of at least min_score with captions, over the ground truth (ignore regions grey) if given."""
    canvas, zoom = _enlarged(image)
    if truth is not None:
        canvas = draw_boxes(canvas, truth.boxes[truth.ignore] * zoom, color=GREY, thickness=4)
        canvas = draw_boxes(canvas, truth.boxes[~truth.ignore] * zoom, color=WHITE, thickness=4)
    shown = detections.scores >= min_score
    boxes, scores, labels = (field[shown] for field in detections)
    return draw_boxes(canvas, boxes * zoom, labels, scores, categories)


def panel(
    image: np.ndarray,
    stages: Sequence[Stage],
    scales: Sequence[Scale],
    detections: Detections,
    categories: Sequence[str],
    truth: GroundTruth | None = None,
    min_score: float = 0.3,
) -> np.ndarray:
    """A picture [H, W, 3] uint8 RGB of what a cascade did to one image: a tile for each scale and one for the result.

    image [h, w, 3] uint8 RGB; stages: one for each of the scales; boxes in the image frame. Only detections of at
    least min_score are drawn.
    """
    tiles = [stage_tile(image, stage, min_score) for stage in stages]
    titles = [_title(image, number, *pair) for number, pair in enumerate(zip(stages, scales, strict=True), 1)]
    tiles.append(result_tile(image, detections, categories, truth, min_score))
    titles.append(f"result: {int((detections.scores >= min_score).sum())} detections ≥ {min_score:g}")
    height, width = tiles[0].shape[:2]
    inches = 4.8
    # Here, because the import takes longer than everything else of a short run that draws no panel.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(inches * len(tiles), inches * height / width + 0.7), dpi=150, layout="constrained")
    for axes, tile, title in zip(figure.subplots(1, len(tiles), squeeze=False)[0], tiles, titles):
        axes.imshow(tile, interpolation="antialiased")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    figure.supxlabel(_LEGEND, fontsize=10)
    drawing = FigureCanvasAgg(figure)
    drawing.draw()
    return np.asarray(drawing.buffer_rgba())[..., :3].copy()


def _title(image: np.ndarray, number: int, stage: Stage, scale: Scale) -> str:
    factor = pyramid.factor(*image.shape[:2], scale)
    pixels = sum(height * width for height, width in (pyramid.chip_size(chip, factor) for chip in stage.chips))
    height, width = pyramid.level_size(*image.shape[:2], scale)
    chips = "1 chip" if len(stage.chips) == 1 else f"{len(stage.chips)} chips"
    return f"scale {number}: {chips}, {pixels / 1e3:.0f}k px ({pixels / (height * width):.0%} of {width}x{height})"


def _enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image resized to the side of a tile, and the factor; small objects stay visible under thin lines."""
    zoom = _TILE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA), zoom


def _slices(box: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    x1, y1, x2, y2 = np.round(box).astype(int)
    return slice(max(0, y1), min(shape[0], y2)), slice(max(0, x1), min(shape[1], x2))


def _tint(region: np.ndarray, focus: np.ndarray) -> None:
    """Blends red into a region [h, w, 3], in place, as strongly as the focus map [rows, columns] is sure."""
    if region.size:
        spread = cv2.resize(focus.astype(np.float32), region.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        weight = 0.6 * np.clip(spread, 0, 1)[..., None]
        region[:] = (region * (1 - weight) + np.array(RED) * weight).astype(np.uint8)


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
