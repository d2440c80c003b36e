"""A config with other scales or thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from autofocus_jax.config import Config
from autofocus_jax.focus.buckets import holding
from autofocus_jax.focus.plan import Plan


def with_sides(config: Config, sides: Sequence[tuple[int, int]]) -> Config:
    """Return the config with other (min side, max side) of its scales, as Plan.with_sides does.

    Args:
        config: the settings.
        sides: (min side, max side) of each scale, px. One pair makes a config of one scale.

    Raises:
        PlanError: the number of pairs does not fit.
    """
    plan, training = Plan.of(config).with_sides(sides), config.training
    if len(plan.scales) < len(config.scales):  # one scale alone: what it was trained for no longer counts
        training = dataclasses.replace(training, ranges=(plan.scales[0].valid,), negative_chips=0)
    return dataclasses.replace(config, scales=plan.scales, buckets=holding(config.buckets, plan.scales),
                               training=training)  # fmt: skip


def with_thresholds(config: Config, thresholds: Sequence[float]) -> Config:
    """Return the config with other thresholds of its chip rules, as Plan.with_thresholds does.

    Args:
        config: the settings.
        thresholds: one for all rules, or one for each scale but the last.

    Raises:
        PlanError: the number of thresholds does not fit.
    """
    return dataclasses.replace(config, scales=Plan.of(config).with_thresholds(*thresholds).scales)
