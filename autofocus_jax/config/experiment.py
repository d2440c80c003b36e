"""All settings of an experiment, and the check that they fit each other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from autofocus_jax.config.bounds import out_of_bounds
from autofocus_jax.config.detector import DetectorSettings
from autofocus_jax.config.source import DataSource
from autofocus_jax.config.training import TrainingConfig
from autofocus_jax.errors import ConfigError
from autofocus_jax.structures import STRIDE, Bucket, Dataset, FocusRange, Scale


@dataclasses.dataclass(frozen=True)
class StackingConfig:
    """Focus stacking (section 4.3). nms_iou None merges with Gaussian soft-NMS, a number with hard NMS at that IoU."""

    border_tolerance: float = 10.0  # image px
    score_threshold: float = 1e-3
    max_detections: int = 200
    soft_nms_sigma: float = 0.55
    nms_iou: float | None = None


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of one experiment, for train.py and evaluate.py."""

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


def open_split(config: Any, split: str, report: Callable[[str, str, str], None] | None = None) -> Dataset:
    """Open the images of a split and check them against the config.

    Args:
        config: the settings.
        split: name of the split.
        report: called for single wrong annotations (DataSource.open_tolerant). Without it they are errors.

    Raises:
        ConfigError: detector.num_classes is not the number of categories, or the split holds no image.
        AutoFocusError: files are missing or malformed.
    """
    dataset = config.data.open(split) if report is None else config.data.open_tolerant(split, report)
    classes, categories = config.detector.num_classes, len(dataset.categories)
    if classes != categories:
        raise ConfigError(f"detector.num_classes is {classes} but the data have {categories} categories; want the same")
    if not len(dataset):
        raise ConfigError(f"split {split!r} holds no image; check its annotations")
    return dataset


def require_categories(dataset: Dataset, split: str, names: Sequence[str] | None) -> None:
    """Raise ConfigError if a split lists other categories than a detector was trained on, or in another order.

    A class is a position in the list, so another order would take one class for another. Case does not count.

    Args:
        dataset: the images of the split.
        split: its name.
        names: categories of the training; None where they are not known, and nothing is compared.
    """
    for number, (name, trained) in enumerate(zip(dataset.categories, names or ()), 1):
        if name.strip().casefold() != trained.strip().casefold():
            raise ConfigError(f"category {number} is {name!r} in split {split!r} and {trained!r} in the training; list "
                              "the same names in the same order in both")  # fmt: skip


def check(config: Config) -> None:
    """Raise ConfigError, one sentence naming the setting, if settings contradict each other."""
    for fault in itertools.chain(
        _scales(config), _shapes(config), config.detector.faults(), config.training.faults(config.scales),
        _others(config),
    ):  # fmt: skip
        raise ConfigError(f"config {config.name!r}: {fault}")


def _scales(config: Config) -> Iterator[str]:
    if not config.scales:
        yield "scales is empty; give at least one Scale"
    for number, item in enumerate(config.scales, 1):
        where, last = f"scale {number} has", number == len(config.scales)
        if not 0 < item.min_side <= item.max_side:
            yield f"{where} sides {item.min_side}, {item.max_side}; want 0 < min_side <= max_side"
        if not (item.leads or 0 <= item.valid.low < item.valid.high):
            yield f"{where} valid range {item.valid}; want 0 <= low < high, or 0, 0 to lead only"
        if last and item.leads:
            yield f"{where} an empty valid range; the finest scale must answer for something"
        if item.chips is None:
            if not last and config.rules is None:
                yield f"{where} no chip rule; only the finest scale goes without"
            continue
        if item.chips.dilation < 1 or item.chips.dilation % 2 == 0:
            yield f"{where} dilation {item.chips.dilation}; want an odd number of cells"
        if item.chips.min_size < 1:
            yield f"{where} min_size {item.chips.min_size}; want at least 1 px"
    if any(coarse.min_side >= fine.min_side for coarse, fine in itertools.pairwise(config.scales)):
        yield "scales must go from coarse to fine (min_side rising)"
    count = len(config.scales) - 1
    if config.rules is not None and len(config.rules) != count:
        yield f"rules has {len(config.rules)} entries; want {count}, one for each scale but the last"


def _shapes(config: Config) -> Iterator[str]:
    focus = config.focus_range
    if not 0 <= focus.a < focus.b <= focus.c:
        yield f"focus_range {focus}; want 0 <= a < b <= c"
    if not config.buckets:
        yield "buckets is empty; give at least one Bucket"
    if not 0 <= config.shrink < 1:
        yield f"shrink {config.shrink}; want a share of a chip's side, from 0 to below 1"
    for bucket in config.buckets:
        if any(side <= 0 or side % STRIDE for side in (bucket.height, bucket.width)):
            yield f"{bucket} must have sides, multiples of {STRIDE}"
        if bucket.batch < 1:
            yield f"{bucket} must have a batch of at least 1"


def _others(config: Config) -> Iterator[str]:
    if config.metric not in ("coco", "voc"):
        yield f"metric {config.metric!r} is not known; want one of coco, voc"
    if config.seed < 0:
        yield f"seed {config.seed}; want 0 or more"
    if not config.stacking.soft_nms_sigma > 0:
        yield "stacking.soft_nms_sigma must be positive"
    if config.stacking.max_detections < 1:
        yield "stacking.max_detections must be at least 1"
    if config.window < 1:
        yield "window must be at least 1"
    if wrong := out_of_bounds(config):
        yield wrong
