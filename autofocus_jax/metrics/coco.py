"""COCO's average precision by pycocotools, in memory, and detections in COCO's results format."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import Dataset, Detections

if TYPE_CHECKING:
    from pycocotools.coco import COCO

MAX_DETECTIONS = 100  # COCO scores the best 100 detections of an image


class CocoScores(NamedTuple):
    """Average precision in points of 100; NaN without an object to find."""

    ap: float  # mean over IoU 0.50, 0.55 .. 0.95 and over categories
    ap50: float
    ap75: float
    ap_small: float  # area below 32^2 image px
    ap_medium: float
    ap_large: float  # area above 96^2 image px
    per_category: dict[str, float]


def evaluate(
    dataset: Dataset,
    detections: Sequence[Detections],
    indices: Sequence[int],
    max_detections: int = MAX_DETECTIONS,
) -> CocoScores:
    """Score detections against a dataset's ground truth by COCO's average precision.

    Ignore regions are COCO's crowds: detections on them are neither right nor wrong. Small, medium and large go by the
    area of the box, not of a mask, because GroundTruth holds boxes only.

    Args:
        dataset: the ground truth.
        detections: one Detections for each image of `indices`.
        indices: which images.
        max_detections: number of best detections of an image that count.
    """
    from pycocotools.cocoeval import COCOeval  # PASCAL VOC's metric does without

    if len(detections) != len(indices):
        raise ValueError(f"{len(detections)} Detections for {len(indices)} images; give one for each")
    ids = category_ids(dataset)
    categories = [{"id": int(key), "name": name} for key, name in zip(ids, dataset.categories, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        truth = _index(dataset, indices, categories, _truth_annotations(dataset, indices, ids))
        found = _index(dataset, indices, categories, _detection_annotations(dataset, detections, indices))
        scoring = COCOeval(truth, found, iouType="bbox")
        scoring.params.maxDets = [max_detections]
        scoring.evaluate()
        scoring.accumulate()
    # [IoU thresholds, recall thresholds, categories, (all, small, medium, large)]
    precision = scoring.eval["precision"][..., 0]
    at = {round(float(value), 2): number for number, value in enumerate(scoring.params.iouThrs)}
    per_category = {name: _mean(precision[:, :, number, 0]) for number, name in enumerate(dataset.categories)}
    return CocoScores(
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[at[0.5], ..., 0]),
        ap75=_mean(precision[at[0.75], ..., 0]),
        ap_small=_mean(precision[..., 1]),
        ap_medium=_mean(precision[..., 2]),
        ap_large=_mean(precision[..., 3]),
        per_category=per_category,
    )


def crowded(dataset: Dataset, indices: Sequence[int], most: int) -> int:
    """Return the number of images with more than `most` objects.

    The average precision of such images cannot reach 100.
    """
    return sum(int((~dataset.ground_truth(index).ignore).sum()) > most for index in indices)


def coco_results(dataset: Dataset, detections: Sequence[Detections], indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return detections in COCO's results format: the dataset's image and category ids, bbox as x, y, width, height."""
    ids = category_ids(dataset)
    results = []
    for index, found in zip(indices, detections, strict=True):
        image_id = int(dataset.info(index).image_id)
        corners = np.asarray(found.boxes, np.float64).reshape(-1, 4)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
        labels = ids[np.asarray(found.labels, np.int64)].tolist()
        scores = np.asarray(found.scores, np.float64).tolist()
        results += [
            {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
            for box, label, score in zip(boxes, labels, scores, strict=True)
        ]
    return results


def category_ids(dataset: Dataset) -> np.ndarray:
    """Return the ids [K] of the categories in the annotation file; 1..K for a dataset without `category_ids`."""
    count = len(dataset.categories)
    return np.asarray(getattr(dataset, "category_ids", np.arange(1, count + 1)), np.int64)


def _truth_annotations(dataset: Dataset, indices: Sequence[int], ids: np.ndarray) -> list[dict[str, Any]]:
    annotations = []
    for index in indices:
        truth = dataset.ground_truth(index)
        image_id = int(dataset.info(index).image_id)
        areas = box_ops.area(truth.boxes)
        for box, label, ignore, area in zip(truth.boxes, truth.labels, truth.ignore, areas, strict=True):
            x, y, right, bottom = (float(side) for side in box)
            annotations.append(
                {
                    "image_id": image_id,
                    "category_id": int(ids[label]),
                    "bbox": [x, y, right - x, bottom - y],
                    "area": float(area),
                    "iscrowd": int(ignore),
                }
            )
    return annotations


def _detection_annotations(
    dataset: Dataset, detections: Sequence[Detections], indices: Sequence[int]
) -> list[dict[str, Any]]:
    annotations = coco_results(dataset, detections, indices)
    for annotation in annotations:
        annotation |= {"area": annotation["bbox"][2] * annotation["bbox"][3], "iscrowd": 0}
    return annotations


def _index(dataset: Dataset, indices: Sequence[int], categories: list[dict], annotations: list[dict]) -> COCO:
    """pycocotools' table of annotations, which it otherwise reads from a file."""
    from pycocotools.coco import COCO

    infos = [dataset.info(index) for index in indices]
    table = COCO()
    table.dataset = {
        "images": [{"id": int(info.image_id), "height": info.height, "width": info.width} for info in infos],
        "categories": categories,
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
    }
    table.createIndex()
    return table


def _mean(precision: np.ndarray) -> float:
    """Mean in points of 100 over the entries that exist (pycocotools marks the others -1)."""
    present = precision[precision > -1]
    return 100 * float(present.mean()) if present.size else float("nan")
