"""The embedded scenes with a small detector: trains on two CPU cores in an hour, walks the whole method."""

from __future__ import annotations

import math

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.scenes.source import CATEGORIES, ScenesSource
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange

CHIP = 256  # half of the paper's training chip, so every size in chip px is about half of the paper's

# Height, width, chips a batch. Chosen for the chips of AutoFocus and of the pyramid on `train` (docs/demo.md).
BUCKETS = (
    (96, 96, 14), (128, 128, 8), (160, 160, 5), (160, 192, 4), (192, 160, 4), (160, 224, 3), (224, 160, 3),
    (144, 256, 3), (192, 192, 3), (192, 224, 3), (208, 208, 3), (176, 256, 2), (256, 176, 2), (192, 256, 2),
    (256, 192, 2), (240, 240, 2), (208, 288, 2), (288, 208, 2), (256, 256, 2), (256, 288, 1), (240, 320, 1),
    (320, 240, 1), (288, 288, 1), (288, 320, 1), (320, 288, 1), (240, 400, 1), (400, 240, 1), (320, 320, 1),
    (368, 288, 1), (288, 384, 1), (240, 480, 1), (480, 240, 1), (320, 368, 1), (384, 320, 1), (288, 448, 1),
    (448, 288, 1), (320, 416, 1), (368, 368, 1), (432, 320, 1), (368, 400, 1), (400, 368, 1), (320, 480, 1),
    (480, 320, 1), (400, 400, 1), (368, 448, 1), (448, 368, 1), (368, 480, 1), (320, 560, 1), (400, 448, 1),
    (448, 400, 1), (576, 320, 1), (400, 480, 1), (480, 400, 1), (448, 448, 1), (368, 560, 1), (320, 672, 1),
    (448, 480, 1), (480, 448, 1), (400, 560, 1), (480, 480, 1), (560, 416, 1), (368, 640, 1), (448, 560, 1),
    (480, 560, 1), (560, 480, 1), (432, 640, 1), (640, 432, 1), (480, 640, 1), (640, 480, 1), (864, 384, 1),
    (608, 576, 1), (752, 528, 1), (512, 832, 1), (704, 640, 1), (720, 1280, 1), (960, 960, 1), (864, 1280, 1),
    (1280, 864, 1), (960, 1280, 1), (1280, 960, 1),
)  # fmt: skip


def get_config() -> Config:
    return Config(
        name="demo",
        data=ScenesSource(),
        scales=(
            Scale(192, 256, ValidRange(110, math.inf), ChipRule(threshold=0.05, dilation=3, min_size=64)),
            Scale(480, 640, ValidRange(45, 130), ChipRule(threshold=0.2, dilation=3, min_size=32)),
            Scale(960, 1280, ValidRange(0, 52), None),
        ),
        focus_range=FocusRange(2.5, 50, 64),
        buckets=tuple(Bucket(*sizes) for sizes in BUCKETS),
        detector=DetectorConfig(
            num_classes=len(CATEGORIES),
            backbone=BackboneConfig(units=(1, 2, 3, 2), channels=(16, 64, 128, 256, 256)),
            anchors=AnchorConfig(ratios=(0.5, 1.0, 2.0), sizes=(20, 36, 64, 112, 192)),
            rpn_channels=64,
            proposals_before_nms=512,
            proposals=128,
            proposals_area=512 * 512,
            roi_channels=32,
            head_channels=128,
            focus_channels=64,
            pixel_deviation=(58.4, 57.1, 57.4),
        ),
        stacking=StackingConfig(border_tolerance=3),  # objects are as small as 10 image px
        training=TrainingConfig(
            steps=4200,
            batch=16,
            chip=CHIP,
            ranges=(ValidRange(90, math.inf), ValidRange(36, 150), ValidRange(0, 64)),
            max_boxes=60,
            learning_rate=0.04,
            warmup_learning_rate=0.002,
            warmup_steps=200,
            drop_at=None,
            rpn_batch=128,
            roi_batch=64,
        ),
        window=192,
        shipped="demo.safetensors",
    )
