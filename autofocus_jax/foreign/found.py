"""The values of this room: detections in a crop, and a detector as one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.errors import ForeignError
from autofocus_jax.focus import stacking
from autofocus_jax.structures import Detections


class Raw(NamedTuple):
    """Rows that a layout reads from the outputs for one canvas, before any choice."""

    boxes: np.ndarray  # [n, 4] float32, canvas px
    scores: np.ndarray  # [n, K] float32 of every class; [n] where labels are given
    labels: np.ndarray | None = None  # [n] int, where the model chose the class itself


class CropDetector(NamedTuple):
    """A detector reduced to one function, with the facts that its user needs."""

    find: Callable[[Sequence[np.ndarray]], list[Detections]]  # crops, uint8 RGB [h, w, 3] each
    fixed: tuple[int, int] | None  # (height, width) of the input, px; None where any size goes
    multiple: int  # what the sides of a free input must be multiples of, px
    padding: tuple[int, int, int]  # RGB of what surrounds a crop in the input
    categories: tuple[str, ...] | None  # names by label; None where they are not known
    about: tuple[tuple[str, str], ...] = ()  # what was understood: pairs of a heading and a text
    made_for: int | None = None  # px, longer side of the images that a free input was made for, where that is told


class Choice(NamedTuple):
    """Settings that choose among raw rows."""

    threshold: float  # least score
    nms_iou: float | None  # of NMS inside each class; None where the model has done with it
    most: int  # rows of a crop at most
    every_class: bool  # whether a row counts once for each of its classes, or for its best class alone
    only: tuple[int, ...] | None  # classes that count, which become labels 0, 1, ...; None for all


def checked(raw: Raw) -> Raw:
    """Return a Raw as it is; ForeignError unless its arrays belong together."""
    if not isinstance(raw, Raw):
        raise ForeignError(f"the outputs were read as {type(raw).__name__}; want a Raw of boxes, scores and labels")
    boxes, scores, labels = (None if field is None else np.shape(field) for field in raw)
    fits = len(boxes) == 2 and boxes[1] == 4 and len(scores) == (2 if labels is None else 1) and scores[0] == boxes[0]
    if not fits or labels not in (None, scores):
        shapes = ", ".join(str(list(shape)) for shape in (boxes, scores, labels) if shape is not None)
        raise ForeignError(f"the outputs were read as boxes, scores and labels of {shapes}; want [n, 4] and [n, K], or "
                           "[n, 4], [n] and [n]")  # fmt: skip
    return raw


def choose(raw: Raw, choice: Choice) -> Detections:
    """Return the rows of `raw` that count, best first, in canvas px.

    Classes outside `choice.only` are left out before a row's best class is taken.
    """
    boxes, scores, labels = _by_class(raw, choice)
    if np.isnan(scores).any():
        raise ForeignError("the model answers scores that are no numbers; try 32-bit weights, or another layout")
    keep = np.flatnonzero(scores >= choice.threshold)
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    if choice.nms_iou is None:
        order = np.argsort(-scores, kind="stable")[: choice.most]
        return Detections(boxes[order], scores[order], labels[order])
    config = StackingConfig(score_threshold=0.0, max_detections=choice.most, nms_iou=choice.nms_iou)
    return stacking.merge(boxes, scores, labels, config)


def _by_class(raw: Raw, choice: Choice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows as (boxes [n, 4], scores [n], labels [n]), labels numbered as `choice.only` says."""
    boxes, scores = np.asarray(raw.boxes, np.float32).reshape(-1, 4), np.asarray(raw.scores, np.float32)
    if raw.labels is not None:
        labels = np.nan_to_num(np.asarray(raw.labels), nan=-1, posinf=-1, neginf=-1).astype(np.int32)
        if choice.only is None:
            return boxes, scores, labels
        row, new = np.nonzero(labels[:, None] == np.array(choice.only, np.int32))
        return boxes[row], scores[row], new.astype(np.int32)
    if choice.only is not None:
        scores = scores[:, list(choice.only)]
    if choice.every_class:
        row, labels = np.nonzero(~(scores < choice.threshold))
        return boxes[row], scores[row, labels], labels.astype(np.int32)
    if not scores.size:
        return Detections.none()
    labels = scores.argmax(axis=1)
    return boxes, scores[np.arange(len(labels)), labels], labels.astype(np.int32)


def corners(boxes: np.ndarray) -> np.ndarray:
    """Turn boxes [n, 4] of centre and size (cx, cy, w, h) into xyxy."""
    half = boxes[:, 2:4] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float32)))


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
