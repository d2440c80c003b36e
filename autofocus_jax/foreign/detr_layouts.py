"""Layouts of the DETR families: a fixed number of queries, no NMS."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from autofocus_jax.foreign.coco_classes import COCO_IDS
from autofocus_jax.foreign.found import Raw, corners, sigmoid
from autofocus_jax.foreign.layouts import Layout, Seen, Size
from autofocus_jax.foreign.preparation import IMAGENET_DEVIATION, IMAGENET_MEAN, Preparation

IMAGENET = Preparation(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION, padding=(124, 116, 104))
IMAGENET_STRETCHED = Preparation(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION, fit="stretch")
_IDS = 91  # slots of a head that counts by COCO's category ids, 0..90


def _tells_rtdetr(seen: Seen) -> str:
    if not seen.has_input("orig_target_sizes"):
        return "has no input orig_target_sizes"
    missing = [name for name in ("labels", "boxes", "scores") if seen.answer(name) is None]
    return f"has no output {', '.join(missing)}" if missing else ""


def _decode_rtdetr(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    """Boxes come in px of orig_target_sizes, which is told to be the canvas."""
    fields = answers["boxes"], answers["scores"], answers["labels"]
    return [Raw(boxes, scores, labels) for boxes, scores, labels in zip(*fields)]


def _tells_rfdetr(seen: Seen) -> str:
    boxes, logits = seen.answer("dets"), seen.answer("labels")
    if boxes is None or logits is None:
        return "has no outputs dets and labels"
    if boxes.ndim != 3 or boxes.shape[2] != 4 or logits.ndim != 3:
        return "wants dets of [B, N, 4] and labels of [B, N, slots]"
    return "" if logits.shape[2] >= 2 else "wants at least 2 slots in labels"


def _contiguous(scores: np.ndarray, classes: int | None) -> np.ndarray:
    """Scores [..., slots] of COCO's 80 classes where the slots are its 91 ids, else as they are."""
    by_id = scores.shape[-1] == _IDS and classes in (None, len(COCO_IDS))
    return scores[..., list(COCO_IDS)] if by_id else scores


def _boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return corners(boxes * np.array([size[1], size[0]] * 2, np.float32))


def _decode_rfdetr(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    scores = sigmoid(answers["labels"])
    slots = scores.shape[-1]
    if slots != seen.classes and (slots != _IDS or seen.classes == _IDS - 1):
        scores = scores[..., :-1]  # the background; a head by COCO's ids, or of a slot for each name, has none
    scores = _contiguous(scores, seen.classes)
    return [Raw(_boxes(boxes, size), rows) for boxes, rows in zip(answers["dets"], scores)]


def _transformers(seen: Seen) -> str:
    logits, boxes = seen.answer("logits"), seen.answer("pred_boxes")
    if logits is None or boxes is None:
        return "has no outputs logits and pred_boxes"
    return "" if logits.ndim == 3 and boxes.shape[-1] == 4 else "wants logits of [B, N, slots] and boxes of [B, N, 4]"


def _background_last(seen: Seen) -> bool | None:
    """Return True if the last slot of logits is "no object"; None if slots and names do not tell."""
    slots = seen.answer("logits").shape[2]
    if seen.classes is not None and slots in (seen.classes, seen.classes + 1):
        return slots == seen.classes + 1
    return {_IDS + 1: True, _IDS: False, len(COCO_IDS): False}.get(slots)


def _tells_detr(seen: Seen, background: bool) -> str:
    """Why a model of transformers has not logits whose last slot is "no object", or has (`background` False)."""
    if reason := _transformers(seen):
        return reason
    last, slots = _background_last(seen), f"its {seen.answer('logits').shape[2]} slots"
    if last is None:
        return f"{slots} do not say whether the last one is 'no object'; give the names of the classes"
    return "" if last == background else f"{slots} {'end' if last else 'do not end'} with 'no object'"


def _decode_detr(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    logits = answers["logits"]
    exp = np.exp(logits - logits.max(axis=2, keepdims=True))
    scores = _contiguous((exp / exp.sum(axis=2, keepdims=True))[..., :-1], seen.classes)
    return [Raw(_boxes(boxes, size), rows) for boxes, rows in zip(answers["pred_boxes"], scores)]


def _decode_detr_sigmoid(answers: Mapping[str, np.ndarray], seen: Seen, size: Size, least: float) -> list[Raw]:
    scores = _contiguous(sigmoid(answers["logits"]), seen.classes)
    return [Raw(_boxes(boxes, size), rows) for boxes, rows in zip(answers["pred_boxes"], scores)]


DETR_LAYOUTS = (
    Layout(
        "rtdetr", "RT-DETR, D-FINE, DEIM: images, orig_target_sizes -> labels, boxes, scores",
        Preparation(fit="stretch"), _tells_rtdetr, _decode_rtdetr, nms=False, coco=True,
    ),
    Layout(
        "rfdetr", "RF-DETR: dets [B, N, 4] and labels [B, N, slots], logits",
        IMAGENET_STRETCHED, _tells_rfdetr, _decode_rfdetr, nms=False, every_class=True, coco=True,
    ),
    Layout(
        "detr", "DETR and YOLOS of transformers: logits (softmax, the last slot is no object), pred_boxes",
        IMAGENET, partial(_tells_detr, background=True), _decode_detr, nms=False, coco=True,
    ),
    Layout(
        "detr-sigmoid", "RT-DETR and D-FINE of transformers: logits (sigmoid), pred_boxes",
        Preparation(fit="stretch"), partial(_tells_detr, background=False), _decode_detr_sigmoid, nms=False,
        every_class=True, coco=True,
    ),
)  # fmt: skip
