"""Layouts of the DETR families."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from autofocus_jax.foreign.coco_classes import COCO_IDS, COCO_NAMES
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.foreign.onnx_model import OnnxSettings, load_onnx

SIZE = (64, 96)
CROP = np.zeros((128, 96, 3), np.uint8)  # stretched to SIZE it is half as high, letterboxed 48 px wide
BOX = np.array([[[0.5, 0.5, 0.25, 0.5]]], np.float32)
STRETCHED = [36, 32, 60, 96]  # BOX in CROP


def told(detector):
    return dict(detector.about)["layout"].split(":")[0]


def logit(*scores):
    p = np.array(scores, np.float32)
    return np.log(p / (1 - p))[None, None]


def test_rtdetr_and_dfine_are_told_the_size_of_the_canvas(written, tmp_path):
    size = helper.make_node("Cast", ["orig_target_sizes"], ["size"], to=TensorProto.FLOAT)
    twice = helper.make_node("Concat", ["size", "size"], ["sides"], axis=1)
    nodes = [
        size, twice, helper.make_node("Mul", ["share", "sides"], ["boxes"]),
        helper.make_node("Identity", ["score"], ["scores"]), helper.make_node("Identity", ["label"], ["labels"]),
    ]  # fmt: skip
    constants = {
        "share": np.array([[[0.375, 0.25, 0.625, 0.75]]], np.float32),
        "score": np.array([[0.9]], np.float32),
        "label": np.array([[2]]),
    }
    outputs = {
        "labels": (TensorProto.INT64, [1, 1]), "boxes": (TensorProto.FLOAT, [1, 1, 4]),
        "scores": (TensorProto.FLOAT, [1, 1]),
    }  # fmt: skip
    extras = [("orig_target_sizes", TensorProto.INT64, [1, 2])]
    path = written(tmp_path / "m.onnx", nodes, ([1, 3, *SIZE], "float32"), constants, outputs, extras=extras)
    detector = load_onnx(path)
    assert told(detector) == "rtdetr"
    (found,) = detector.find([CROP])
    np.testing.assert_allclose(found.boxes, [STRETCHED], atol=1e-4)
    assert found.scores[0] == pytest.approx(0.9) and found.labels[0] == 2


def test_rfdetr_leaves_the_background_out(constant_model):
    path = constant_model({"dets": BOX, "labels": logit(0.1, 0.8, 0.99)})
    detector = load_onnx(path)
    assert told(detector) == "rfdetr" and len(detector.categories) == 2
    (found,) = detector.find([CROP])
    np.testing.assert_allclose(found.boxes, [STRETCHED] * 2, atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.8, 0.1], atol=1e-5)
    assert found.labels.tolist() == [1, 0]


def test_rfdetr_with_a_name_for_each_slot_has_no_background(constant_model):
    path = constant_model({"dets": BOX, "labels": logit(0.1, 0.8, 0.99)})
    detector = load_onnx(path, OnnxSettings(categories=("a", "b", "c")))
    assert detector.find([CROP])[0].labels.tolist() == [2, 1, 0]


def test_rfdetr_of_coco_counts_by_category_ids(constant_model):
    scores = np.full(91, 1e-4)
    scores[90], scores[12] = 0.9, 0.95  # toothbrush; 12 is no category
    detector = load_onnx(constant_model({"dets": BOX, "labels": logit(*scores)}))
    assert detector.categories == COCO_NAMES
    (found,) = detector.find([CROP])
    assert [COCO_NAMES[label] for label in found.labels] == ["toothbrush"]


def test_detr_softmax_without_the_last_slot(constant_model):
    logits = np.full((1, 1, 92), -9, np.float32)
    logits[0, 0, COCO_IDS[16]] = np.log(3)  # dog
    logits[0, 0, 91] = 0
    detector = load_onnx(constant_model({"logits": logits, "pred_boxes": BOX}))
    assert told(detector) == "detr" and detector.categories == COCO_NAMES
    (found,) = detector.find([CROP])
    assert found.labels.tolist() == [16] and found.scores[0] == pytest.approx(3 / 4, abs=0.01)
    # letterboxed into the corner at half the size: canvas x 36..60 is crop x 72..96 + 24, wider than the crop
    np.testing.assert_allclose(found.boxes, [[72, 32, 120, 96]], atol=1e-4)


def test_rtdetr_of_transformers_is_told_by_its_80_slots(constant_model):
    scores = np.full(80, 1e-4)
    scores[16] = 0.7
    detector = load_onnx(constant_model({"logits": logit(*scores), "pred_boxes": BOX}))
    assert told(detector) == "detr-sigmoid"
    (found,) = detector.find([CROP])
    np.testing.assert_allclose(found.boxes, [STRETCHED], atol=1e-4)
    assert found.labels.tolist() == [16] and found.scores[0] == pytest.approx(0.7, abs=1e-5)


def test_slots_that_do_not_tell_are_an_error_until_there_are_names(constant_model):
    path = constant_model({"logits": logit(0.1, 0.8, 0.3), "pred_boxes": BOX})
    with pytest.raises(ForeignError, match=r"3 slots do not say whether the last one is 'no object'; give the names"):
        load_onnx(path)
    assert told(load_onnx(path, OnnxSettings(categories=("a", "b")))) == "detr"
    assert told(load_onnx(path, OnnxSettings(categories=("a", "b", "c")))) == "detr-sigmoid"
    detector = load_onnx(path, OnnxSettings(layout="detr"))
    assert detector.categories == ("class 0", "class 1")
