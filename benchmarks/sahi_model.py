"""SAHI with our detector: the wrapper that its package asks for, and one image's way through it.

SAHI (Akyon, Altinuc, Temizel: Slicing Aided Hyper Inference, ICIP 2022) cuts the image into slices that overlap, runs a
detector on every slice and, once more, on the whole image, and merges what was found.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction
from sahi.slicing import get_slice_bboxes

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus import pyramid, stacking, walk
from autofocus_jax.focus.answers import read_output
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import STAGES, STRIDE, Bucket, Cost, Detections, Placement, Scale, ValidRange

BATCH_PIXELS = 200_000  # of a call of the detector, about what the demo's buckets hold
EVERY_SIZE = ValidRange(0, math.inf)
FULL, SLICES = 0, 1  # the two entries of a SahiDetector's `spent`


@dataclasses.dataclass(frozen=True)
class Slicing:
    """A setting of SAHI. overlap: share of a slice's side that it shares with the next one."""

    side: int  # of a slice, image px
    size: int  # to which that side is resized for the detector, chip px
    full_size: int  # to which the longer side of the whole image is resized, chip px
    overlap: float = 0.2
    slices_valid: ValidRange = EVERY_SIZE  # sizes that detections on slices may have, image px; SAHI has no such rule
    full_valid: ValidRange = EVERY_SIZE  # the same for the whole image
    threshold: float = 0.01  # scores below take no part
    postprocess: str = "NMS"  # SAHI's merging: NMS, GREEDYNMM, NMM
    metric: str = "IOU"  # of that merging: IOU, or IOS, the overlap's share of the smaller box

    @property
    def factor(self) -> float:
        """Chip px per image px of a slice."""
        return self.size / self.side

    def full_factor(self, height: int, width: int) -> float:
        """Chip px per image px of the whole image."""
        return self.full_size / max(height, width)

    def slices(self, height: int, width: int) -> list[list[int]]:
        """SAHI's slices of an image: boxes xyxy, image frame."""
        overlaps = {"overlap_height_ratio": self.overlap, "overlap_width_ratio": self.overlap}
        return get_slice_bboxes(height, width, self.side, self.side, **overlaps)


