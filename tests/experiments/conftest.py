"""What tests of experiments share: annotation files without images, and a config that needs none."""

import gzip
import json

import pytest

CONFIG = """
import math
from autofocus_jax.config import Config, DetectorConfig, TrainingConfig
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange

def get_config():
    return Config(
        name="tiny",
        data=CocoSource("nowhere"),
        scales=(
            Scale(64, 128, ValidRange(30, math.inf), ChipRule(0.5, 3, 32)),
            Scale(128, 256, ValidRange(0, 60), None),
        ),
        focus_range=FocusRange(2, 20, 30),
        buckets=(Bucket(256, 256, 1),),
        detector=DetectorConfig(num_classes=1),
        training=TrainingConfig(steps=1, batch=1, ranges=(ValidRange(0, math.inf), ValidRange(0, 60))),
    )
"""


@pytest.fixture
def tiny_config_file(tmp_path):
    """Path of a config of two scales, (64, 128) and (128, 256), chip rule (0.5, 3, 32), focus range (2, 20, 30)."""
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def coco_file(tmp_path):
    """coco_file([(height, width, boxes xyxy), ...]) -> path of a gzipped annotation file; no image exists."""

    def write(images):
        annotations = [
            {"id": 0, "image_id": number, "category_id": 1, "bbox": [x, y, right - x, bottom - y]}
            for number, (_, _, boxes) in enumerate(images)
            for x, y, right, bottom in boxes
        ]
        content = {
            "images": [
                {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
                for number, (height, width, _) in enumerate(images)
            ],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations)],
        }
        path = tmp_path / "annotations.json.gz"
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
        return str(path)

    return write
