"""supervision's InferenceSlicer, on the parts of an image alone where something small may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autofocus_jax.dropin.look import DropInError, look, package, plan_for, refuse
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.callback import PythonSettings, from_callback
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.structures import ImageError, Where

if TYPE_CHECKING:
    import supervision

_ORIENTED = "xyxyxyxy"  # supervision's name of turned boxes in Detections.data


class FocusSlicer:
    """Slicer that calls a detector for the whole image, then for the parts that may hold something small.

    The callback must return weak detections too, because they say where to look. Set its own threshold to about 0.02,
    and `confidence` to the score that counts. The boxes of all calls are merged.
    """

    def __init__(
        self,
        callback: Callable,
        slice_wh: int | tuple[int, int] = 640,
        overlap_wh: int | tuple[int, int] = 100,
        overlap_filter: Any = "non_max_suppression",
        iou_threshold: float = 0.5,
        overlap_metric: Any = "IOU",
        thread_workers: int = 1,
        compact_masks: bool = False,
        batch_size: int = 1,
        *,
        confidence: float = 0.0,
        plan: Plan | None = None,
        where: Where | None = None,
    ):
        """Keep a callback and settings. Arguments are those of InferenceSlicer, but for the last three.

        Args:
            callback: an image, uint8 [h, w, 3], -> supervision's Detections; with batch_size above 1, a list of images
                -> a list of them. Channels come in the order of the image that the slicer is called with.
            slice_wh: (width, height) of the canvas that the callback gets, px.
            overlap_wh: overlap of windows of what is larger than a canvas, px along (x, y); the larger share of the
                canvas counts for both.
            overlap_filter, iou_threshold, overlap_metric: how supervision merges the detections of all canvases.
            thread_workers: 1; calls of the callback follow each other.
            compact_masks: False; masks are not carried on.
            batch_size: canvases of one call.
            confidence: least score of a detection that comes back.
            plan: scales and rules; by default those proposed for each image.
            where: where to look next; by default where the callback found something below 64 px, however weakly.

        Raises:
            DropInError: supervision is missing, or an argument has no meaning here.
        """
        tools = package("supervision.detection.utils.iou_and_nms", "supervision", "supervision")
        refuse("FocusSlicer", {"thread_workers": (thread_workers, 1), "compact_masks": (compact_masks, False)},
               "which calls the callback one at a time and answers boxes")  # fmt: skip
        width, height = _pair("slice_wh", slice_wh, 1)
        overlaps = _pair("overlap_wh", overlap_wh, 0)
        self.overlap = max(overlaps[0] / width, overlaps[1] / height)
        if self.overlap >= 1:
            raise DropInError(f"overlap_wh must be smaller than slice_wh, got {overlap_wh} and {slice_wh}")
        try:
            self.overlap_filter = tools.OverlapFilter.from_value(overlap_filter)
            self.overlap_metric = tools.OverlapMetric.from_value(overlap_metric)
        except ValueError as error:
            raise DropInError(f"overlap_filter and overlap_metric must be supervision's: {error}") from None
        self.callback, self.batch_size, self.iou_threshold = callback, batch_size, iou_threshold
        self.confidence, self.plan, self.where = confidence, plan, where
        self.settings = PythonSettings(batch=batch_size, side=(height, width), score_threshold=0.0)

    def __call__(self, image: Any) -> supervision.Detections:
        """Return the detections of an image.

        Args:
            image: uint8 [h, w, 3] in the order of channels that the callback wants, or a PIL image, which becomes RGB.

        Raises:
            ImageError: neither of these.
            ForeignError: the callback raises, or answers nonsense.
        """
        pixels = _read(image)
        names: dict[int, str] = {}
        detector = from_callback(lambda given: self._call(given, names), self.settings)
        plan = plan_for(detector, pixels, self.plan)
        found, _ = look(pixels, detector, plan, self.where, self.overlap, self.confidence, merged=False)
        boxes, scores, labels = found
        data = {"class_name": np.array([names.get(label, "") for label in labels.tolist()])} if names else {}
        kind = package("supervision", "supervision", "supervision").Detections
        return self._filtered(kind(xyxy=boxes, confidence=scores, class_id=labels.astype(int), data=data))

    def _call(self, given: Any, names: dict[int, str]) -> Any:
        """Call the callback, note the names of classes that it answers, and refuse what is more than boxes."""
        answer = self.callback(given)
        for one in answer if isinstance(answer, list | tuple) else [answer]:
            data = getattr(one, "data", None) or {}
            if getattr(one, "mask", None) is not None or _ORIENTED in data:
                raise ForeignError("the callback answers masks or turned boxes, which focus does not carry on; answer "
                                   "boxes alone")  # fmt: skip
            if "class_name" in data and getattr(one, "class_id", None) is not None:
                names.update(zip(one.class_id.tolist(), map(str, data["class_name"])))
        return answer

    def _filtered(self, found: supervision.Detections) -> supervision.Detections:
        if self.overlap_filter.value == "none":
            return found
        join = found.with_nms if self.overlap_filter.value == "non_max_suppression" else found.with_nmm
        return join(threshold=self.iou_threshold, overlap_metric=self.overlap_metric)


def _pair(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < least:
        raise DropInError(f"{name} must be one number or (width, height), of at least {least} px, got {value}")
    return pair


def _read(image: Any) -> np.ndarray:
    """uint8 [h, w, 3]; the pixels of a PIL image as they lie, since supervision does not turn it either."""
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return np.asarray(image.convert("RGB"))
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        came = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"image is {came}; give uint8 [h, w, 3] or a PIL image")
    return image
