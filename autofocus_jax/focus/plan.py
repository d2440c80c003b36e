"""The plan of a cascade: scales, buckets, rules and stacking."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.errors import PlanError
from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus.area import Area
from autofocus_jax.focus.buckets import Buckets, Loose, Multiple
from autofocus_jax.focus.chips import ChipFunction, focus_chips, whole_level
from autofocus_jax.structures import STRIDE, Bucket, Scale, ValidRange


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of a cascade: everything that it needs beside images and a detector.

    Args:
        scales: the pyramid, coarse to fine.
        buckets: padded shapes of the chips: a tuple of `Bucket`; `Multiple(n)`, which pads sides to multiples of n; or
            `Loose()`, for a detector on the host that takes chips as they are.
        stacking: how the detections of all scales are merged.
        rules: one function for each scale but the last, from a focus map to chips. None stands for Algorithm 1 with the
            `ChipRule` of each scale.
        shrink: largest share of its sides that a chip may lose to fit a smaller bucket.
        window: number of images in progress, which share batches.
        area: where to look, given by the user; None for the whole image.
        looks: boxes [n, 4] int32 of each scale (image frame, disjoint), which are looked at whatever the focus maps
            say; None for the whole image at scale 1, and the rules after it.

    Raises:
        PlanError: the parts do not fit each other.
    """

    scales: tuple[Scale, ...]
    buckets: Buckets = Multiple()
    stacking: StackingConfig = StackingConfig()
    rules: tuple[ChipFunction, ...] | None = None
    shrink: float = 0.0
    window: int = 32
    area: Area | None = None
    looks: tuple[np.ndarray, ...] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "scales", tuple(self.scales))
        if not isinstance(self.buckets, Multiple | Loose):
            object.__setattr__(self, "buckets", tuple(self.buckets))
        if self.rules is not None:
            object.__setattr__(self, "rules", tuple(self.rules))
        _check(self)

    @classmethod
    def of(cls, config: Any, rules: Sequence[ChipFunction] | None = None) -> Plan:
        """Return the plan of a config, or of any object with its settings. `rules` replace the config's rules."""
        given = config.rules if rules is None else tuple(rules)
        return cls(config.scales, config.buckets, config.stacking, given, config.shrink, config.window)

    @functools.cached_property
    def functions(self) -> tuple[ChipFunction, ...]:
        """Return the chip function of each scale but the last: `rules`, or Algorithm 1."""
        if self.rules is not None:
            return self.rules
        rules = (scale.chips for scale in self.scales[:-1])
        return tuple(functools.partial(focus_chips, rule=rule) for rule in rules if rule is not None)

    def pyramid(self) -> Plan:
        """Return the same plan with every level processed whole: the full image pyramid."""
        return dataclasses.replace(self, rules=(whole_level,) * (len(self.scales) - 1))

    def with_thresholds(self, *thresholds: float) -> Plan:
        """Return the plan with other thresholds of its chip rules: one for all, or one for each scale but the last.

        Raises:
            PlanError: another number of thresholds, or a scale without a chip rule.
        """
        count = len(self.scales) - 1
        if len(thresholds) not in (1, count):
            raise PlanError(f"{len(thresholds)} thresholds for {count} chip rules; give one, or {count}")
        if self.rules is not None or any(scale.chips is None for scale in self.scales[:-1]):
            raise PlanError("the plan has rules of its own, which have no threshold; give its scales chip rules")
        values = thresholds * count if len(thresholds) == 1 else thresholds
        scales = [dataclasses.replace(scale, chips=dataclasses.replace(scale.chips, threshold=value))
                  for scale, value in zip(self.scales, values) if scale.chips is not None]  # fmt: skip
        return dataclasses.replace(self, scales=(*scales, self.scales[-1]))

    def alone(self, number: int) -> Plan:
        """Return the plan of one scale (from 1) over its whole level, which answers for objects of every size."""
        scale = dataclasses.replace(self.scales[number - 1], valid=ValidRange(0, math.inf), chips=None)
        return dataclasses.replace(self, scales=(scale,), rules=())

    def with_sides(self, sides: Sequence[tuple[int, int]]) -> Plan:
        """Return the plan with other sides of its scales, and with buckets that hold the new levels.

        Valid ranges stay as they are, because they are in image pixels.

        Args:
            sides: (min side, max side) of each scale, px. One pair makes a plan of one scale, which answers for every
                size.

        Raises:
            PlanError: the number of pairs does not fit.
        """
        plan = self.alone(len(self.scales)) if len(sides) == 1 else self
        if len(sides) != len(plan.scales):
            raise PlanError(f"{len(sides)} pairs of sides for {len(self.scales)} scales; give one for each, or one")
        scales = tuple(dataclasses.replace(scale, min_side=low, max_side=high)
                       for scale, (low, high) in zip(plan.scales, sides))  # fmt: skip
        return dataclasses.replace(plan, scales=scales, buckets=bucket_ops.holding(self.buckets, scales))

    def fit(self, sizes: np.ndarray) -> tuple[list[Bucket], np.ndarray]:
        """Return the bucket of each chip, and the sizes [n, 2] that the chips shall have.

        Args:
            sizes: [n, 2] (height, width) of the chips, px.

        Raises:
            BucketError: a chip is larger than every bucket.
        """
        if isinstance(self.buckets, Multiple | Loose):
            return self.buckets.fit(sizes, self.shrink)
        chosen, fitted = bucket_ops.fit(sizes, self._shapes, self.shrink)
        return [self.buckets[position] for position in chosen.tolist()], fitted

    @functools.cached_property
    def _shapes(self) -> np.ndarray:
        return bucket_ops.shapes(self.buckets if isinstance(self.buckets, tuple) else ())


def _check(plan: Plan) -> None:
    count = len(plan.scales)
    if not count:
        raise PlanError("the plan has no scales; give it at least one")
    if plan.rules is not None and len(plan.rules) != count - 1:
        raise PlanError(f"{len(plan.rules)} rules for {count} scales; give one for each scale but the last")
    for number, scale in enumerate(plan.scales[:-1], 1):
        if plan.rules is None and scale.chips is None:
            raise PlanError(f"scale {number} has no chip rule; give it one, or pass rules")
        finer = plan.scales[number]
        if finer.min_side < scale.min_side:
            raise PlanError(
                f"scale {number + 1} has min_side {finer.min_side}, less than the {scale.min_side} of scale {number}; "
                "order the scales from coarse to fine"
            )
    for bucket in plan.buckets if isinstance(plan.buckets, tuple) else ():
        if bucket.height < 1 or bucket.width < 1 or bucket.height % STRIDE or bucket.width % STRIDE or bucket.batch < 1:
            raise PlanError(f"{bucket} wants sides that are multiples of {STRIDE} px and a batch of at least 1")
    if plan.buckets == ():
        raise PlanError("the plan has no buckets; give it at least one, or Multiple()")
    if not 0 <= plan.shrink < 1:
        raise PlanError(f"shrink must be in [0, 1), got {plan.shrink}")
    if plan.area is not None and not isinstance(plan.area, Area):
        raise PlanError(f"area must be an Area, got {type(plan.area).__name__}; make one by area_of(map)")
    if plan.looks is not None and len(plan.looks) != count:
        raise PlanError(f"{len(plan.looks)} arrays of looks for {count} scales; give one for each")
    if plan.window < 1:
        raise PlanError(f"window must be at least 1, got {plan.window}")
