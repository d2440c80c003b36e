"""PASCAL VOC with the paper's detector: as configs/coco_r101.py, but for what is written here.

Trains on VOC 2007 and 2012 trainval and tests on VOC 2007 test (release). Data: a VOCdevkit folder with VOC2007 and
VOC2012 in it, as they come from the web; `--data.root` says where. `difficult` objects are ignore regions.
"""

from __future__ import annotations

import dataclasses
import math
import runpy
from pathlib import Path

from autofocus_jax.config import Config
from autofocus_jax.data.voc import VocSource
from autofocus_jax.structures import ChipRule, Scale, ValidRange

_COCO = runpy.run_path(str(Path(__file__).with_name("coco_r101.py")))


def get_config() -> Config:
    return dataclasses.replace(
        _COCO["get_config"](),
        name="voc_r101",
        data=VocSource("~/data/VOCdevkit", train="VOC2007/trainval VOC2012/trainval", val="VOC2007/test"),
        # Sides and valid ranges: release's settings of VOC, which test with whole levels. Chip rules: those of COCO.
        scales=(
            Scale(480, 512, ValidRange(75, math.inf), ChipRule(threshold=0.02, dilation=3, min_size=256)),
            Scale(800, 1280, ValidRange(32, 180), ChipRule(threshold=0.2, dilation=3, min_size=320)),
            Scale(1400, 2000, ValidRange(0, 90), None),
        ),
        detector=_COCO["detector"](num_classes=20),
        metric="voc",  # paper, Table 2
        # 7 epochs (release) of 16 551 images with about 5 chips each, 128 chips a step.
        training=_COCO["training"](steps=4_500),
    )
