"""autofocus suggest from annotations to a config that loads and a plot."""

import json

import cv2
import pytest

from autofocus_jax.config_file import load_config
from autofocus_jax.data.coco import CocoSource


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "mine" / "annotations" / "instances_train.json"
    path.parent.mkdir(parents=True)
    boxes = [[100, 100, 12, 12], [130, 110, 20, 16], [10, 200, 300, 250]]
    path.write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 480, "width": 640} for n in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes, 1)],
    }))  # fmt: skip
    return path


def test_writes_a_config_that_loads(autofocus, annotations, tmp_path):
    code, out, err = autofocus("suggest", annotations, "--chip", "256")
    assert code == 0 and err == "" and "The method helps here" in out and "scale 3" in out
    config = load_config(tmp_path / "runs/suggest/mine_train.py")
    assert config.name == "mine_train" and config.data == CocoSource(str(tmp_path / "mine"))
    assert config.detector.num_classes == 2 and config.scales[0].max_side == 256
    assert len(config.data.open("train")) == 2
    assert cv2.imread(str(tmp_path / "runs/suggest/mine_train.png")).shape[1] > 1000
    for scale in config.scales:
        assert f"{scale.min_side} x {scale.max_side}" in out


def test_a_plain_file_and_a_config_as_annotations(autofocus, annotations, tmp_path):
    plain = tmp_path / "boxes.json"
    plain.write_bytes(annotations.read_bytes())
    assert autofocus("suggest", plain, "--detector", "paper", "--output", "out")[0] == 0
    (made,) = (tmp_path / "out").glob("*.py")
    config = load_config(made)
    assert len(config.data.open("all")) == 2 and config.detector.backbone.deformable_groups == 4
    assert autofocus("suggest", annotations)[0] == 0
    assert autofocus("suggest", tmp_path / "runs/suggest/mine_train.py", "--output", "again")[0] == 0
    assert (tmp_path / "again" / "mine_train.py").is_file()
