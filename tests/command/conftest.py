"""What tests of the command line share: the command in this process, with one compiled tiny detector."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from autofocus_jax.command import detect
from autofocus_jax.command.main import main


@pytest.fixture
def autofocus(capsys, monkeypatch, tiny_model, tmp_path):
    """autofocus(word, …) -> (exit code, stdout, stderr); in tmp_path, and the weights "tiny" are the tiny detector."""
    load = detect.load

    def load_tiny(weights, config=None, names=None):
        if weights != "tiny":
            return load(weights, config, names)
        return tiny_model.renamed(names) if names else tiny_model

    monkeypatch.setattr(detect, "load", load_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words):
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def pictures(tmp_path):
    """A folder of three images: a.png 60 x 90, below/b.jpg 40 x 50, below/a.jpg 64 x 64 (height x width)."""
    random = np.random.default_rng(5)
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for name, shape in (("a.png", (60, 90)), ("below/b.jpg", (40, 50)), ("below/a.jpg", (64, 64))):
        cv2.imwrite(str(folder / name), random.integers(0, 255, (*shape, 3), np.uint8))
    return folder


@pytest.fixture
def square_finder(tmp_path):
    """square_finder(side=None) -> an ONNX file that finds red and green squares of 8 px on black.

    YOLOX's layout, not decoded: each cell of strides 8, 16 and 32 answers for itself by its mean colour, so a square
    that fills a part of a cell is found weakly there. Padding must be black. side: of a fixed input; None takes any.
    """
    onnx = pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")
    from onnx import TensorProto, helper, numpy_helper

    def make(side=None):
        weights, bias = np.zeros((3, 7), np.float32), np.array([0.5, 0.5, 0, 0, 0, 0.5, 0.5], np.float32)
        weights[1, 4] = weights[2, 4] = 1 / 255  # objectness by green and red of BGR
        weights[2, 5], weights[1, 6] = 1 / 510, 1 / 510
        nodes = []
        for stride in (8, 16, 32):
            sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            nodes += [
                helper.make_node("AveragePool", ["images"], [f"pool{stride}"], **sides),
                helper.make_node("Reshape", [f"pool{stride}", "shape"], [f"flat{stride}"]),
                helper.make_node("Transpose", [f"flat{stride}"], [f"rows{stride}"], perm=[0, 2, 1]),
            ]
        nodes += [
            helper.make_node("Concat", ["rows8", "rows16", "rows32"], ["all"], axis=1),
            helper.make_node("MatMul", ["all", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["output"]),
        ]
        constants = {"shape": np.array([0, 3, -1], np.int64), "weights": weights, "bias": bias}
        image = [1, 3, *((side, side) if side else ("height", "width"))]
        graph = helper.make_graph(
            nodes, "tiny", [helper.make_tensor_value_info("images", TensorProto.FLOAT, image)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, None, None])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(model, {"names": "{0: 'red', 1: 'green'}"})
        path = tmp_path / f"squares{side or ''}.onnx"
        onnx.save(model, str(path))
        return path

    return make


@pytest.fixture
def squares(tmp_path):
    """A folder photos/ of four black images of 256x384 with squares of 8 px, red and green, and boxes.json of them."""
    random = np.random.default_rng(3)
    (tmp_path / "photos").mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        image = np.zeros((256, 384, 3), np.uint8)
        for column in random.choice(6, 2, replace=False):
            label, side = int(random.integers(2)), 8
            x, y = 64 * int(column) + 16, 16 * int(random.integers(14))
            image[y : y + side, x : x + side, 2 - label] = 255
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                                "bbox": [x, y, side, side], "area": side * side})  # fmt: skip
        name = f"{number}.png"
        cv2.imwrite(str(tmp_path / "photos" / name), image)
        images.append({"id": number, "file_name": name, "height": 256, "width": 384})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path / "photos"


TRAINING = """
import math
from autofocus_jax.config import *
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import *

def get_config():
    return Config(
        name="tiny", data=CocoSource("FOLDER"),
        scales=(
            Scale(32, 48, ValidRange(20, math.inf), ChipRule(0.3, 1, 16)),
            Scale(64, 96, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(5, 64, 90), buckets=(Bucket(64, 96, 2),),
        detector=DetectorConfig(
            num_classes=2, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(4, 8, 8, 8, 8)),
            anchors=AnchorConfig((1.0,), (16, 32)), rpn_channels=4, proposals_before_nms=16, proposals=4,
            roi_channels=4, head_channels=8, focus_channels=4,
        ),
        training=TrainingConfig(
            steps=4, batch=2, chip=48, chip_stride=8, ranges=(ValidRange(20, math.inf), ValidRange(0, 50)), max_boxes=4,
            rpn_batch=8, roi_batch=8, log_every=1, checkpoint_every=2, warmup_steps=2, drop_at=None,
        ),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO folder of four images for training, one without an object for validation, and a config of it."""
    root = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(0)
    (root / "annotations").mkdir()
    for split, count in (("train", 4), ("val", 1), ("empty", 0)):
        (root / split).mkdir()
        images = [{"id": n, "file_name": f"{n}.png", "height": 60, "width": 90} for n in range(1, count + 1)]
        for image in images:
            cv2.imwrite(str(root / split / image["file_name"]), random.integers(0, 255, (60, 90, 3), np.uint8))
        annotations = [
            {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [10, 10, 10 * n, 30], "area": 300 * n}
            for n in range(1, count + 1) if split == "train"
        ]  # fmt: skip
        content = {
            "images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    (root / "config.py").write_text(TRAINING.replace("FOLDER", str(root)))
    return root
