"""Thresholds of an evaluation for a budget of pixels or a loss of AP, chosen on images that are not reported."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.progress import Progress

from autofocus_jax.command.foreign_config import SettledConfig
from autofocus_jax.config import Config, ConfigError, open_split, require_categories
from autofocus_jax.focus.cascade import AnyDetect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.inference.interval import margin
from autofocus_jax.metrics.coco import MAX_DETECTIONS
from autofocus_jax.planning import budget
from autofocus_jax.structures import Dataset, Scale

LEAST = 20  # images to choose on: on fewer the AP of a setting is mostly chance


def chosen(
    config: Config | SettledConfig, detect: AnyDetect, split: str, pixels: float | None, drop: float | None,
    progress: Progress, say: Callable[[str], Any], max_detections: int = MAX_DETECTIONS,
    names: Sequence[str] | None = None,
) -> tuple[Config | SettledConfig, str]:  # fmt: skip
    """Return the config with the thresholds that were chosen, and a line that says what they cost.

    Args:
        config: the settings.
        detect: the detector.
        split: images to choose on.
        pixels: the most pixels an image, as the side of a square; or None.
        drop: the points of AP below the pyramid's that may be lost; or None.
        progress: shows how far it is.
        say: hears what is done.
        max_detections: how many detections of an image the metric counts.
        names: categories that the detector was trained on, where they are known.

    Raises:
        ConfigError: fewer than LEAST images, or other categories.
        BudgetError: no thresholds do.
    """
    tune = open_split(config, split)
    require_categories(tune, split, names)
    _check(len(tune), split)
    runs = budget.STEPS + 3
    say(f"choosing thresholds on {len(tune)} images of {split}: at most {runs} runs over them")
    task = progress.add_task(f"thresholds on {split}", total=runs)
    made: dict[tuple[Scale, ...], measure.Measurement] = {}

    def run(scales: Sequence[Scale], row: str = measure.AUTOFOCUS) -> measure.Measurement:
        plan = measure.rows(Plan.of(dataclasses.replace(config, scales=tuple(scales))))[row]
        found = measure.measure(tune, detect, plan, metric=config.metric, max_detections=max_detections)
        progress.advance(task)
        return found

    def reached(scales: Sequence[Scale]) -> budget.Reached:
        made[tuple(scales)] = run(scales)
        return _reached(made[tuple(scales)])

    pyramid = run(config.scales, measure.PYRAMID)
    _check(len(pyramid.run.indices), split)
    if pixels is not None:
        choice = budget.for_pixels(config.scales, reached, pixels**2)
    else:
        choice = budget.for_drop(config.scales, reached, _reached(pyramid).ap - drop)
    thresholds = ", ".join(f"{scale.chips.threshold:.3g}" for scale in choice.scales if scale.chips)
    line = (
        f"thresholds {thresholds} chosen on {len(tune)} images of {split}: {choice.cost.pixels**0.5:.0f}² pixels, "
        f"{choice.cost.ap:.1f} {_key(pyramid)} there, {_lost(config, tune, split, pyramid, made[tuple(choice.scales)])}"
    )
    return dataclasses.replace(config, scales=choice.scales), line


def _check(count: int, split: str) -> None:
    if count < LEAST:
        raise ConfigError(
            f"split {split!r} has {count} images that can be read; thresholds chosen on fewer than {LEAST} are chance; "
            "give another --tune-split, or choose them yourself with --scales.0.chips.threshold"
        )


def _reached(found: measure.Measurement) -> budget.Reached:
    row = measure.metrics(found)
    points = row[_key(found)]
    return budget.Reached(-1.0 if points is None else points, row["pixels_per_image"])


def _key(found: measure.Measurement) -> str:
    return measure.headline(measure.metrics(found))


def _lost(
    config: Config | SettledConfig, tune: Dataset, split: str, whole: measure.Measurement, ours: measure.Measurement
) -> str:
    """The points lost to the pyramid, with the interval that so many images allow."""
    shared = sorted({*whole.run.indices} & {*ours.run.indices})
    _check(len(shared), split)
    runs = [dict(zip(found.run.indices, found.run.detections)) for found in (whole, ours)]

    def lost(positions: Sequence[int]) -> float:
        indices = [shared[position] for position in positions]
        found = (measure.score(config.metric, tune, [run[i] for i in indices], indices) for run in runs)
        values = [scores[measure.headline(scores)] for scores in map(measure.points, found)]
        return math.nan if None in values else values[0] - values[1]

    value, width = lost(range(len(shared))), margin(lost, len(shared))
    if math.isnan(value):
        return "without an object to judge by"
    return f"{value:.1f} (±{width:.1f}, 95%, on so few images) below the pyramid's"
