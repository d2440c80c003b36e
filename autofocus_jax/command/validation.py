"""Validations of a training: AutoFocus on the first images of a split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from autofocus_jax import parallel
from autofocus_jax.config import Config, ConfigError, open_split, require_categories
from autofocus_jax.detector.api import Variables
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.inference.compiled import CompiledDetector, compile_detector

_IMAGES = 100  # of a validation, unless it is said
Progress = Callable[[int], None]  # told how many more images are done
Validate = Callable[[Variables, Progress | None], Mapping[str, Any]]


def validator(config: Config, split: str, count: int | None, names: Sequence[str] | None = None) -> Validate | None:
    """Return a function from variables and a progress callback to the scores of AutoFocus; None for a count of 0.

    Scores are those of inference.measure.metrics, with "images". The split is opened at once, so that its faults show
    before hours of training. Programs are compiled at the first call and kept.

    Args:
        config: the settings.
        split: name of the split.
        count: number of images; None for 100.
        names: categories of the training, which the split must list in the same order.

    Raises:
        ConfigError: a negative count, or other categories.
        AutoFocusError: the split cannot be opened.
    """
    count = _IMAGES if count is None else count
    if count < 0:
        raise ConfigError(f"--validation-images {count}; want 0 or more")
    if count == 0:
        return None
    dataset = open_split(config, split)
    require_categories(dataset, split, names)
    devices = jax.local_devices()
    config = dataclasses.replace(config, buckets=parallel.spread(config.buckets, len(devices)))
    compiled: list[CompiledDetector] = []

    def validate(variables: Variables, progress: Progress | None = None) -> Mapping[str, Any]:
        compiled[:] = [compiled[0].using(variables) if compiled else compile_detector(config, variables, devices)]
        images = range(min(count, len(dataset)))
        measured = measure.measure(
            dataset, compiled[0], Plan.of(config), metric=config.metric, indices=images, progress=progress
        )
        return measure.metrics(measured) | {"images": len(measured.run.indices)}

    return validate


def score(scores: Mapping[str, Any] | None) -> float | None:
    """Return the score that chooses the best checkpoint: AP, or AP50 of VOC's metric; None without objects."""
    return None if scores is None else scores[measure.headline(scores)]


def line(scores: Mapping[str, Any]) -> str:
    """Return scores as one line for people."""
    names = [name for name in ("AP", "AP50") if name in scores]
    points = ", ".join(f"{name} {'-' if scores[name] is None else format(scores[name], '.1f')}" for name in names)
    return f"autofocus on {scores['images']} validation images: {points}, side {scores['side']:.0f}"
