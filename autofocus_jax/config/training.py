"""The settings of a training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from autofocus_jax.structures import LEADS, STRIDE, Scale, ValidRange


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of training chips, each with an even chance.

    - mirror: swaps left and right.
    - flip: swaps top and bottom, for pictures from above.
    - turn: swaps rows and columns; with mirror and flip that gives every turn by 90 degrees.
    - colour: changes brightness, contrast and saturation independently by up to this share.
    - scale: shows chips up to so many times larger or smaller; valid ranges count the shown size.
    """

    mirror: bool = True
    flip: bool = False
    turn: bool = False
    colour: float = 0.0
    scale: float = 1.0


_POSITIVE = (
    "steps", "batch", "chip", "chip_stride", "max_boxes", "rpn_batch", "roi_batch", "log_every", "checkpoint_every",
    "proposals_steps", "proposals_kept", "read_threads", "checkpoints_kept",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """SNIPER training. ranges: valid range of each scale while training, image px."""

    steps: int
    batch: int
    chip: int = 512  # side of a training chip, chip px
    chip_stride: int = 32  # step of the candidate windows of positive chips, chip px
    ranges: tuple[ValidRange, ...] = ()
    max_boxes: int = 100
    min_visible: float = 0.5  # share of a box's area a chip must hold for the cropped box to train
    learning_rate: float = 0.015
    warmup_learning_rate: float = 0.0005
    warmup_steps: int = 1000
    momentum: float = 0.9
    weight_decay: float = 1e-4
    reference_batch: int | None = None  # learning rates are for this batch and grow with `batch`; None: as given
    gradient_norm: float | None = 35.0  # gradients are clipped to this global norm; None: not at all
    drop_at: float | None = 5.33 / 7  # share of the steps after which the rate drops by 10; None: cosine to 0
    rpn_batch: int = 256
    rpn_positive_iou: float = 0.5
    rpn_negative_iou: float = 0.4
    rpn_ignore_iou: float = 0.3  # overlap with an out-of-range box from which an anchor is ignored
    rpn_box_weight: float = 3.0
    roi_batch: int = 128
    roi_foreground: float = 0.25
    roi_foreground_iou: float = 0.5
    hard_rois: bool = False  # the box head trains on the RoIs of the highest loss (OHEM), not on a random sample
    focus_weight: float = 1.0
    frozen_stages: int = 0  # 1: the stem is not trained, 2: nor is stage 1, and so on
    synchronised_norm: bool = False  # batch statistics over all devices, not those of each
    ema: float = 0.0  # decay of the parameters' moving average, which is then what is evaluated; 0: none
    negative_chips: int = 0  # negative chips of an image and epoch, at most; 0: none, and no proposals stage
    negative_proposals: tuple[int, ...] = ()  # a negative chip holds more proposals than this; one per scale
    proposals_steps: int = 1000  # of the training of the region proposals alone, whose proposals make negative chips
    proposals_kept: int = 300  # of an image, for negative chips
    augmentation: AugmentationConfig = AugmentationConfig()
    read_threads: int = 2  # that read and crop ahead of the device
    log_every: int = 50
    checkpoint_every: int = 1000
    checkpoints_kept: int = 2  # the newest, beside the best
    validate_every: int | None = None  # steps; None: at the end only

    def faults(self, scales: Sequence[Scale]) -> Iterator[str]:
        """Yield the faults of these settings alone and against the scales, a line each."""
        count = len(self.ranges)
        if self.chip % STRIDE:
            yield f"training.chip {self.chip} must be a multiple of {STRIDE}"
        if count != len(scales):
            yield f"training.ranges has {count} entries for {len(scales)} scales"
        for number, (item, trained) in enumerate(zip(scales, self.ranges), 1):
            if item.leads != (trained == LEADS):
                yield (f"scale {number} has valid range {item.valid} and training range {trained}; want both empty, "
                       "or none")  # fmt: skip
        limits = self.negative_proposals
        if self.negative_chips > 0 and len(limits) != len(scales):
            yield f"training.negative_proposals has {len(limits)} entries for {len(scales)} scales"
        augmentation, rate = self.augmentation, self.learning_rate
        for name, value, good, wanted in (
            *((name, getattr(self, name), getattr(self, name) >= 1, "at least 1") for name in _POSITIVE),
            *((name, getattr(self, name), getattr(self, name) is None or getattr(self, name) >= 1,
               "at least 1, or None") for name in ("reference_batch", "validate_every")),
            ("augmentation.colour", augmentation.colour, 0 <= augmentation.colour < 1,
             "a share from 0 (none) to below 1"),
            ("augmentation.scale", augmentation.scale, 1 <= augmentation.scale <= 4, "a factor from 1 (none) to 4"),
            ("gradient_norm", self.gradient_norm, self.gradient_norm is None or self.gradient_norm > 0,
             "a positive norm, or None for no clipping"),
            ("ema", self.ema, 0 <= self.ema < 1, "a decay from 0 (none) to below 1"),
            ("frozen_stages", self.frozen_stages, self.frozen_stages >= 0, "0 or more stages"),
            ("negative_chips", self.negative_chips, self.negative_chips >= 0, "0 (none) or more"),
            ("learning_rate", rate, math.isfinite(rate) and rate > 0, "a positive number"),
        ):  # fmt: skip
            if not good:
                yield f"training.{name} {value}; want {wanted}"
