"""Detectors of KerasHub with the JAX backend: D-FINE, RetinaNet. Keras is not imported; the model has done it.

A model gets canvases of the one size that its image converter makes, since each size takes seconds to compile. It is
called as a pure function of its variables; its own NMS layer is left out.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from autofocus_jax.foreign.callback import PythonSettings, detector_around
from autofocus_jax.foreign.coco_classes import COCO_IDS, COCO_NAMES
from autofocus_jax.foreign.found import Choice, CropDetector, ForeignError, Raw, choose, corners, sigmoid
from autofocus_jax.foreign.preparation import Preparation, blank, fit_into

_NMS_IOU = 0.65  # inside each class, for models that want it
_COCO_SLOTS = 91  # classes of a model that counts by COCO's category ids


def is_keras(model: Any) -> bool:
    """Return True for an object detector of KerasHub."""
    return hasattr(model, "stateless_call") and hasattr(model, "decode_predictions")


def from_keras(model: Any, settings: PythonSettings = PythonSettings()) -> CropDetector:
    """Make a detector of a KerasHub object detector, which takes RGB.

    Args:
      model: a D-FINE or RetinaNet object detector, with a preprocessor that says the size of its input.
      settings: what is known better than the model says it; `side` is for a model whose preprocessor says no size.

    Raises:
      ForeignError: another backend than JAX, no size of the input, outputs that are not known.
    """
    keras = sys.modules["keras"]
    if keras.backend.backend() != "jax":
        raise ForeignError(f"the Keras model runs on {keras.backend.backend()}; set KERAS_BACKEND=jax before Keras is "
                           "imported")  # fmt: skip
    converter = getattr(getattr(model, "preprocessor", None), "image_converter", None)
    told = getattr(converter, "image_size", None)
    side = settings.side if told is None else tuple(told)
    if side is None or settings.side not in (None, side):
        raise ForeignError(f"the Keras model's image converter makes {told or 'no size'}, and side is {settings.side}; "
                           "give a side where it makes none, else leave it out")  # fmt: skip
    look = _pure(model, keras)
    count = model.num_classes
    by_id = settings.categories is None and count == _COCO_SLOTS
    names = settings.categories or (COCO_NAMES if by_id or count == len(COCO_NAMES) else None)
    names = names or tuple(f"class {number}" for number in range(count))
    if len(names) != (len(COCO_NAMES) if by_id else count):
        raise ForeignError(f"the Keras model has {count} classes, and there are {len(names)} names; give one for each")
    needs_nms = hasattr(model, "anchor_generator")
    choice = Choice(settings.score_threshold, _NMS_IOU if needs_nms else None, settings.most, True, None)
    preparation = Preparation(padding=settings.padding)

    def run(images: list[np.ndarray]) -> list[tuple]:
        placed = [fit_into(image, side, preparation) for image in images]
        empty = [blank(side, settings.padding)] * (settings.batch - len(images))  # one program, whatever the number
        pixels = np.stack([canvas for canvas, _ in placed] + empty)
        boxes, scores = look(pixels if converter is None else converter(pixels))
        scores = scores[..., list(COCO_IDS)] if by_id else scores
        found = [choose(Raw(*answer), choice) for answer in zip(boxes, scores)]
        return [tuple(answer._replace(boxes=back(answer.boxes))) for answer, (_, back) in zip(found, placed)]

    return detector_around("the Keras model", run, dataclasses.replace(settings, side=side), names, "RGB")


def _pure(model: Any, keras: Any) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Pixels [B, H, W, 3] as the image converter gives them -> boxes [B, n, 4] xyxy px, scores [B, n, K]."""
    told = set(model.output) if isinstance(model.output, dict) else set()
    anchors = {"bbox_regression", "cls_logits"} <= told
    if not anchors and not {"logits", "pred_boxes"} <= told:
        raise ForeignError(f"the Keras model answers {', '.join(sorted(told)) or 'nothing by name'}; want logits and "
                           "pred_boxes, or bbox_regression and cls_logits")  # fmt: skip
    from_logits = getattr(getattr(model, "prediction_decoder", None), "from_logits", True)

    def answer(trainable: list, fixed: list, pixels: Any) -> tuple:
        outputs, _ = model.stateless_call(trainable, fixed, pixels, training=False)
        if not anchors:
            return outputs["pred_boxes"], outputs["logits"]
        grid = keras.ops.concatenate(list(model.anchor_generator(pixels).values()), axis=0)
        boxes = keras.utils.bounding_boxes.decode_deltas_to_boxes(
            anchors=grid, boxes_delta=outputs["bbox_regression"], encoded_format="center_xywh",
            anchor_format=model.anchor_generator.bounding_box_format, box_format="xyxy",
            image_shape=tuple(pixels.shape[1:]),
        )  # fmt: skip
        return boxes, outputs["cls_logits"]

    compiled = sys.modules["jax"].jit(answer)
    variables = [[variable.value for variable in kind]
                 for kind in (model.trainable_variables, model.non_trainable_variables)]  # fmt: skip

    def look(pixels: Any) -> tuple[np.ndarray, np.ndarray]:
        boxes, scores = (np.asarray(array, np.float32) for array in compiled(*variables, pixels))
        if not anchors:  # centre and size, as shares of the canvas
            height, width = pixels.shape[1:3]
            sides = np.array([width, height, width, height], np.float32)
            boxes = corners(boxes.reshape(-1, 4)).reshape(boxes.shape) * sides
        return boxes, sigmoid(scores) if from_logits else scores

    return look
