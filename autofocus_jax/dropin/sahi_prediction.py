"""SAHI's get_sliced_prediction, on the parts of an image alone where something small may be."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autofocus_jax.data.rgb import as_rgb
from autofocus_jax.dropin.look import DropInError, look, package, plan_for, refuse, weakest
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.callback import PythonSettings
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.python_models import from_sahi
from autofocus_jax.structures import STAGES, Cost, Detections, ImageError, Where

if TYPE_CHECKING:
    from sahi.models.base import DetectionModel
    from sahi.prediction import PredictionResult

SIDE = 640  # px of the canvas, where neither the caller nor the model says


def get_focused_prediction(
    image: Any,
    detection_model: DetectionModel,
    slice_height: int | None = None,
    slice_width: int | None = None,
    overlap_height_ratio: float = 0.2,
    overlap_width_ratio: float = 0.2,
    perform_standard_pred: bool = True,
    postprocess_type: str | None = None,
    postprocess_match_metric: str | None = None,
    postprocess_match_threshold: float | None = None,
    postprocess_class_agnostic: bool | None = None,
    verbose: int = 1,
    merge_buffer_length: int | None = None,
    auto_slice_resolution: bool = True,
    slice_export_prefix: str | None = None,
    slice_dir: str | None = None,
    exclude_classes_by_name: Sequence[str] | None = None,
    exclude_classes_by_id: Sequence[int] | None = None,
    progress_bar: bool = False,
    progress_callback: Callable | None = None,
    batch_size: int = 1,
    force_postprocess_type: bool = True,
    confidence_threshold: float | None = None,
    *,
    plan: Plan | None = None,
    where: Where | None = None,
) -> PredictionResult:
    """Do what SAHI's get_sliced_prediction does, where something small may be.

    During the call the model's confidence_threshold is that of the plan's chip rules, because weak detections say where
    to look. Detections below the model's own threshold, or `confidence_threshold`, are left out at the end.

    Args:
        image: what SAHI takes: a path, a URL, an array of RGB or a PIL image.
        detection_model: a model of SAHI's that answers boxes.
        slice_height, slice_width: sides of the canvas that the model is run on, px; both or neither. By default the
            model's image_size, else SIDE.
        overlap_height_ratio, overlap_width_ratio: of windows of what is larger than a canvas; the larger one counts.
        postprocess_type: a class of SAHI's that merges the detections (NMS, NMM, GREEDYNMM, LSNMS); by default the plan
            merges them.
        postprocess_match_metric, postprocess_match_threshold, postprocess_class_agnostic: of that class; by default
            SAHI's IOS, 0.5 and False.
        verbose: 1 prints how many canvases were looked at, 2 also the seconds.
        exclude_classes_by_name, exclude_classes_by_id: classes that are not looked for.
        batch_size: canvases of one call of the model.
        confidence_threshold: least score; by default the model's own.
        perform_standard_pred, merge_buffer_length, auto_slice_resolution, slice_export_prefix, slice_dir, progress_bar,
            progress_callback, force_postprocess_type: an error unless they have the default.
        plan: scales and rules; by default those proposed for the image.
        where: where to look next; by default where the model itself found something below 64 px, however weakly.

    Returns: SAHI's PredictionResult, with boxes alone, best first.

    Raises:
        DropInError: SAHI is missing, or an argument has no meaning here.
        ImageError: the image cannot be read.
        ForeignError: the model fails, or answers nonsense.
    """
    sahi = package("sahi.prediction", "SAHI", "sahi")
    refuse("get_focused_prediction", {
        "perform_standard_pred": (perform_standard_pred, True),
        "merge_buffer_length": (merge_buffer_length, None), "auto_slice_resolution": (auto_slice_resolution, True),
        "slice_export_prefix": (slice_export_prefix, None), "slice_dir": (slice_dir, None),
        "progress_bar": (progress_bar, False), "progress_callback": (progress_callback, None),
        "force_postprocess_type": (force_postprocess_type, True),
    }, "which looks at the whole image and then closer where something small may be")  # fmt: skip
    merging = _merging(postprocess_type, postprocess_match_metric, postprocess_match_threshold,
                       postprocess_class_agnostic)  # fmt: skip
    pixels = _read(image)
    side = _canvas(detection_model, slice_height, slice_width)
    detector = from_sahi(detection_model, PythonSettings(batch=batch_size, side=side, score_threshold=0.0))
    ids, names = _categories(detection_model)
    detector = _without(detector, ids, names, exclude_classes_by_name, exclude_classes_by_id)
    plan = plan_for(detector, pixels, plan)
    own = detection_model.confidence_threshold
    least = own if confidence_threshold is None else confidence_threshold
    detection_model.confidence_threshold = min(least, weakest(plan))
    try:
        overlap = max(overlap_height_ratio, overlap_width_ratio)
        found, cost = look(pixels, detector, plan, where, overlap, least, merged=merging is None)
    finally:
        detection_model.confidence_threshold = own
    predictions = [
        sahi.ObjectPrediction(box, ids.get(label, label), names.get(label), None, score, [0, 0], [*pixels.shape[:2]])
        for box, score, label in zip(*(field.tolist() for field in found))
    ]
    if merging is not None and len(predictions) > 1:
        predictions = merging(predictions)
    return sahi.PredictionResult(predictions, image, _durations(cost, verbose))


def _read(image: Any) -> np.ndarray:
    """The image as SAHI reads it, uint8 RGB [h, w, 3]: files as their orientation tag says, PIL images as they are."""
    if isinstance(image, os.PathLike) or (isinstance(image, str) and not image.startswith("http")):
        return as_rgb(image)
    try:
        array = package("sahi.utils.cv", "SAHI", "sahi").read_image_as_pil(image, return_arr=True)
    except DropInError:
        raise
    except Exception as error:  # a URL may fail in many ways
        raise ImageError(f"SAHI cannot read image {str(image)[:200]} ({type(error).__name__}: {error})") from error
    return as_rgb(array)


def _canvas(model: DetectionModel, height: int | None, width: int | None) -> tuple[int, int]:
    """(height, width) of the canvas, px."""
    for name in ("has_mask", "is_obb"):
        if getattr(model, name, False):
            raise DropInError(f"the model answers masks or turned boxes ({name}), which focus does not carry on; give "
                              "one that answers boxes")  # fmt: skip
    if (height is None) != (width is None):
        raise DropInError(f"slice_height={height} and slice_width={width}; give both or neither")
    if height is None:
        size = getattr(model, "image_size", None) or SIDE
        height, width = size if isinstance(size, Sequence) else (size, size)
    if min(height, width) < 1:
        raise DropInError(f"slice_height and slice_width must be at least 1 px, got {height} and {width}")
    return int(height), int(width)


def _merging(kind: str | None, metric: str | None, threshold: float | None, agnostic: bool | None) -> Callable | None:
    """SAHI's class that merges; None where the plan does it."""
    if kind is None:
        if (metric, threshold, agnostic) != (None, None, None):
            raise DropInError("postprocess_match_metric, _threshold and _class_agnostic belong to a postprocess_type; "
                              "give one, as 'NMS'")  # fmt: skip
        return None
    classes = package("sahi.predict", "SAHI", "sahi").POSTPROCESS_NAME_TO_CLASS
    if kind not in classes:
        raise DropInError(f"postprocess_type must be one of {', '.join(classes)}, got {kind!r}")
    if metric not in (None, "IOS", "IOU"):
        raise DropInError(f"postprocess_match_metric must be IOS or IOU, got {metric!r}")
    return classes[kind](
        match_threshold=0.5 if threshold is None else threshold,
        match_metric="IOS" if metric is None else metric,
        class_agnostic=bool(agnostic),
    )


