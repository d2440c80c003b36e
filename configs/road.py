"""Road scenes of 1920x1080 px with a small detector: 98 images train it in an hour on two CPU cores.

Data: CocoSource's layout, a folder with annotations/instances_SPLIT.json and the images of each split in a folder of
its name, for the splits train and test; `--data.root` says where. docs/results.md says how the folder was made.
"""

from __future__ import annotations

import math

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange

CHIP = 256

# Height, width, chips a batch. Whole levels are 144x256, 405x720 and 1080x1920 px; the others fit FocusChips.
BUCKETS = (
    (128, 128, 4), (144, 256, 4), (192, 192, 4), (256, 256, 2), (192, 384, 2), (384, 192, 2), (256, 512, 2),
    (384, 384, 2), (256, 720, 1), (416, 720, 1), (512, 512, 1), (384, 1088, 1), (640, 720, 1), (640, 1088, 1),
    (512, 1920, 1), (1088, 1088, 1), (1088, 1920, 1),
)  # fmt: skip


def get_config() -> Config:
    return Config(
        name="road",
        # `ignore` is not a class: its boxes mark regions where nothing is judged.
        data=CocoSource("~/data/road", ignore_categories=("ignore",)),
        # Half of the objects have sides (sqrt of area) below 44 image px, a tenth above 168. In level px every range
        # is about 22 to 70, where scale 1 sees 2/15 of the image's sides, scale 2 3/8 and scale 3 all.
        scales=(
            Scale(144, 256, ValidRange(165, math.inf), ChipRule(threshold=0.05, dilation=3, min_size=64)),
            Scale(405, 720, ValidRange(56, 190), ChipRule(threshold=0.2, dilation=3, min_size=64)),
            Scale(1080, 1920, ValidRange(0, 66), None),
        ),
        # From 1.2 to 28 chip px: 9 to 210 image px at scale 1, 3 to 75 at scale 2: what the next scale answers for.
        focus_range=FocusRange(1.2, 28, 40),
        buckets=tuple(Bucket(*sizes) for sizes in BUCKETS),
        detector=DetectorConfig(
            num_classes=10,
            backbone=BackboneConfig(units=(1, 2, 3, 2), channels=(16, 64, 128, 256, 256)),
            # Vehicles are about 0.8 as high as wide, people and riders 2 to 3 times.
            anchors=AnchorConfig(ratios=(0.7, 1.3, 2.8), sizes=(16, 28, 48, 84, 150)),
            rpn_channels=64,
            proposals_before_nms=512,
            proposals=128,
            roi_channels=32,
            head_channels=128,
            focus_channels=64,
            pixel_deviation=(58.4, 57.1, 57.4),
        ),
        stacking=StackingConfig(border_tolerance=3),  # objects are as small as 7 image px
        training=TrainingConfig(
            steps=2600,
            batch=8,
            chip=CHIP,
            ranges=(ValidRange(130, math.inf), ValidRange(42, 220), ValidRange(0, 80)),
            max_boxes=200,  # an ignore region counts once for each class
            learning_rate=0.03,
            warmup_learning_rate=0.002,
            warmup_steps=300,
            drop_at=None,
            rpn_batch=128,
            roi_batch=64,
            checkpoint_every=250,
        ),
        window=8,
    )
