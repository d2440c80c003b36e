"""What an evaluation says beside its table: ranges that saw nothing, and the pixels saved against what is possible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.command.foreign_config import SettledConfig
from autofocus_jax.config import Config, open_split
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.planning.forecast import forecast
from autofocus_jax.planning.suggestion import spread
from autofocus_jax.structures import AutoFocusError, Dataset

_SAMPLE = 300  # images that the bound is worked out on


def lines(
    dataset: Dataset, indices: Sequence[int], config: Config | SettledConfig, metrics: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield warnings of ranges without an object, and the saving beside its bound and its forecast.

    Args:
        dataset: the images that were evaluated.
        indices: which of them.
        config: its scales, rules and focus range count.
        metrics: rows of metrics.json.
    """
    yield from _empty_ranges(dataset, indices, config)
    if len(config.scales) == 1 or not {measure.PYRAMID, measure.AUTOFOCUS} <= metrics.keys():
        return
    truth = metrics[measure.PYRAMID]["pixels_per_image"] / metrics[measure.AUTOFOCUS]["pixels_per_image"]
    bound = _bound(dataset, [indices[position] for position in spread(len(indices), _SAMPLE)], config)
    yield (f"AutoFocus saves {truth:.1f} of the {bound:.1f} times that are possible on these images (perfect focus "
           f"maps, with the same chip rules){_forecast(config) if isinstance(config, Config) else ''}")  # fmt: skip


def _empty_ranges(dataset: Dataset, indices: Sequence[int], config: Config | SettledConfig) -> Iterator[str]:
    """A line for each scale that answers for sizes that no object has."""
    truths = (dataset.ground_truth(index) for index in indices)
    sides = np.concatenate([np.zeros(0), *(np.sqrt(box_ops.area(truth.boxes[~truth.ignore])) for truth in truths)])
    for number, scale in enumerate(config.scales, 1):
        if len(sides) and not scale.leads and not scale.valid.holds(sides).any():
            top = "more" if math.isinf(scale.valid.high) else f"{scale.valid.high:g}"
            yield (f"warning: scale {number} answers for objects of {scale.valid.low:g} px to {top}, and no object of "
                   "these images has that size, so all that it finds is false; if the training data have none either, "
                   "let it lead only: valid=ValidRange(0, 0)")  # fmt: skip


def _bound(dataset: Dataset, indices: Sequence[int] | np.ndarray, config: Config | SettledConfig) -> float:
    return forecast(dataset, indices, Plan.of(config), config.focus_range).factor


def _forecast(config: Config) -> str:
    """The bound of the training images, which is what `autofocus suggest` foretells."""
    try:
        dataset = open_split(config, "train")
    except AutoFocusError as error:
        return f"; no forecast from the training images, as {error}"
    return f"; {_bound(dataset, spread(len(dataset), _SAMPLE), config):.1f} times on the training images (the forecast)"
