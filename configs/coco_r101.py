"""COCO with the paper's detector (ResNet-101, deformable), which reached 47.9 AP; constants with their sources.

"Release" is the code that the paper's authors published, and its settings for AutoFocus on COCO. Where the paper and
the release both speak, the paper comes first. Data: CocoSource's layout, a folder with annotations/instances_SPLIT.json
and the images of each split in a folder of its name, for the splits train (train2017, which is train2014 and val2014
less minival), val (val2017) and tune; `--data.root` says where.
"""

from __future__ import annotations

import math

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange

# Height, width, chips a batch; ours: the 16 shapes that pad least the chips that perfect focus maps make of COCO val
# 2017 when these may lose 5% of their sides (docs/benchmarks.md), and batches of about one finest level:
#   autofocus buckets --config configs/coco_r101.py --annotations FILE --count 16 --batch-pixels 2816000
# Every level fits: those of the three scales are at most 480x512, 800x1280 and 1400x2000 px, either way up.
BUCKETS = (
    (368, 496, 15), (496, 368, 15), (512, 512, 10), (576, 576, 8), (624, 768, 5), (576, 1024, 4), (864, 768, 4),
    (640, 1152, 3), (768, 1024, 3), (768, 1216, 3), (1152, 880, 2), (960, 1376, 2), (1344, 1344, 1), (960, 1904, 1),
    (1408, 2000, 1), (2000, 1408, 1),
)  # fmt: skip


def get_config() -> Config:
    return Config(
        name="coco_r101",
        data=CocoSource("~/data/coco"),
        # (min side, max side), valid range in image px, and the chip rule (t, d, k) that selects what the next scale
        # sees: release. Its k are 16 and 20 cells of 16 px.
        scales=(
            Scale(480, 512, ValidRange(75, math.inf), ChipRule(threshold=0.02, dilation=3, min_size=256)),
            Scale(800, 1280, ValidRange(32, 180), ChipRule(threshold=0.2, dilation=3, min_size=320)),
            Scale(1400, 2000, ValidRange(0, 75), None),
        ),
        focus_range=FocusRange(5, 64, 90),  # paper, section 4.1: a, b, c
        buckets=tuple(Bucket(*sizes) for sizes in BUCKETS),
        detector=detector(num_classes=80),
        stacking=stacking(),
        # 7 epochs (release) of 118 287 images with about 5 chips each (SNIPER, section 4), 128 chips a step.
        training=training(steps=32_000),
        window=256,  # batches fill only when many images are on their way
        shrink=0.05,
    )


def detector(num_classes: int) -> DetectorConfig:
    """The authors' network; every value is the release's."""
    return DetectorConfig(
        num_classes=num_classes,
        backbone=BackboneConfig(
            kind="v2",  # pre-activation
            units=(3, 4, 23, 3),
            channels=(64, 256, 512, 1024, 2048),
            dilation=2,  # conv5 keeps stride 16
            deformable_groups=4,  # in conv5's three units
        ),
        anchors=AnchorConfig(ratios=(0.5, 1.0, 2.0), sizes=(32, 64, 112, 160, 208, 256, 384)),  # 16 px times 2, 4, 7 …
        rpn_channels=512,
        proposals_before_nms=6000,
        proposals=300,
        proposal_nms_iou=0.7,
        proposal_least_side=1.0,  # it clips inclusive boxes to the last pixel
        roi_channels=256,
        roi_size=7,
        roi_pooling="deformable",
        head_channels=1024,
        box_deviations=(0.1, 0.1, 0.2, 0.2),
        focus_channels=256,
        pixel_mean=(123.68, 116.779, 103.939),  # RGB
        pixel_deviation=(1.0, 1.0, 1.0),
        compute_dtype="float32",  # it trains in mixed precision; bfloat16 where the device is faster at it
        frozen_norm=False,
    )


def stacking() -> StackingConfig:
    """Release, in testing."""
    return StackingConfig(border_tolerance=10, score_threshold=1e-3, max_detections=200, soft_nms_sigma=0.55)


def training(steps: int) -> TrainingConfig:
    """SNIPER's training: the paper's section 5 and the release, without what a comment says is missing.

    Positive chips of all scales by resolution, as the release does for data other than COCO; on COCO it used factors
    3.0 and 1.667 and 512 px on the longest side. The stem and stage 1 keep what they start from, so a training wants
    --initial.
    """
    return TrainingConfig(
        steps=steps,
        batch=128,  # release: 16 a GPU on 8 GPUs
        reference_batch=128,  # of the learning rates; another batch scales them
        chip=512,  # paper
        chip_stride=56,  # release: windows every 56 to 59 px
        ranges=(ValidRange(120, math.inf), ValidRange(32, 150), ValidRange(0, 80)),  # release, from coarse to fine
        max_boxes=100,  # ours: capacity of a chip
        learning_rate=0.015,  # release, and the next three
        warmup_learning_rate=0.0005,
        warmup_steps=1000,
        drop_at=5.33 / 7,
        momentum=0.9,  # release
        weight_decay=1e-4,  # release
        rpn_batch=256,  # release, and the next four
        rpn_positive_iou=0.5,
        rpn_negative_iou=0.4,
        rpn_ignore_iou=0.3,
        rpn_box_weight=3.0,
        roi_batch=256,  # release
        hard_rois=True,  # release: its operator keeps the hardest 256
        roi_foreground=0.25,  # release
        roi_foreground_iou=0.5,  # release
        focus_weight=1.0,  # paper: no re-weighting
        negative_chips=2,  # release
        negative_proposals=(10, 10, 25),  # release, from coarse to fine; the coarsest scale has no negative chips here
        proposals_steps=7_700,  # release: 2 epochs; of positive chips, 4.2 an image (docs/training.md)
        proposals_kept=300,  # ours
        frozen_stages=2,  # release: conv0, bn0 and stage 1
    )
