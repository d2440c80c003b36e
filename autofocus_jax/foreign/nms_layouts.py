"""Layouts of models that do NMS themselves: PaddleDetection, torchvision, MMDeploy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autofocus_jax.foreign.coco_classes import COCO_IDS
from autofocus_jax.foreign.found import ForeignError, Raw
from autofocus_jax.foreign.layouts import Layout, Seen, Size
from autofocus_jax.foreign.preparation import GREY, IMAGENET_DEVIATION, IMAGENET_MEAN, Preparation


def _six(shape: tuple) -> bool:
    return len(shape) == 2 and shape[1] == 6


def _tells_paddle(seen: Seen) -> str:
    if not seen.has_input("scale_factor"):
        return "has no input scale_factor"
    return "" if any(_six(answer.shape) for answer in seen.answers) else "has no output of [n, 6]"


def _decode_paddle(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    """Class, score, box. The count beside them is not read: in exports of PicoDet it is the capacity."""
    rows = next(answer for answer in answers.values() if _six(answer.shape))
    rows = rows[rows[:, 0] >= 0]  # -1 fills what NMS left empty
    return [Raw(rows[:, 2:], rows[:, 1], rows[:, 0].round())]


def _torchvision_fields(answers: Mapping[str, np.ndarray]) -> tuple[str, str, str] | None:
    """Names of the outputs that are boxes [n, 4], scores [n] and labels [n]; None where they are not just these."""
    boxes = [name for name, value in answers.items() if value.ndim == 2 and value.shape[1] == 4]
    flat = {name: value for name, value in answers.items() if value.ndim == 1}
    scores = [name for name, value in flat.items() if np.issubdtype(value.dtype, np.floating)]
    labels = [name for name, value in flat.items() if np.issubdtype(value.dtype, np.integer)]
    return (boxes[0], scores[0], labels[0]) if len(boxes) == len(scores) == len(labels) == 1 else None


def _by_name(seen: Seen) -> dict[str, np.ndarray]:
    return {tensor.name: answer for tensor, answer in zip(seen.outputs, seen.answers)}


def _tells_torchvision(seen: Seen) -> str:
    return "" if _torchvision_fields(_by_name(seen)) else "wants boxes [n, 4], whole-number labels [n] and scores [n]"


def _decode_torchvision(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    """Labels count from 1, the background being 0; COCO's are its category ids."""
    boxes, scores, labels = (answers[name] for name in _torchvision_fields(answers))
    return [Raw(boxes, scores, foreground_labels(labels, seen.classes))]


def foreground_labels(labels: np.ndarray, classes: int | None) -> np.ndarray:
    """Turn torchvision's labels [n], counted from 1, into 0..K-1.

    classes: number of names; None or 80 takes them for COCO's category ids. ForeignError for an id that COCO lacks.
    """
    labels = np.asarray(labels, np.int64)
    if classes not in (None, len(COCO_IDS)):
        return labels - 1
    position = np.searchsorted(COCO_IDS, labels).clip(max=len(COCO_IDS) - 1)
    strange = labels[np.array(COCO_IDS)[position] != labels]
    if len(strange):
        raise ForeignError(f"label {strange[0]} is no category id of COCO; give the names of the classes")
    return position


def _tells_mmdeploy(seen: Seen) -> str:
    dets, labels = seen.answer("dets"), seen.answer("labels")
    if dets is None or labels is None:
        return "has no outputs dets and labels"
    shapes_fit = dets.ndim == 3 and dets.shape[2] == 5 and labels.ndim == 2
    return "" if shapes_fit else "wants dets of [B, n, 5] and labels of [B, n]"


def _decode_mmdeploy(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    found = []
    for rows, labels in zip(answers["dets"], answers["labels"]):
        filled = labels >= 0
        found.append(Raw(rows[filled, :4], rows[filled, 4], labels[filled]))
    return found


NMS_LAYOUTS = (
    Layout(
        "paddle", "PicoDet and others of PaddleDetection: image, scale_factor -> [n, 6] of class, score, box",
        Preparation(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION, padding=GREY, fit="stretch"),
        _tells_paddle, _decode_paddle, nms=False, batched=False, coco=True,
    ),
    Layout(
        "torchvision", "torchvision: boxes [n, 4], labels [n], scores [n]",
        Preparation(padding=(124, 116, 104)), _tells_torchvision, _decode_torchvision, nms=False, batched=False,
        coco=True,
    ),
    Layout(
        "mmdeploy", "MMDeploy: dets [B, n, 5], labels [B, n]",
        Preparation(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION, padding=(124, 116, 104)),
        _tells_mmdeploy, _decode_mmdeploy, nms=False, coco=True,
    ),
)  # fmt: skip
