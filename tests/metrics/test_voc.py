"""VOC's average precision against the authors' evaluator on real annotations, and on hand-made cases."""

import math
from pathlib import Path

import numpy as np
import pytest

from autofocus_jax.metrics import voc
from autofocus_jax.structures import Detections

GOLDEN = Path(__file__).parent.parent / "golden" / "voc_eval.npz"
IMAGE = np.zeros((200, 200, 3), np.uint8)
A, B, FAR = [0, 0, 100, 100], [50, 0, 150, 100], [150, 150, 200, 200]


def detections(boxes=(), scores=(), labels=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int32) if labels is None else np.asarray(labels, np.int32)
    return Detections(boxes, np.asarray(scores, np.float32), labels)


def half_open(boxes):
    """VOC's boxes, inclusive and counted from 1, in this project's convention."""
    return np.asarray(boxes) - [1, 1, 0, 0]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def test_equals_the_authors_evaluator(golden, memory_dataset, truth):
    names = sorted({key.split("/")[1] for key in golden if key.startswith("ap/")})
    number = {name: label for label, name in enumerate(names)}
    labels, truth_labels = (np.array([number[name] for name in golden[key]]) for key in ("cls", "truth_cls"))
    truths, found = [], []
    for image in golden["images"]:
        rows, own = golden["image"] == image, golden["truth_image"] == image
        truths.append(truth(half_open(golden["truth_box"][own]), truth_labels[own], golden["truth_difficult"][own]))
        found.append(detections(half_open(golden["box"][rows]), golden["score"][rows], labels[rows]))
    assert golden["truth_difficult"].sum() == 38
    data = memory_dataset([IMAGE] * len(truths), truths, names)
    scores = voc.evaluate(data, found, range(len(truths)))
    forms = ("0.5/11point", "0.7/11point", "0.5/area", "0.7/area")
    # Equal scores stay in order here; the release takes them in the order of numpy's quicksort, which is any.
    atol = {name: 1e-3 if tied(golden["score"][golden["cls"] == name]) else 1e-6 for name in names}  # points of 100
    assert sum(value > 1e-6 for value in atol.values()) < len(names)
    for name in names:
        wanted = [100 * float(golden[f"ap/{name}/{form}"]) for form in forms]
        np.testing.assert_allclose(scores.per_category[name], wanted, atol=atol[name], err_msg=name)
    means = [np.mean([100 * float(golden[f"ap/{name}/{form}"]) for name in names]) for form in forms]
    np.testing.assert_allclose(scores[:4], means, atol=np.mean(list(atol.values())))


def tied(scores):
    return len(np.unique(scores)) < len(scores)


def test_half_open_boxes_have_vocs_iou():
    """VOC's own formula, with its + 1, on inclusive boxes with and without fractions."""
    random = np.random.default_rng(0)
    corner = random.uniform(1, 60, (2, 300, 2)).round(1)
    a, b = np.concatenate([corner, corner + random.uniform(0, 40, (2, 300, 2)).round(1)], axis=2)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    common = np.maximum(high - low + 1, 0).prod(axis=1)
    area = [(box[:, 2:] - box[:, :2] + 1).prod(axis=1) for box in (a, b)]
    from autofocus_jax import boxes

    ours = np.diagonal(boxes.iou(half_open(a), half_open(b)))
    np.testing.assert_allclose(ours, common / (area[0] + area[1] - common), atol=1e-12)
    assert (common > 0).sum() > 50


def test_the_truth_scores_100(memory_dataset, truth):
    data = memory_dataset([IMAGE], [truth([A, FAR], [0, 1])])
    scores = voc.evaluate(data, [detections([A, FAR], [0.9, 0.8], [0, 1])], [0])
    assert scores[:4] == (100, 100, 100, 100)
    assert all(math.isnan(value) for value in scores.per_category["c"])


def test_a_second_detection_of_an_object_is_wrong(memory_dataset, truth):
    """Two objects; the best two detections are of the first: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    data = memory_dataset([IMAGE], [truth([A, FAR], [0, 0])])
    scores = voc.evaluate(data, [detections([A, A, FAR], [0.9, 0.8, 0.7])], [0])
    assert scores.ap50_area == pytest.approx(100 * (0.5 * 1 + 0.5 * 2 / 3))
    assert scores.ap50 == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)  # recalls 0 .. 0.5 and 0.6 .. 1


def test_difficult_objects_are_neither_right_nor_wrong(memory_dataset, truth):
    found = [detections([FAR, FAR, A], [0.9, 0.8, 0.7])]
    difficult = memory_dataset([IMAGE], [truth([A, FAR], [0, 0], [False, True])])
    assert voc.evaluate(difficult, found, [0])[:4] == (100, 100, 100, 100)
    absent = memory_dataset([IMAGE], [truth([A], [0])])
    assert voc.evaluate(absent, found, [0]).ap50 == pytest.approx(100 / 3)


def test_the_object_overlapped_most_decides(memory_dataset, truth):
    """Nearer to a difficult object than to the other, a detection does not count, though it overlaps both enough."""
    between = [18, 0, 118, 100]  # IoU with A 82/118, with B 68/132
    nearer_b = memory_dataset([IMAGE], [truth([A, B], [0, 0], [True, False])])
    assert voc.evaluate(nearer_b, [detections([between], [0.9])], [0]).ap50 == 0
    nearer_a = memory_dataset([IMAGE], [truth([A, B], [0, 0], [False, True])])
    assert voc.evaluate(nearer_a, [detections([between], [0.9])], [0]).ap50 == 100


def test_iou_must_be_more_than_the_limit(memory_dataset, truth):
    data = memory_dataset([IMAGE], [truth([A], [0])])
    just, more, tight = [0, 0, 50, 100], [0, 0, 51, 100], [0, 0, 71, 100]
    found = [voc.evaluate(data, [detections([box], [0.9])], [0]) for box in (just, more, tight)]
    assert [(scores.ap50, scores.ap70) for scores in found] == [(0, 0), (100, 0), (100, 100)]


def test_nothing_found_and_nothing_to_find(memory_dataset, truth):
    data = memory_dataset([IMAGE, IMAGE], [truth([A], [0]), truth()])
    assert voc.evaluate(data, [detections(), detections()], [0, 1])[:4] == (0, 0, 0, 0)
    assert all(math.isnan(value) for value in voc.evaluate(data, [detections([A], [0.9])], [1])[:4])
    assert all(math.isnan(value) for value in voc.evaluate(data, [], [])[:4])
    false_alarm = [detections([A], [0.5]), detections([A], [0.9])]
    assert voc.evaluate(data, false_alarm, [0, 1]).ap50_area == pytest.approx(50)


def test_one_detections_for_each_image(memory_dataset, truth):
    with pytest.raises(ValueError, match="0 Detections for 1 images"):
        voc.evaluate(memory_dataset([IMAGE], [truth()]), [], [0])
