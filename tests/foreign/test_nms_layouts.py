"""Layouts of models that do NMS themselves."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.foreign.onnx_model import OnnxSettings, load_onnx

SIZE = (64, 96)
CROP = np.zeros((128, 96, 3), np.uint8)


def told(detector):
    return dict(detector.about)["layout"].split(":")[0]


def paddle(written, tmp_path, extras):
    """Boxes in px of the canvas divided by scale_factor (y first), and a count that lies."""
    rows = np.array([[2, 0.9, 24, 16, 48, 32], [-1, 0, 0, 0, 0, 0]], np.float32)
    nodes = [
        helper.make_node("Split", ["scale_factor", "halves"], ["fy", "fx"], axis=1),
        helper.make_node("Concat", ["one", "one", "fx", "fy", "fx", "fy"], ["factors"], axis=1),
        helper.make_node("Div", ["value", "factors"], ["rows"]),
        helper.make_node("Identity", ["lie"], ["count"]),
    ]
    constants = {
        "halves": np.array([1, 1]), "one": np.ones((1, 1), np.float32), "value": rows,
        "lie": np.array([2125], np.int32),
    }  # fmt: skip
    outputs = {"rows": (TensorProto.FLOAT, [None, 6]), "count": (TensorProto.INT32, [1])}
    image = ([None, 3, *SIZE], "float32")
    return written(tmp_path / "paddle.onnx", nodes, image, constants, outputs, extras=extras)


@pytest.mark.parametrize("more", [[], [("im_shape", TensorProto.FLOAT, [None, 2])]])
def test_paddle_stretches_and_takes_the_rows_not_the_count(written, tmp_path, more):
    extras = [("scale_factor", TensorProto.FLOAT, [1, 2]), *more]
    detector = load_onnx(paddle(written, tmp_path, extras))
    assert told(detector) == "paddle"
    found = detector.find([CROP, CROP])[1]  # one run each, although the file declares any batch
    np.testing.assert_allclose(found.boxes, [[24, 32, 48, 64]], atol=1e-4)
    assert found.labels.tolist() == [2] and found.scores[0] == pytest.approx(0.9)


def torchvision(constant_model, label, **options):
    outputs = {
        "1851": np.array([[8, 16, 24, 32]], np.float32), "1853": np.array([label]),
        "1852": np.array([0.75], np.float32),
    }  # fmt: skip
    return constant_model(outputs, **options)


@pytest.mark.parametrize("rank", [3, 4])
def test_torchvision_counts_by_category_ids(constant_model, rank):
    detector = load_onnx(torchvision(constant_model, 90, rank=rank))
    assert told(detector) == "torchvision"
    (found,) = detector.find([np.zeros((*SIZE, 3), np.uint8)])
    np.testing.assert_allclose(found.boxes, [[8, 16, 24, 32]])
    assert found.labels.tolist() == [79] and found.scores.tolist() == [0.75]


def test_torchvision_with_names_counts_from_one(constant_model):
    detector = load_onnx(torchvision(constant_model, 2), OnnxSettings(categories=("a", "b")))
    assert detector.find([np.zeros((*SIZE, 3), np.uint8)])[0].labels.tolist() == [1]


def test_torchvision_with_an_id_that_coco_lacks(constant_model):
    with pytest.raises(ForeignError, match="label 12 is no category id of COCO; give the names of the classes"):
        load_onnx(torchvision(constant_model, 12))


def test_mmdeploy(constant_model):
    outputs = {
        "dets": np.array([[[8, 16, 24, 32, 0.75], [0, 0, 0, 0, 0]]], np.float32),
        "labels": np.array([[5, -1]]),
    }
    detector = load_onnx(constant_model(outputs))
    assert told(detector) == "mmdeploy"
    (found,) = detector.find([CROP])  # letterboxed into the corner at half the size
    np.testing.assert_allclose(found.boxes, [[16, 32, 48, 64]])
    assert found.labels.tolist() == [5] and found.scores.tolist() == [0.75]
