"""Config files of foreign detectors: ForeignConfig, and its form with the plan that is made for its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from autofocus_jax.command.detector_plan import described, detector_plan
from autofocus_jax.command.options.detector import DetectorOptions, Focus, ModelOptions, load_detector
from autofocus_jax.command.photographs import OfClasses
from autofocus_jax.config import Config, ConfigError, DataSource, StackingConfig
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.structures import Dataset, FocusRange, Scale
from autofocus_jax.where.truth import SMALL


@dataclasses.dataclass(frozen=True)
class ForeignConfig:
    """A foreign detector, and the images that it is measured on."""

    name: str
    data: DataSource
    options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DetectorOptions)
    metric: Literal["coco", "voc"] = "coco"  # how detections are scored: COCO's AP, or PASCAL VOC's at 0.5 and 0.7


@dataclasses.dataclass(frozen=True)
class ForeignSettings:
    """Settings of a foreign detector, in the place of a Config's `detector`."""

    num_classes: int
    options: DetectorOptions  # how the file is understood; files, and what the plan follows from, are left out
    focus: Focus  # DetectorOptions.focus


@dataclasses.dataclass(frozen=True)
class SomeClasses(DataSource):
    """A source with some of its classes alone."""

    source: DataSource
    names: tuple[str, ...]

    def open(self, split: str) -> Dataset:
        return OfClasses(self.source.open(split), self.names)


@dataclasses.dataclass(frozen=True)
class SettledConfig:
    """A ForeignConfig with its classes and its plan, under the names that a Config has for them."""

    name: str
    data: SomeClasses
    metric: str
    model: str  # its file
    focus_weights: str | None  # file of the focus network
    detector: ForeignSettings
    scales: tuple[Scale, ...]
    stacking: StackingConfig
    window: int
    buckets: Loose = Loose()
    rules: None = None
    shrink: float = 0.0
    focus_range: FocusRange = SMALL


def settled(config: Config | ForeignConfig, split: str, say: Callable[[str], None] = lambda _: None) -> Any:
    """Return a config that says everything: one of ours as it is, a ForeignConfig with its classes and its plan.

    Args:
        config: what a config file and its command line say.
        split: the images whose sizes a plan is proposed for.
        say: hears what was chosen.

    Raises:
        ConfigError, ForeignError: one line.
    """
    if not isinstance(config, ForeignConfig):
        return config
    options = config.options
    if options.focus == "none":
        raise ConfigError("--focus none is the pyramid, which is always a row; leave it out")
    dataset = config.data.open(split)
    if not len(dataset):
        raise ConfigError(f"split {split!r} holds no image; check its annotations")
    detector = load_detector(dataclasses.replace(options, only=()))
    names = shared_classes(options, detector.categories, dataset, say)
    sizes = [(info.height, info.width) for info in map(dataset.info, range(len(dataset)))]
    plan = detector_plan(options, detector, sizes)
    for line in described(plan, sizes):
        say(line)
    left = dataclasses.replace(options, detector=None, plan=None, side=None, focus_score=None, only=names,
                               focus="weak", focus_weights=None)  # fmt: skip
    settings = ForeignSettings(len(names), left, options.focus)
    return SettledConfig(config.name, SomeClasses(config.data, names), config.metric, options.detector,
                         options.focus_weights, settings, plan.scales, plan.stacking, plan.window)  # fmt: skip


def shared_classes(
    options: ModelOptions, known: tuple[str, ...], dataset: Dataset, say: Callable[[str], None]
) -> tuple[str, ...]:
    """Return the classes that count: those of --only, else those of the dataset that the detector knows.

    Args:
        options: the detector's.
        known: names of all classes of the detector.
        dataset: opens no image.
        say: hears which classes of the dataset are left out.

    Raises:
        ConfigError: the two have no class in common.
    """
    names = options.only or tuple(name for name in dataset.categories if name in known)
    if not names:
        raise ConfigError(f"the detector knows none of the classes {', '.join(dataset.categories)}; it knows "
                          f"{', '.join(known)}; give --names or --only")  # fmt: skip
    if not options.only and len(names) < len(dataset.categories):
        unknown = (name for name in dataset.categories if name not in known)
        say(f"classes that the detector does not know are left out: {', '.join(unknown)}")
    return names