def _categories(model: DetectionModel) -> tuple[dict[int, int], dict[int, str]]:
    """SAHI's id and the name of each label that from_sahi gives."""
    mapping = {int(key): str(name) for key, name in (model.category_mapping or {}).items()}
    ids = dict(enumerate(sorted(mapping)))
    return ids, {label: mapping[key] for label, key in ids.items()}


def _without(
    detector: CropDetector,
    ids: dict[int, int],
    names: dict[int, str],
    by_name: Sequence[str] | None,
    by_id: Sequence[int] | None,
) -> CropDetector:
    """The detector blind for some classes; DropInError for a class that it does not have."""
    for name, asked, known in (("exclude_classes_by_name", by_name, names), ("exclude_classes_by_id", by_id, ids)):
        strange = [value for value in asked or () if known and value not in known.values()]
        if strange:
            raise DropInError(f"{name}: the model has no class {strange[0]!r}; want any of "
                              f"{', '.join(map(str, known.values()))}")  # fmt: skip
    blind = [label for label, name in names.items() if name in (by_name or ())]
    blind += [label for label, key in ids.items() if key in (by_id or ())] if ids else list(by_id or ())
    if not blind:
        return detector

    def find(crops: Sequence[np.ndarray]) -> list[Detections]:
        answers = detector.find(crops)
        return [Detections(*(field[~np.isin(answer.labels, blind)] for field in answer)) for answer in answers]

    return detector._replace(find=find)


def _durations(cost: Cost, verbose: int) -> dict[str, float]:
    """Seconds by SAHI's names; printed with the canvases where `verbose` says so."""
    spent = dict(zip(STAGES, cost.seconds.tolist()))
    seconds = {"slice": spent["resize"] + spent["chips"], "prediction": spent["device"],
               "postprocess": spent["stacking"]}  # fmt: skip
    if verbose:
        share = cost.pixels.sum() / cost.full_pixels.sum()
        print(f"Performed prediction on {cost.runs.sum()} canvases, {share:.0%} of the pixels of all scales.")
    if verbose > 1:
        print(", ".join(f"{name}: {value:.3f} s" for name, value in seconds.items()))
    return seconds