def slicing_buckets(slicings: Iterable[Slicing], sizes: Iterable[tuple[int, int]]) -> tuple[Bucket, ...]:
    """The shapes that slices and whole images of these sizes (height, width; image px) need, without padding.

    Sides are rounded up to the stride. Of each shape there is one for single chips, and one for as many as
    BATCH_PIXELS allow, so that no batch has an empty row.
    """
    sizes, shapes = set(sizes), set()
    for slicing in slicings:
        for height, width in sizes:
            whole = np.array([0, 0, width, height])
            shapes.add(pyramid.chip_size(whole, slicing.full_factor(height, width)))
            shapes |= {
                pyramid.chip_size(np.array(box), slicing.factor) for box in map(tuple, slicing.slices(height, width))
            }
    padded = sorted({tuple(-(-side // STRIDE) * STRIDE for side in shape) for shape in shapes})
    return tuple(
        Bucket(height, width, batch)
        for height, width in padded
        for batch in sorted({1, max(1, BATCH_PIXELS // (height * width))})
    )


class SahiDetector(DetectionModel):
    """Our detector as a model of SAHI's package: whole batches of slices at a time, each with its class-wise NMS.

    `spent` is what all images so far cost, as Cost, with index FULL for whole images and SLICES for slices.
    """

    def __init__(
        self,
        detect: Detect,
        slicing: Slicing,
        buckets: Sequence[Bucket],
        categories: Sequence[str],
        config: StackingConfig,
    ):
        """buckets: those of slicing_buckets, which `detect` takes. config: of the NMS, hard at an IoU of 0.5."""
        self.slicing, self.categories = slicing, tuple(categories)
        self.buckets = sorted(buckets, key=lambda bucket: -bucket.batch)  # of equal shapes the first one is chosen
        self.config = dataclasses.replace(config, nms_iou=0.5, score_threshold=slicing.threshold)
        self.spent = Cost.none(2)
        self.plan = Plan((Scale(1, 1, ValidRange(0, math.inf), None),), stacking=self.config)  # of one scale: no chips
        names = {str(label): name for label, name in enumerate(self.categories)}
        super().__init__(model=detect, confidence_threshold=slicing.threshold, category_mapping=names)

    def set_device(self, device: str | None = None) -> None:
        """Leaves the devices to JAX; SAHI's own would hide GPUs from this process."""
        self.device = device

    def set_model(self, model: Detect, **_) -> None:
        self.model = model

    def perform_inference(self, image: np.ndarray) -> None:
        """The whole image, uint8 RGB [h, w, 3]."""
        factor = self.slicing.full_factor(*image.shape[:2])
        self._original_predictions = self._run([image], factor, self.slicing.full_valid, FULL)

    def perform_batch_inference(self, images: list[np.ndarray]) -> None:
        """Slices, each uint8 RGB [h, w, 3]."""
        self._original_predictions = self._run(images, self.slicing.factor, self.slicing.slices_valid, SLICES)

    def _run(self, images: Sequence[np.ndarray], factor: float, valid: ValidRange, kind: int) -> list[Detections]:
        """What the detector finds in each image or slice, in its own frame (image px)."""
        begin = time.perf_counter()
        boxes = [np.array([0, 0, image.shape[1], image.shape[0]], np.float32) for image in images]
        sizes = [pyramid.chip_size(box, factor) for box in boxes]
        crops = [pyramid.crop(image, box, factor, size)[0] for image, box, size in zip(images, boxes, sizes)]
        seconds = dict.fromkeys(STAGES, 0.0) | {"resize": time.perf_counter() - begin}
        padded = runs = 0
        batches = []
        for index, rows in bucket_ops.group(np.array(sizes), self.buckets):
            bucket = self.buckets[index]
            full = len(rows) // bucket.batch * bucket.batch
            parts = [rows[at : at + bucket.batch] for at in range(0, full, bucket.batch)]
            batches += [(bucket, part) for part in parts]
            batches += [(dataclasses.replace(bucket, batch=1), rows[at : at + 1]) for at in range(full, len(rows))]
        ready = time.perf_counter()  # when the detector has nothing to do
        outputs = [self.model(bucket_ops.pad([crops[row] for row in rows], bucket), ()) for bucket, rows in batches]
        found: list[Detections | None] = [None] * len(images)
        for (bucket, rows), output in zip(batches, outputs):
            asked = time.perf_counter()
            np.asarray(output.valid)
            now = time.perf_counter()
            seconds["waiting"] += now - asked
            seconds["device"] += now - ready
            ready = now
            places = [Placement(0, 1, boxes[row], pyramid.axis_factors(boxes[row], sizes[row])) for row in rows]
            chips = [walk.Chip(place, sizes[row], factor, 0, bucket) for place, row in zip(places, rows)]
            answers = read_output(chips, output, self.plan)
            for row, answer in zip(rows, answers):
                found[row] = self._suppress(answer.detections, valid)
            padded += bucket.height * bucket.width * bucket.batch
            runs += bucket.batch
        here = np.arange(2) == kind
        self.spent += Cost(0, here * sum(height * width for height, width in sizes), here * 0, here * len(images),
                           here * padded, here * runs, np.array([seconds[stage] for stage in STAGES]))  # fmt: skip
        return found

    def _suppress(self, found: Detections, valid: ValidRange) -> Detections:
        keep = stacking.valid_mask(found.boxes, valid) & (box_ops.area(found.boxes) > 0)
        return stacking.merge(*(field[keep] for field in found), self.config)

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Sequence | None = None, full_shape_list: Sequence | None = None
    ) -> None:
        count = len(self._original_predictions)
        shifts = _one_each(shift_amount_list, count)
        shapes = _one_each(full_shape_list, count)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(box, label, self.categories[label], None, score, shift, shape)
                for box, score, label in zip(*(field.tolist() for field in found))
            ]
            for found, shift, shape in zip(self._original_predictions, shifts, shapes, strict=True)
        ]


def _one_each(values: Sequence | None, count: int) -> Sequence:
    """SAHI gives a pair for a single image and a list of pairs for a batch."""
    if values is None:
        return [None] * count
    return values if isinstance(values[0], Sequence) else [values]


def predict(image: np.ndarray, detector: SahiDetector) -> Detections:
    """SAHI on one image, uint8 RGB [h, w, 3]: slices, the whole image, merging by SAHI's postprocess; best first."""
    slicing = detector.slicing
    height, width = image.shape[:2]
    whole = np.array([0, 0, width, height])
    factors = {FULL: slicing.full_factor(height, width), SLICES: slicing.factor}
    levels = np.array([np.prod(pyramid.chip_size(whole, factors[kind])) for kind in sorted(factors)])
    detector.spent += Cost.none(2)._replace(images=1, full_pixels=levels)
    result = get_sliced_prediction(
        image,
        detector,
        slice_height=slicing.side,
        slice_width=slicing.side,
        overlap_height_ratio=slicing.overlap,
        overlap_width_ratio=slicing.overlap,
        perform_standard_pred=True,
        postprocess_type=slicing.postprocess,
        postprocess_match_metric=slicing.metric,
        postprocess_match_threshold=0.5,
        force_postprocess_type=True,
        batch_size=1024,  # all slices of the image; the detector forms its own batches
        verbose=0,
    )
    found = result.object_prediction_list
    boxes = np.array([entry.bbox.to_xyxy() for entry in found], np.float32).reshape(-1, 4)
    scores = np.array([entry.score.value for entry in found], np.float32)
    labels = np.array([entry.category.id for entry in found], np.int32)
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order], labels[order])
