"""Layouts of the YOLO families: one output of rank 3 with boxes and scores side by side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from autofocus_jax.foreign.found import Raw, corners
from autofocus_jax.foreign.layouts import STRIDES, Layout, Seen, Size, cells, only_answer
from autofocus_jax.foreign.preparation import Preparation

ULTRALYTICS = Preparation(centred=True)
YOLOX = Preparation(channels="BGR", deviation=(1.0, 1.0, 1.0))
_WIDE = (*STRIDES, 64)  # grids of the P6 models
_NO_ARRAY = "wants one output of rank 3"


def _is_rtdetr(seen: Seen) -> bool:
    told = (seen.metadata.get(key, "") for key in ("head", "description"))
    return any("rtdetr" in text.lower().replace("-", "") for text in told)


def _task(seen: Seen) -> str:
    """Why the task of an Ultralytics file has no plain boxes, "" where it has."""
    task = seen.metadata.get("task", "detect")
    return "" if task in ("detect", "segment", "pose") else f"the task is {task!r}, which has no upright boxes"


def _tells_rtdetr(seen: Seen) -> str:
    answer = only_answer(seen)
    if answer is None:
        return _NO_ARRAY
    if not _is_rtdetr(seen):
        return "the metadata name no RT-DETR head"
    return "" if answer.shape[2] >= 5 else f"wants at least 5 columns, has {answer.shape[2]}"


def _decode_rtdetr(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    """Normalised centre and size, then score and class, or a score for every class."""
    sides = np.array([size[1], size[0]] * 2, np.float32)
    chosen = seen.answers[0].shape[2] == 6 and seen.classes != 2
    return [
        Raw(corners(rows[:, :4] * sides), rows[:, 4], rows[:, 5].round()) if chosen
        else Raw(corners(rows[:, :4] * sides), rows[:, 4:])
        for rows in answers[seen.outputs[0].name]
    ]  # fmt: skip


def _tells_end_to_end(seen: Seen) -> str:
    answer = only_answer(seen)
    if answer is None:
        return _NO_ARRAY
    if answer.shape[2] < 6 or (answer.shape[2] != 6 and seen.metadata.get("end2end", "").lower() != "true"):
        return f"wants rows of 6 (box, score, class), has {list(answer.shape)}"
    if _task(seen):
        return _task(seen)
    if answer.shape[1] in (cells(seen.size), 3 * cells(seen.size), cells(seen.size, _WIDE)):
        return f"its {answer.shape[1]} rows are one or three for every cell of a grid, so columns 5 and 6 may be scores"
    return ""


def _decode_end_to_end(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    return [Raw(rows[:, :4], rows[:, 4], rows[:, 5].round()) for rows in answers[seen.outputs[0].name]]


def _tells_yolov8(seen: Seen) -> str:
    answer = only_answer(seen)
    if answer is None:
        return _NO_ARRAY
    if _task(seen):
        return _task(seen)
    if answer.shape[1] < 5:
        return f"wants 4 + K rows, has {answer.shape[1]}"
    if answer.shape[2] not in (cells(seen.size), cells(seen.size, _WIDE)):
        return f"wants {cells(seen.size)} columns, one a cell of a {seen.size[0]}x{seen.size[1]} canvas"
    plain = seen.metadata.get("task", "detect") == "detect"
    if plain and seen.classes is not None and answer.shape[1] != 4 + seen.classes:
        return f"wants 4 + {seen.classes} rows for {seen.classes} names, has {answer.shape[1]}"
    return "" if plain or seen.classes else "masks or keypoints follow the scores, and without names it is open where"


def _decode_yolov8(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    end = None if seen.classes is None else 4 + seen.classes
    return [Raw(corners(rows[:4].T), rows[4:end].T) for rows in answers[seen.outputs[0].name]]


def _tells_rows(seen: Seen, rows: tuple[int, ...], meaning: str) -> str:
    """Why an answer is not [B, N, 5 + K] with one of these numbers of rows."""
    answer = seen.answers[0]
    if answer.ndim != 3:
        return _NO_ARRAY
    if answer.shape[1] not in rows:
        return f"wants {rows[0]} rows, {meaning} of a {seen.size[0]}x{seen.size[1]} canvas"
    if answer.shape[2] < 6:
        return f"wants 5 + K columns, has {answer.shape[2]}"
    masks = len(seen.outputs) > 1  # their coefficients follow the classes
    if seen.classes is not None and (
        answer.shape[2] < 5 + seen.classes if masks else answer.shape[2] != 5 + seen.classes
    ):
        return f"wants 5 + {seen.classes} columns for {seen.classes} names, has {answer.shape[2]}"
    return ""


def _tells_yolov5(seen: Seen) -> str:
    return _tells_rows(seen, (3 * cells(seen.size), 3 * cells(seen.size, _WIDE)), "three a cell")


def _likely(rows: np.ndarray, least: float) -> np.ndarray:
    """Positions of the rows whose objectness leaves a score of `least` possible; NaN is one of them."""
    return np.flatnonzero(~(rows[:, 4] < least))


def _columns(rows: np.ndarray, seen: Seen) -> np.ndarray:
    """Objectness times class probabilities, [n, K]."""
    end = None if seen.classes is None or len(seen.outputs) == 1 else 5 + seen.classes  # masks follow
    return rows[:, 4:5] * rows[:, 5:end]


def _decode_rows(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    """Centre and size in canvas px, objectness, classes."""
    arrays = (rows[_likely(rows, least)] for rows in answers[seen.outputs[0].name])
    return [Raw(corners(rows[:, :4]), _columns(rows, seen)) for rows in arrays]


def _decoded(seen: Seen) -> bool:
    """Return True if centres are in canvas px (mean about half a canvas), False for shares of a cell (about 0.5)."""
    return float(np.abs(seen.answers[0][..., :2]).mean()) > min(seen.size) / 8


def _tells_yolox(seen: Seen, decoded: bool) -> str:
    reason = _tells_rows(seen, (cells(seen.size), cells(seen.size, _WIDE)), "one a cell")
    return reason or ("" if _decoded(seen) == decoded else f"its centres are {'not ' * decoded}in px of the canvas")


def _decode_yolox(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    """Centres as shares of a cell and sizes as logarithms, on grids of strides 8, 16, 32, each row by row."""
    array = answers[seen.outputs[0].name]
    strides = STRIDES if array.shape[1] == cells(size) else _WIDE
    origins, steps = [], []
    for stride in strides:
        ys, xs = np.mgrid[: size[0] // stride, : size[1] // stride]
        origins.append(np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float32))
        steps.append(np.full((xs.size, 1), stride, np.float32))
    origin, step = np.concatenate(origins), np.concatenate(steps)
    found = []
    for rows in array:
        likely = _likely(rows, least)
        rows, at, stride = rows[likely], origin[likely], step[likely]
        boxes = np.concatenate([(rows[:, :2] + at) * stride, np.exp(np.minimum(rows[:, 2:4], 20)) * stride], axis=1)
        found.append(Raw(corners(boxes), _columns(rows, seen)))
    return found


YOLO_LAYOUTS = (
    Layout(
        "rtdetr-ultralytics", "RT-DETR as Ultralytics exports it: [B, N, 6] or [B, N, 4 + K], normalised",
        Preparation(fit="stretch"), _tells_rtdetr, _decode_rtdetr, nms=False, coco=True,
    ),
    Layout(
        "end2end", "YOLO26, YOLOv10 and other end-to-end exports: [B, N, 6] of box, score, class",
        ULTRALYTICS, _tells_end_to_end, _decode_end_to_end, nms=False, coco=True,
    ),
    Layout("yolov8", "YOLOv8, YOLO11: [B, 4 + K, N]", ULTRALYTICS, _tells_yolov8, _decode_yolov8, nms=True, coco=True),
    Layout("yolov5", "YOLOv5, YOLOv7: [B, N, 5 + K], three rows a cell", ULTRALYTICS, _tells_yolov5, _decode_rows,
           nms=True, coco=True),
    Layout("yolox", "YOLOX, not decoded: [B, N, 5 + K], one row a cell", YOLOX,
           partial(_tells_yolox, decoded=False), _decode_yolox, nms=True, coco=True),
    Layout("yolox-decoded", "YOLOX, decoded: [B, N, 5 + K], one row a cell", YOLOX,
           partial(_tells_yolox, decoded=True), _decode_rows, nms=True, coco=True),
)  # fmt: skip
