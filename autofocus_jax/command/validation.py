"""Validations of a training: AutoFocus on the first images of a split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from autofocus_jax import parallel
from autofocus_jax.config import Config, ConfigError, open_split
from autofocus_jax.detector.api import Variables
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.inference.compiled import CompiledDetector, compile_detector

Progress = Callable[[int], None]  # told how many more images are done
Validate = Callable[[Variables, Progress | None], Mapping[str, Any]]


def validator(config: Config, split: str, count: int) -> Validate | None:
    """A function from variables, and what hears of its progress, to the scores of AutoFocus; None for a count of 0.

    Scores are those of inference.measure.metrics, with "images".

    The split is opened at once, so that what is wrong with it comes out before hours of training. Programs are compiled
    at the first call and kept for the next.
    """
    if count < 0:
        raise ConfigError(f"--validation-images {count}; want 0 or more")
    if count == 0:
        return None
    dataset = open_split(config, split)
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
    """What the best checkpoint is chosen by: AP, or AP50 of VOC's metric; None without objects."""
    return None if scores is None else scores[measure.headline(scores)]


def line(scores: Mapping[str, Any]) -> str:
    """Scores as a person reads them."""
    names = [name for name in ("AP", "AP50") if name in scores]
    points = ", ".join(f"{name} {'-' if scores[name] is None else format(scores[name], '.1f')}" for name in names)
    return f"autofocus on {scores['images']} validation images: {points}, side {scores['side']:.0f}"
