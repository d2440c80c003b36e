"""A config with other scales or thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from autofocus_jax.config import Config
from autofocus_jax.focus.plan import Plan


def with_sides(config: Config, sides: Sequence[tuple[int, int]]) -> Config:
    """Return the config with other (min side, max side) of its scales, as Plan.with_sides does.

    Raises PlanError unless there is a pair for every scale.
    """
    plan = Plan.of(config).with_sides(sides)
    return dataclasses.replace(config, scales=plan.scales, buckets=plan.buckets)


def with_thresholds(config: Config, thresholds: Sequence[float]) -> Config:
    """Return the config with other thresholds of its chip rules, as Plan.with_thresholds does.

    thresholds: one for all of them or one for each scale but the last; PlanError for another number.
    """
    return dataclasses.replace(config, scales=Plan.of(config).with_thresholds(*thresholds).scales)
