"""Panels of all stages, like the paper's Fig. 8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from autofocus_jax.focus import pyramid
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.structures import Detections, GroundTruth, Scale
from autofocus_jax.visualize.boxes import GREEN, GREY, MAGENTA, RED, WHITE, YELLOW, draw_boxes
from autofocus_jax.visualize.sheet import enlarged, sheet

_TILE = 960  # longer side of a tile, px
_LEGEND = (
    "bright: processed at this scale   red: focus map   yellow: chips   green: kept   "
    "magenta: removed at a chip's border   white: ground truth (grey: ignored)"
)


def stage_tile(image: np.ndarray, stage: Stage, min_score: float = 0.3) -> np.ndarray:
    """Return a picture of one scale of one image, uint8 RGB with a longer side of 960 px.

    Areas that the scale did not process are dark. The focus map is red, chips are yellow, detections of at least
    min_score green. Detections that a chip's border cut and that stacking removed are magenta.
    """
    canvas, zoom = enlarged(image, _TILE)
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
    """Return a picture of the final detections of at least min_score, with captions.

    If `truth` is given, its boxes are drawn below, ignore regions in grey.
    """
    canvas, zoom = enlarged(image, _TILE)
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
    """Return a picture [H, W, 3] uint8 RGB of a cascade on one image: a tile for each scale and one for the result.

    Args:
        image: [h, w, 3] uint8 RGB.
        stages: one for each scale; boxes in the image frame.
        scales: the pyramid.
        detections: the result, image frame.
        categories: names of the labels.
        truth: ground truth to draw, image frame.
        min_score: least score of drawn detections.
    """
    tiles = [stage_tile(image, stage, min_score) for stage in stages]
    titles = [_title(image, number, *pair) for number, pair in enumerate(zip(stages, scales, strict=True), 1)]
    tiles.append(result_tile(image, detections, categories, truth, min_score))
    titles.append(f"result: {int((detections.scores >= min_score).sum())} detections ≥ {min_score:g}")
    height, width = tiles[0].shape[:2]
    inches = 4.8 * len(tiles), 4.8 * height / width + 0.7
    return sheet([[tile] for tile in tiles], titles, _LEGEND, inches)


def work(size: Sequence[int], stage: Stage, scale: Scale) -> str:
    """Return in words what a scale looked at in an image of `size` (height, width, …), px: chips, px, share of all."""
    factor = pyramid.factor(size[0], size[1], scale)
    pixels = sum(height * width for height, width in (pyramid.chip_size(chip, factor) for chip in stage.chips))
    height, width = pyramid.level_size(size[0], size[1], scale)
    chips = "1 chip" if len(stage.chips) == 1 else f"{len(stage.chips)} chips"
    return f"{chips}, {pixels / 1e3:.0f}k px ({pixels / (height * width):.0%} of {width}x{height})"


def _title(image: np.ndarray, number: int, stage: Stage, scale: Scale) -> str:
    return f"scale {number}: {work(image.shape, stage, scale)}"


def _slices(box: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    x1, y1, x2, y2 = np.round(box).astype(int)
    return slice(max(0, y1), min(shape[0], y2)), slice(max(0, x1), min(shape[1], x2))


def _tint(region: np.ndarray, focus: np.ndarray) -> None:
    """Blend red into a region [h, w, 3], in place, by the probabilities of the focus map [rows, columns]."""
    if region.size:
        spread = cv2.resize(focus.astype(np.float32), region.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        weight = 0.6 * np.clip(spread, 0, 1)[..., None]
        region[:] = (region * (1 - weight) + np.array(RED) * weight).astype(np.uint8)
