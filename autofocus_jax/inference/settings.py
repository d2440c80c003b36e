"""A config with other scales or thresholds, and buckets that hold its levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.structures import STRIDE, Bucket, Scale


def with_sides(config: Config, sides: Sequence[tuple[int, int]]) -> Config:
    """The config with other (min side, max side) of its scales, and buckets that hold the new levels.

    Valid ranges stay as they are: they are in image pixels. training.chip grows when it has to hold scale 1. Raises
    ConfigError unless there is a pair for every scale.
    """
    if len(sides) != len(config.scales):
        raise ConfigError(f"{len(sides)} pairs of sides for {len(config.scales)} scales; give one for each")
    scales = tuple(dataclasses.replace(scale, min_side=low, max_side=high)
                   for scale, (low, high) in zip(config.scales, sides))  # fmt: skip
    chip = max(config.training.chip, -(-scales[0].max_side // STRIDE) * STRIDE)
    training = dataclasses.replace(config.training, chip=chip)
    return dataclasses.replace(config, scales=scales, buckets=holding(config.buckets, scales), training=training)


def with_thresholds(config: Config, thresholds: Sequence[float]) -> Config:
    """The config with other thresholds of its chip rules: one for all of them or one for each scale but the last."""
    count = len(config.scales) - 1
    if len(thresholds) not in (1, count):
        raise ConfigError(f"{len(thresholds)} thresholds for {count} chip rules; give one, or {count}")
    values = list(thresholds) * (count if len(thresholds) == 1 else 1)
    rules = [dataclasses.replace(scale.chips, threshold=value) for scale, value in zip(config.scales, values)]
    scales = [dataclasses.replace(scale, chips=rule) for scale, rule in zip(config.scales, rules)]
    return dataclasses.replace(config, scales=(*scales, config.scales[-1]))


def holding(buckets: Sequence[Bucket], scales: Sequence[Scale]) -> tuple[Bucket, ...]:
    """Buckets, and for every scale whose whole level fits none of them, in either orientation, one that it fits."""
    result = list(buckets)
    for scale in scales:
        short, long = (-(-side // STRIDE) * STRIDE for side in (scale.min_side, scale.max_side))
        for height, width in ((short, long), (long, short)):
            if not any(bucket.height >= height and bucket.width >= width for bucket in result):
                result.append(Bucket(height, width, 1))
    return tuple(result)
