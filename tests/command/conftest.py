"""What tests of the command line share: the command in this process, with one compiled tiny detector."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from autofocus_jax.command import detect
from autofocus_jax.command.main import main
from tests.square_finder import write_square_finder


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
    """square_finder(side=None) -> an ONNX file, as write_square_finder writes it."""
    pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")
    return lambda side=None: write_square_finder(tmp_path / f"squares{side or ''}.onnx", side)


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
