"""Answers of other packages for an image, as Detections, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autofocus_jax.foreign.found import ForeignError, first_line
from autofocus_jax.structures import Detections

# Names of (boxes, scores, labels): ours; supervision's; torchvision's and transformers'; MMDetection's.
_NAMES = (("boxes", "scores", "labels"), ("xyxy", "confidence", "class_id"), ("bboxes", "scores", "labels"))

_MOST_CLASSES = 2**31  # labels are int32


def as_found(answer: Any, classes: int | None, whose: str) -> Detections:
    """Read an answer for one crop.

    Args:
      answer: an object or a mapping with one of three sets of names (boxes, scores, labels; xyxy, confidence,
        class_id; bboxes, scores, labels), or a tuple (boxes, scores, labels). Boxes are xyxy in crop px.
      classes: number of classes, None where it is not known.
      whose: what an error calls its origin.

    Raises:
      ForeignError: something else, or fields that make no sense.
    """
    try:
        boxes, scores, labels = _fields(answer, whose)
        boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32).reshape(-1)
        labels = np.zeros(len(scores)) if labels is None else np.asarray(labels, np.float64).reshape(-1)
    except (ValueError, TypeError) as error:
        message = f"{whose} answers boxes, scores or labels that are no arrays of numbers ({first_line(error)})"
        raise ForeignError(message) from None
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) == len(scores) == len(labels):
        raise ForeignError(
            f"{whose} answers boxes {list(boxes.shape)}, scores {list(scores.shape)}, labels {list(labels.shape)}; "
            "want [n, 4], [n], [n]"
        )
    if not np.isfinite(boxes).all():
        raise ForeignError(f"{whose} answers boxes that are no finite numbers")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        wrong = boxes[(boxes[:, 2:] < boxes[:, :2]).any(axis=1)][0].tolist()
        raise ForeignError(f"{whose} answers box {wrong}, whose corners are swapped; boxes are x1, y1, x2, y2")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ForeignError(f"{whose} answers scores outside [0, 1], as {scores[~((scores >= 0) & (scores <= 1))][0]}")
    fits = (labels >= 0) & (labels < (_MOST_CLASSES if classes is None else classes)) & (labels == np.floor(labels))
    if not fits.all():
        limit = "" if classes is None else f" below {classes}, the number of classes"
        raise ForeignError(f"{whose} answers label {labels[~fits][0]:g}; want whole numbers from 0{limit}")
    return Detections(boxes, scores, labels.astype(np.int32))


def array(value: Any) -> np.ndarray:
    """Return a tensor of PyTorch's kind, on whatever device, or a sequence, as a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(getattr(value, "dtype", "")) else value
        return value.numpy()
    return np.asarray(value)


def _fields(answer: Any, whose: str) -> list:
    for names in _NAMES:
        if isinstance(answer, Mapping):
            values = [answer.get(name) for name in names]
        else:
            values = [getattr(answer, name, None) for name in names]
        if values[0] is not None:
            break
    else:
        if not (isinstance(answer, tuple) and len(answer) == 3):
            raise ForeignError(
                f"{whose} answers {type(answer).__name__}; want supervision's Detections, or boxes, scores and labels"
            )
        values = list(answer)
    if values[1] is None:
        raise ForeignError(f"{whose} answers boxes without scores; give a score for each box")
    return [value if value is None else array(value) for value in values]
