"""Settings as frozen dataclasses, and their checks; config_file loads them from files and command lines."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Literal

from autofocus_jax.config_bounds import out_of_bounds
from autofocus_jax.structures import (
    LEADS,
    STRIDE,
    AutoFocusError,
    Bucket,
    Dataset,
    FocusRange,
    Scale,
    ValidRange,
)


class ConfigError(AutoFocusError):
    """A setting is missing, unknown or contradicts another."""


@dataclasses.dataclass(frozen=True)
class DataSource(abc.ABC):
    """Where images and boxes come from; one subclass a kind of source, in autofocus_jax/data."""

    @abc.abstractmethod
    def open(self, split: str) -> Dataset:
        """The images of one split ("train", "val", "tune")."""

    def open_tolerant(self, split: str, report: Callable[[str, str, str], None]) -> Dataset:
        """As open, for training: an annotation that is wrong is told to `report` and left out, rather than raised.

        report: a data.findings.Report. Sources that cannot tell one annotation from another leave this as it is.
        """
        return self.open(split)


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """ResNet of bottleneck units; stage 4 keeps stride 16 (dilated). Defaults are those of a plain ResNet-101.

    units: bottleneck units of stages 1..4 (conv2..conv5). channels: output channels of the stem and of the stages.
    deformable_groups: groups of offsets of stage 4's 3x3 convolutions, which are then deformable; 0 leaves them plain.
    kind: "v2" is pre-activation (He et al. 2016, the authors' release), "v1" is torchvision's post-activation v1.5,
    "lite0" and "lite0-short" are EfficientNet-Lite0, whose sizes are its own; detector.backbone.BACKBONES has all.
    folded: batch norms that follow a convolution are part of it (detector/folding); for inference alone.
    """

    units: tuple[int, int, int, int] = (3, 4, 23, 3)
    channels: tuple[int, int, int, int, int] = (64, 256, 512, 1024, 2048)
    dilation: int = 2
    deformable_groups: int = 0
    kind: str = "v2"
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class AnchorConfig:
    """Anchor shapes: every size (sqrt of area, chip px) with every ratio (height over width), at every cell."""

    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    sizes: tuple[float, ...] = (32, 64, 112, 160, 208, 256, 384)


@dataclasses.dataclass(frozen=True)
class DetectorSettings:
    """What the settings of every detector have; one subclass a kind of detector (detector/kinds).

    compute_dtype: of convolutions and fully connected layers; parameters, scores, boxes and NMS are always float32.
    frozen_norm: batch norms keep their statistics, scales and shifts in training.
    """

    num_classes: int = 80
    backbone: BackboneConfig = BackboneConfig()
    pixel_mean: tuple[float, float, float] = (123.68, 116.779, 103.939)
    pixel_deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    frozen_norm: bool = False

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with these settings, a line each."""
        backbone = self.backbone
        groups, width = backbone.deformable_groups, backbone.channels[-1] // 4
        if groups < 0:
            yield f"backbone.deformable_groups {groups}; want 0 (plain) or more"
        if groups > 0 and width % groups:
            yield f"backbone.deformable_groups {groups} must divide stage 4's {width} channels"
        if self.num_classes < 1:
            yield f"detector.num_classes {self.num_classes}; want at least 1"
        if self.compute_dtype not in ("float32", "bfloat16"):
            yield f"compute_dtype {self.compute_dtype!r} is not known; want one of float32, bfloat16"


@dataclasses.dataclass(frozen=True)
class DetectorConfig(DetectorSettings):
    """The two-stage detector. Defaults are the paper's, but for what is deformable; configs/coco_r101.py has that too.

    roi_pooling: "align" is RoIAlign, "deformable" the release's position-sensitive pooling with learnt offsets.
    proposal_least_side: proposals that lie past a border keep this many chip px inside it; clipping inclusive boxes to
    the last pixel, as the release does, is 1.
    proposals_area: in detection, chips of this area (chip px^2) and larger ones get all `proposals`; smaller ones get
    their share, but proposals_least. None gives all to all, as the release does.
    """

    anchors: AnchorConfig = AnchorConfig()
    rpn_channels: int = 512
    proposals_before_nms: int = 6000
    proposals: int = 300
    proposal_nms_iou: float = 0.7
    roi_channels: int = 256
    roi_size: int = 7
    head_channels: int = 1024
    box_deviations: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    focus_channels: int = 256
    roi_pooling: Literal["align", "deformable"] = "align"
    proposal_least_side: float = 0.0
    proposals_area: int | None = None
    proposals_least: int = 16

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if self.roi_pooling not in ("align", "deformable"):
            yield f"roi_pooling {self.roi_pooling!r} is not known; want one of align, deformable"
        least, area, fewest = self.proposal_least_side, self.proposals_area, self.proposals_least
        if least < 0:
            yield f"proposal_least_side {least}; want 0 px or more"
        if area is not None and area < STRIDE**2:
            yield f"proposals_area {area}; want at least one cell, {STRIDE**2} px^2, or None"
        if fewest < 1:
            yield f"proposals_least {fewest}; want at least 1"


@dataclasses.dataclass(frozen=True)
class StackingConfig:
    """Focus stacking (section 4.3). nms_iou None merges with Gaussian soft-NMS, a number with hard NMS at that IoU."""

    border_tolerance: float = 10.0  # image px
    score_threshold: float = 1e-3
    max_detections: int = 200
    soft_nms_sigma: float = 0.55
    nms_iou: float | None = None


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """What happens to training chips at random, each with an even chance.

    mirror: left and right change sides. flip: top and bottom do, for pictures from above. turn: rows become columns;
    with the other two that makes every turn by 90 degrees. colour: brightness, contrast and saturation change by up to
    this share, each by itself. scale: chips show up to so many times more or less; valid ranges count the size shown.
    """

    mirror: bool = True
    flip: bool = False
    turn: bool = False
    colour: float = 0.0
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """SNIPER training. ranges: valid range of each scale while training, image px (section 6 of DESIGN)."""

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


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment: everything train.py and evaluate.py need to know."""

    name: str
    data: DataSource
    scales: tuple[Scale, ...]
    focus_range: FocusRange
    buckets: tuple[Bucket, ...]
    detector: DetectorSettings
    training: TrainingConfig
    stacking: StackingConfig = StackingConfig()
    rules: tuple[Callable, ...] | None = None  # chip rules of one's own (focus.plan.Plan); None: Algorithm 1
    window: int = 32  # images whose chips are pooled
    shrink: float = 0.0  # share of its sides, at most, that a chip may lose to fit a smaller bucket
    metric: Literal["coco", "voc"] = "coco"  # how detections are scored: COCO's AP, or PASCAL VOC's at IoU 0.5 and 0.7
    seed: int = 0
    shipped: str | None = None  # weights that come with the package: a file name inside weights/shipped

    def __post_init__(self):
        check(self)


def open_split(config: Config, split: str, report: Callable[[str, str, str], None] | None = None) -> Dataset:
    """The images of a split, checked against the config.

    report: hears of single annotations that are wrong (DataSource.open_tolerant); without it they are errors.
    Raises ConfigError when detector.num_classes is not the number of categories or the split holds no image, and
    whatever the source raises for files that are missing or malformed.
    """
    dataset = config.data.open(split) if report is None else config.data.open_tolerant(split, report)
    classes, categories = config.detector.num_classes, len(dataset.categories)
    if classes != categories:
        raise ConfigError(f"detector.num_classes is {classes} but the data have {categories} categories; want the same")
    if not len(dataset):
        raise ConfigError(f"split {split!r} holds no image; check its annotations")
    return dataset


def check(config: Config) -> None:
    """Raises ConfigError, one sentence naming the setting, when settings contradict each other."""

    def want(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"config {config.name!r}: {message}")

    want(len(config.scales) >= 1, "scales is empty; give at least one Scale")
    for number, item in enumerate(config.scales, 1):
        where = f"scale {number} has"
        sides = f"sides {item.min_side}, {item.max_side}"
        want(0 < item.min_side <= item.max_side, f"{where} {sides}; want 0 < min_side <= max_side")
        last = number == len(config.scales)
        want(item.leads or 0 <= item.valid.low < item.valid.high,
             f"{where} valid range {item.valid}; want 0 <= low < high, or 0, 0 to lead only")  # fmt: skip
        want(not (last and item.leads), f"{where} an empty valid range; the finest scale must answer for something")
        without = last or config.rules is not None
        want(without or item.chips is not None, f"{where} no chip rule; only the finest scale goes without")
        if item.chips is not None:
            dilation, least = item.chips.dilation, item.chips.min_size
            want(dilation >= 1 and dilation % 2 == 1, f"{where} dilation {dilation}; want an odd number of cells")
            want(least >= 1, f"{where} min_size {least}; want at least 1 px")
    for coarse, fine in zip(config.scales, config.scales[1:]):
        want(coarse.min_side < fine.min_side, "scales must go from coarse to fine (min_side rising)")
    count = len(config.scales) - 1
    fits = config.rules is None or len(config.rules) == count
    want(fits, f"rules has {len(config.rules or ())} entries; want {count}, one for each scale but the last")
    focus = config.focus_range
    want(0 <= focus.a < focus.b <= focus.c, f"focus_range {focus}; want 0 <= a < b <= c")
    want(len(config.buckets) >= 1, "buckets is empty; give at least one Bucket")
    want(0 <= config.shrink < 1, f"shrink {config.shrink}; want a share of a chip's side, from 0 to below 1")
    for bucket in config.buckets:
        multiples = bucket.height % STRIDE == 0 and bucket.width % STRIDE == 0
        want(multiples and bucket.height > 0 and bucket.width > 0, f"{bucket} must have sides, multiples of {STRIDE}")
        want(bucket.batch >= 1, f"{bucket} must have a batch of at least 1")
    for fault in config.detector.faults():
        want(False, fault)
    want(config.metric in ("coco", "voc"), f"metric {config.metric!r} is not known; want one of coco, voc")
    training, count = config.training, len(config.training.ranges)
    want(training.chip % STRIDE == 0, f"training.chip {training.chip} must be a multiple of {STRIDE}")
    want(count == len(config.scales), f"training.ranges has {count} entries for {len(config.scales)} scales")
    for number, (item, trained) in enumerate(zip(config.scales, training.ranges), 1):
        want(item.leads == (trained == LEADS),
             f"scale {number} has valid range {item.valid} and training range {trained}; want both empty, or none")
    for name in ("steps", "batch", "chip", "chip_stride", "max_boxes", "rpn_batch", "roi_batch"):
        want(getattr(training, name) >= 1, f"training.{name} {getattr(training, name)}; want at least 1")
    for name in ("log_every", "checkpoint_every", "proposals_steps"):
        want(getattr(training, name) >= 1, f"training.{name} {getattr(training, name)}; want at least 1 step")
    for name in ("proposals_kept", "read_threads", "checkpoints_kept"):
        want(getattr(training, name) >= 1, f"training.{name} {getattr(training, name)}; want at least 1")
    for name in ("reference_batch", "validate_every"):
        value = getattr(training, name)
        want(value is None or value >= 1, f"training.{name} {value}; want at least 1, or None")
    colour, enlarged = training.augmentation.colour, training.augmentation.scale
    want(0 <= colour < 1, f"training.augmentation.colour {colour}; want a share from 0 (none) to below 1")
    want(1 <= enlarged <= 4, f"training.augmentation.scale {enlarged}; want a factor from 1 (none) to 4")
    norm = training.gradient_norm
    want(norm is None or norm > 0, f"training.gradient_norm {norm}; want a positive norm, or None for no clipping")
    want(0 <= training.ema < 1, f"training.ema {training.ema}; want a decay from 0 (none) to below 1")
    want(training.frozen_stages >= 0, f"training.frozen_stages {training.frozen_stages}; want 0 or more stages")
    want(training.negative_chips >= 0, f"training.negative_chips {training.negative_chips}; want 0 (none) or more")
    limits = training.negative_proposals
    fits = training.negative_chips == 0 or len(limits) == len(config.scales)
    want(fits, f"training.negative_proposals has {len(limits)} entries for {len(config.scales)} scales")
    want(config.seed >= 0, f"seed {config.seed}; want 0 or more")
    rate = training.learning_rate
    want(math.isfinite(rate) and rate > 0, f"training.learning_rate {rate} must be positive")
    want(config.stacking.soft_nms_sigma > 0, "stacking.soft_nms_sigma must be positive")
    want(config.stacking.max_detections >= 1, "stacking.max_detections must be at least 1")
    want(config.window >= 1, "window must be at least 1")
    wrong = out_of_bounds(config)
    want(wrong is None, wrong or "")
