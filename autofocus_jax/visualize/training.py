"""Pictures of training chips: boxes, FocusPixel labels, predictions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.stacking import merge
from autofocus_jax.structures import FOCUS, IGNORE, STRIDE, Array, ChipBatch, DetectorOutput, TrainBatch
from autofocus_jax.visualize.boxes import GREY, MAGENTA, RED, YELLOW, draw_boxes
from autofocus_jax.visualize.sheet import enlarged, sheet

_TILE = 448  # side of a tile, px
_VOID = (40, 40, 48)  # what a chip does not fill
_BLUE = (60, 130, 255)
_ROWS = ("boxes", "focus labels", "prediction")
_LEGEND = (
    "boxes: green trained, yellow neither object nor background, grey ignore region        "
    "labels: red focus, blue left out        prediction: red focus map, magenta detections"
)


def first(batch: TrainBatch, count: int) -> TrainBatch:
    """Return the first `count` valid rows of a batch of host arrays, or fewer."""
    return _take(batch, np.flatnonzero(batch.chips.valid)[:count])


def panels(
    batch: TrainBatch,
    output: DetectorOutput | None = None,
    categories: Sequence[str] = (),
    count: int = 6,
    min_score: float = 0.3,
) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 RGB with a column for each of the first `count` valid chips of a batch.

    - Row 1: the chip with its boxes. Training boxes are green, with names. Boxes out of the scale's range or cut too
      much are yellow, ignore regions grey.
    - Row 2: its FocusPixel labels. The next scale looks at red cells; blue cells are left out of the loss.
    - Row 3, with an output: the predicted focus map, and detections of at least min_score after NMS within the chip.

    Args:
        batch: NumPy arrays.
        output: answer of the detector for the rows of batch.chips, on the host.
        categories: names [K], or none.
        count: most columns.
        min_score: least score of drawn detections.
    """
    rows = np.flatnonzero(batch.chips.valid)[:count]
    batch = _take(batch, rows)
    tiles = [[_boxes_tile(batch, row, categories), _labels_tile(batch, row)] for row in range(len(rows))]
    titles = [_title(batch, row) for row in range(len(rows))]
    if output is not None:
        output = DetectorOutput(*(np.asarray(values)[rows] for values in output))
        for row, column in enumerate(tiles):
            column.append(_output_tile(batch, output, row, categories, min_score))
    shown = _ROWS[: len(tiles[0])] if tiles else _ROWS[:1]
    inches = 3.0 * max(len(tiles), 1) + 0.4, 3.05 * len(shown) + 0.5
    return sheet(tiles, titles, _LEGEND if tiles else "no chip could be read", inches, shown)


def _take(batch: TrainBatch, rows: np.ndarray) -> TrainBatch:
    chips = ChipBatch(*(np.asarray(values)[rows] for values in batch.chips))
    return TrainBatch(chips, *(np.asarray(values)[rows] for values in batch[1:]))


def _boxes_tile(batch: TrainBatch, row: int, categories: Sequence[str]) -> np.ndarray:
    canvas, zoom = _enlarged(batch, row)
    boxes, labels = batch.boxes[row] * zoom, batch.labels[row]
    shown = batch.present[row] & np.isfinite(boxes).all(axis=1)
    trained = shown & batch.trainable[row]
    for rows, color in ((shown & ~trained & (labels < 0), GREY), (shown & ~trained & (labels >= 0), YELLOW)):
        canvas = draw_boxes(canvas, boxes[rows], color=color)
    named = np.where(trained & (labels < len(categories)))[0]
    canvas = draw_boxes(canvas, boxes[trained])
    return draw_boxes(canvas, boxes[named], labels[named], None, categories) if categories else canvas


def _labels_tile(batch: TrainBatch, row: int) -> np.ndarray:
    canvas, zoom = _enlarged(batch, row)
    labels = batch.focus[row]
    canvas = _tint(canvas, (labels == FOCUS).astype(np.float32), RED, zoom, batch.chips.size[row])
    return _tint(canvas, (labels == IGNORE).astype(np.float32), _BLUE, zoom, batch.chips.size[row])


def _output_tile(
    batch: TrainBatch, output: DetectorOutput, row: int, categories: Sequence[str], min_score: float
) -> np.ndarray:
    canvas, zoom = _enlarged(batch, row)
    canvas = _tint(canvas, np.nan_to_num(output.focus[row]), RED, zoom, batch.chips.size[row])
    scores = np.where(output.valid[row][:, None], output.scores[row], 0)
    proposal, label = np.nonzero((scores >= min_score) & np.all(np.isfinite(output.boxes[row]), axis=1)[:, None])
    found = merge(
        np.asarray(output.boxes[row])[proposal], scores[proposal, label], label.astype(np.int32),
        StackingConfig(nms_iou=0.5, score_threshold=0.0),
    )  # fmt: skip
    names = categories or None
    return draw_boxes(canvas, found.boxes * zoom, found.labels, found.scores, names, MAGENTA)


def _title(batch: TrainBatch, row: int) -> str:
    height, width = batch.chips.size[row]
    present, trained = int(batch.present[row].sum()), int((batch.present[row] & batch.trainable[row]).sum())
    return f"{width}x{height} px, {trained} of {present} boxes train"


def _enlarged(batch: TrainBatch, row: int) -> tuple[np.ndarray, float]:
    """Return the chip on a tile, with the unfilled part dark, and the factor from chip px."""
    pixels, (height, width) = np.array(batch.chips.pixels[row]), batch.chips.size[row]
    pixels[height:], pixels[:, width:] = _VOID, _VOID
    return enlarged(pixels, _TILE)


def _tint(canvas: np.ndarray, weights: Array, color: tuple[int, int, int], zoom: float, size: Array) -> np.ndarray:
    """Blend a color into a tile by the weights of the cells [h, w], inside the chip's true size (height, width)."""
    side = (weights.shape[1] * STRIDE * zoom, weights.shape[0] * STRIDE * zoom)
    size_of_map = [max(1, round(length)) for length in side]
    spread = cv2.resize(np.asarray(weights), size_of_map, interpolation=cv2.INTER_NEAREST)
    spread = spread[: canvas.shape[0], : canvas.shape[1]]
    weight = np.zeros(canvas.shape[:2], np.float32)
    weight[: spread.shape[0], : spread.shape[1]] = 0.55 * np.clip(spread, 0, 1)
    height, width = (round(length * zoom) for length in size)
    weight[height:], weight[:, width:] = 0, 0
    return (canvas * (1 - weight[..., None]) + np.array(color) * weight[..., None]).astype(np.uint8)
