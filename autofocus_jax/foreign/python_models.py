"""Detectors that are Python objects: models of SAHI, Ultralytics, torchvision, transformers and MMDetection.

None of these packages is imported here; a model is known by what it can do. All adapters take crops in RGB and give a
model the order of channels that its package documents: BGR for Ultralytics and MMDetection, RGB for the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autofocus_jax.foreign.answers import array
from autofocus_jax.foreign.callback import PythonSettings, detector_around, from_callback
from autofocus_jax.foreign.coco_classes import COCO_NAMES
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.keras_models import from_keras, is_keras
from autofocus_jax.foreign.nms_layouts import foreground_labels

_LOCK = threading.Lock()  # SAHI's models keep their answers in themselves


def from_model(model: Any, settings: PythonSettings = PythonSettings(), processor: Any = None) -> CropDetector:
    """Make a detector of a Python object.

    Args:
      model: a SAHI DetectionModel, an Ultralytics model, a torchvision detector, a detection model of transformers, an
        MMDetection DetInferencer, an object detector of KerasHub, or a function image -> detections.
      settings: what is known better than the model says it.
      processor: the image processor of a transformers model.

    Raises:
      ForeignError: none of these, or one that lacks something.
    """
    for tells, make in KINDS:
        if tells(model):
            return make(model, settings) if processor is None else make(model, settings, processor)
    if callable(model) and not hasattr(model, "parameters"):
        return from_callback(model, settings)
    raise ForeignError(
        f"a {type(model).__name__} is no detector that is known (SAHI, Ultralytics, torchvision, transformers, "
        "KerasHub, MMDetection's DetInferencer); give a function image -> detections around it"
    )


def from_sahi(model: Any, settings: PythonSettings = PythonSettings()) -> CropDetector:
    """Make a detector of a SAHI DetectionModel, which takes RGB and decides by its own confidence_threshold."""
    mapping = getattr(model, "category_mapping", None) or {}
    ids = sorted(int(key) for key in mapping)
    names = settings.categories or tuple(str(mapping.get(str(key), mapping.get(key))) for key in ids) or None
    position = {key: label for label, key in enumerate(ids)} if len(ids) == len(names or ()) else {}

    def run(images: list[np.ndarray]) -> list[tuple]:
        shapes, shifts = [list(image.shape[:2]) for image in images], [[0, 0] for _ in images]
        with _LOCK:
            # Also for one image: a batch that failed stays in the model until the next batch takes its place.
            if hasattr(model, "perform_batch_inference"):
                model.perform_batch_inference(images)
                model.convert_original_predictions(shift_amount=shifts, full_shape=shapes)
            else:
                model.perform_inference(images[0])
                model.convert_original_predictions(shift_amount=shifts[0], full_shape=shapes[0])
            return [_sahi_answer(predictions, position) for predictions in model.object_prediction_list_per_image]

    batch = settings.batch if hasattr(model, "perform_batch_inference") else 1
    return detector_around("the SAHI model", run, dataclasses.replace(settings, batch=batch), names, "RGB")


def from_ultralytics(model: Any, settings: PythonSettings = PythonSettings()) -> CropDetector:
    """Make a detector of an Ultralytics model, which takes BGR; crops are run at their own size."""
    names = settings.categories or _in_order(model.names)
    multiple = settings.multiple or 32

    def run(images: list[np.ndarray]) -> list[tuple]:
        size = settings.side or tuple(-(-side // multiple) * multiple for side in images[0].shape[:2])
        results = model.predict(images, conf=settings.score_threshold, imgsz=list(size), max_det=300, verbose=False)
        return [(array(r.boxes.xyxy), array(r.boxes.conf), array(r.boxes.cls)) for r in results]

    settings = dataclasses.replace(settings, multiple=multiple)
    return detector_around("the Ultralytics model", run, settings, names, "BGR", same_size=True)


def from_torchvision(model: Any, settings: PythonSettings = PythonSettings()) -> CropDetector:
    """Make a detector of a torchvision detector, which takes tensors in 0..1 and counts labels from 1."""
    if getattr(model, "training", False):
        raise ForeignError("the torchvision model is in training mode; call model.eval()")
    names = settings.categories or COCO_NAMES
    given = len(settings.categories) if settings.categories else None

    def run(images: list[np.ndarray]) -> list[tuple]:
        like = next(iter(model.parameters()))
        tensors = [like.new_tensor((image.transpose(2, 0, 1) / 255).astype(np.float32)) for image in images]
        with _no_gradients():
            answers = model(tensors)
        return [(array(a["boxes"]), array(a["scores"]), foreground_labels(array(a["labels"]), given)) for a in answers]

    return detector_around("the torchvision model", run, settings, names, "RGB")


def from_transformers(model: Any, settings: PythonSettings = PythonSettings(), processor: Any = None) -> CropDetector:
    """Make a detector of a detection model of transformers and its image processor, which takes RGB."""
    if not hasattr(processor, "post_process_object_detection"):
        raise ForeignError("a transformers model wants its image processor; give processor=AutoImageProcessor...")
    if getattr(model, "training", False):
        raise ForeignError("the transformers model is in training mode; call model.eval()")
    names = settings.categories or _in_order(model.config.id2label)

    def run(images: list[np.ndarray]) -> list[Any]:
        inputs = processor(images=images, return_tensors="pt")
        inputs = inputs.to(model.device) if hasattr(inputs, "to") else inputs
        with _no_gradients():
            outputs = model(**inputs)
        sizes = [image.shape[:2] for image in images]
        return processor.post_process_object_detection(outputs, threshold=settings.score_threshold, target_sizes=sizes)

    return detector_around("the transformers model", run, settings, names, "RGB")


def from_mmdetection(inferencer: Any, settings: PythonSettings = PythonSettings()) -> CropDetector:
    """Make a detector of MMDetection's DetInferencer, which takes BGR and decides by its config's score_thr."""
    names = settings.categories or tuple(map(str, inferencer.model.dataset_meta["classes"]))

    def run(images: list[np.ndarray]) -> list[Any]:
        answer = inferencer(images, batch_size=len(images), return_vis=False, no_save_vis=True, no_save_pred=True)
        return answer["predictions"]

    return detector_around("the MMDetection model", run, settings, names, "BGR")


def _is_mmdetection(model: Any) -> bool:
    return callable(model) and hasattr(getattr(model, "model", None), "dataset_meta")


def _is_torchvision(model: Any) -> bool:
    return hasattr(model, "parameters") and hasattr(model, "backbone") and hasattr(model, "transform")


# What a model must be able to do, and the adapter for it; looked through in this order.
KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., CropDetector]], ...] = (
    (lambda model: hasattr(model, "convert_original_predictions") and hasattr(model, "perform_inference"), from_sahi),
    (is_keras, from_keras),
    (_is_mmdetection, from_mmdetection),
    (lambda model: hasattr(getattr(model, "config", None), "id2label"), from_transformers),
    (lambda model: hasattr(model, "predict") and hasattr(model, "names") and hasattr(model, "task"), from_ultralytics),
    (_is_torchvision, from_torchvision),
)


def _sahi_answer(predictions: Sequence[Any], position: dict[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = np.array([prediction.bbox.to_xyxy() for prediction in predictions], np.float32).reshape(-1, 4)
    scores = np.array([prediction.score.value for prediction in predictions], np.float32)
    labels = [position.get(int(prediction.category.id), int(prediction.category.id)) for prediction in predictions]
    return boxes, scores, np.array(labels, np.int32)


def _in_order(names: Any) -> tuple[str, ...]:
    """Names by label, from a dictionary with every label from 0, or from a list."""
    if not isinstance(names, dict):
        return tuple(map(str, names))
    if sorted(map(int, names)) != list(range(len(names))):
        raise ForeignError(f"the model's names are of labels {sorted(names)}; give the names of all labels from 0")
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _no_gradients() -> contextlib.AbstractContextManager:
    """PyTorch's inference mode, where PyTorch is what runs the model."""
    torch = sys.modules.get("torch")
    return torch.inference_mode() if torch is not None else contextlib.nullcontext()
