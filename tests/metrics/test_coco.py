"""COCO's average precision against hand-made cases and against pycocotools reading files."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autofocus_jax.metrics import coco
from autofocus_jax.structures import Detections

IMAGE = np.zeros((300, 400, 3), np.uint8)
SMALL, MEDIUM, LARGE = [10, 10, 30, 30], [50, 50, 110, 110], [150, 100, 350, 280]


def detections(boxes=(), scores=(), labels=()):
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32), np.asarray(labels, np.int32)
    )


def test_the_truth_scores_100(memory_dataset, truth):
    data = memory_dataset([IMAGE], [truth([SMALL, MEDIUM, LARGE], [0, 1, 2])])
    scores = coco.evaluate(data, [detections([SMALL, MEDIUM, LARGE], [0.9, 0.8, 0.7], [0, 1, 2])], [0])
    assert scores[:6] == pytest.approx((100,) * 6)
    assert scores.per_category == pytest.approx({"a": 100, "b": 100, "c": 100})


def test_a_wrong_class_and_a_missing_size(memory_dataset, truth):
    data = memory_dataset([IMAGE], [truth([SMALL, LARGE], [0, 1])])
    scores = coco.evaluate(data, [detections([SMALL, LARGE], [0.9, 0.8], [0, 0])], [0])
    assert scores.ap == pytest.approx(50) and scores.ap_small == pytest.approx(100)
    assert scores.ap_large == pytest.approx(0) and math.isnan(scores.ap_medium)
    assert scores.per_category["b"] == 0 and math.isnan(scores.per_category["c"])


def test_a_loose_box_counts_at_low_iou_only(memory_dataset, truth):
    data = memory_dataset([IMAGE], [truth([[0, 0, 100, 100]], [0])])
    scores = coco.evaluate(data, [detections([[0, 0, 100, 62]], [0.9], [0])], [0])
    assert (scores.ap50, scores.ap75) == (pytest.approx(100), 0)
    assert scores.ap == pytest.approx(30)  # IoU 0.62 passes 0.50, 0.55 and 0.60 of ten


def test_an_ignore_region_is_neither_right_nor_wrong(memory_dataset, truth):
    crowd = [0, 0, 140, 140]
    found = [detections([MEDIUM, LARGE], [0.9, 0.8], [0, 0])]
    with_crowd = memory_dataset([IMAGE], [truth([LARGE, crowd], [0, 0], [False, True])])
    without = memory_dataset([IMAGE], [truth([LARGE], [0])])
    assert coco.evaluate(with_crowd, found, [0]).ap == pytest.approx(100)
    assert coco.evaluate(without, found, [0]).ap == pytest.approx(50)


def test_nothing_found_and_nothing_to_find(memory_dataset, truth):
    data = memory_dataset([IMAGE, IMAGE], [truth([LARGE], [0]), truth()])
    assert coco.evaluate(data, [detections(), detections()], [0, 1]).ap == 0
    empty = coco.evaluate(data, [detections([LARGE], [0.9], [0])], [1])
    assert all(math.isnan(value) for value in empty[:6])
    assert all(math.isnan(value) for value in coco.evaluate(data, [], [])[:6])
    # A false alarm in an image without objects costs: it ranks above the one that is right.
    false_alarm = [detections([LARGE], [0.5], [0]), detections([LARGE], [0.9], [0])]
    assert coco.evaluate(data, false_alarm, [0, 1]).ap == pytest.approx(50)


def test_one_detections_for_each_image(memory_dataset, truth):
    with pytest.raises(ValueError, match="0 Detections for 1 images"):
        coco.evaluate(memory_dataset([IMAGE], [truth()]), [], [0])


def test_results_format(memory_dataset, truth):
    data = memory_dataset([IMAGE, IMAGE], [truth(), truth()], first_id=70)
    data.category_ids = np.array([3, 17, 90])
    found = [detections([[1, 2, 11, 22]], [0.5], [2]), detections()]
    assert coco.coco_results(data, found, [1, 0]) == [
        {"image_id": 71, "category_id": 90, "bbox": [1, 2, 10, 20], "score": 0.5}
    ]
    json.dumps(coco.coco_results(data, found, [1, 0]))


def test_equals_pycocotools_on_files(tmp_path, memory_dataset, truth, capsys):
    """Random boxes, crowds and near misses, through the files that the COCO program reads and its own summary."""
    random = np.random.default_rng(3)
    truths, found = [], []
    for _ in range(12):
        count = int(random.integers(0, 12))
        corner = random.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corner, corner + np.exp(random.uniform(1.5, 5.5, (count, 2)))], axis=1)
        labels = random.integers(0, 3, count)
        truths.append(truth(boxes, labels, random.random(count) < 0.2))
        noisy = np.repeat(boxes, 2, axis=0) + random.normal(0, 4, (2 * count, 4))
        noisy[:, 2:] = np.maximum(noisy[:, 2:], noisy[:, :2] + 1)
        found.append(detections(noisy, random.random(2 * count), np.repeat(labels, 2)))
    data = memory_dataset([IMAGE] * 12, truths)
    chosen = [7, *range(6), 11]
    scores = coco.evaluate(data, [found[index] for index in chosen], chosen)
    assert capsys.readouterr().out == ""

    annotations = [
        {
            "image_id": index + 1,
            "category_id": int(label) + 1,
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "area": float((box[2] - box[0]) * (box[3] - box[1])),
            "iscrowd": int(ignore),
        }
        for index in chosen
        for box, label, ignore in zip(*truths[index], strict=True)
    ]
    content = {
        "images": [{"id": index + 1} for index in chosen],
        "categories": [{"id": number, "name": name} for number, name in enumerate("abc", 1)],
        "annotations": [{"id": number, **row} for number, row in enumerate(annotations, 1)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    results = coco.coco_results(data, [found[index] for index in chosen], chosen)
    (tmp_path / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO(str(tmp_path / "truth.json"))
        reference = COCOeval(table, table.loadRes(str(tmp_path / "found.json")), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    assert 0 < scores.ap < 100
    # Areas near a limit of size are float32 here and there, hence not to the last digit.
    assert scores[:6] == pytest.approx(100 * reference.stats[:6], abs=1e-4)


def test_more_objects_than_coco_counts(memory_dataset, truth):
    """300 objects, all found: COCO's AP is a third; with 300 counted it is whole."""
    corners = np.array([[20 * (n % 20), 20 * (n // 20)] for n in range(300)], np.float32)
    boxes = np.concatenate([corners, corners + 12], axis=1)
    data = memory_dataset([np.zeros((400, 400, 3), np.uint8)], [truth(boxes, np.zeros(300))])
    found = [Detections(boxes, np.linspace(1, 0.5, 300, dtype=np.float32), np.zeros(300, np.int32))]
    assert coco.evaluate(data, found, [0]).ap == pytest.approx(33.66, abs=0.01)
    assert coco.evaluate(data, found, [0], 300).ap == pytest.approx(100)
    assert [coco.crowded(data, [0], most) for most in (100, 299, 300)] == [1, 1, 0]
