"""The plan of a foreign detector, from the options of a command."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autofocus_jax.command.options.detector import DetectorOptions
from autofocus_jax.command.plan_file import read_plan
from autofocus_jax.config import ConfigError
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.proposal import of_scales, own_side, proposal

_APART = 2  # times the median side, from which on photographs had better be run apart


def detector_plan(
    options: DetectorOptions,
    detector: CropDetector,
    sizes: Sequence[tuple[int, int]],
    sides: Sequence[tuple[int, int]] = (),
    thresholds: Sequence[float] = (),
    area: bool = False,
) -> Plan:
    """Return the plan of --detector.

    Args:
        options: where the detector looks, and a plan.
        detector: the detector that they describe.
        sizes: (height, width) of the photographs, px; the plan is proposed for the median of their longer sides.
        sides: (shorter, longer) side of each scale, px, in place of those of the plan.
        thresholds: of the focus maps, in place of those of the plan.
        area: an area is given, which says where to look even where the detector does not.

    Raises:
        ConfigError, ForeignError, PlanError: one line.
    """
    if options.focus_score is not None and thresholds:
        raise ConfigError("--focus-score and --threshold both set the least score to look again; give one of them")
    thresholds = tuple(thresholds) or (() if options.focus_score is None else (options.focus_score,))
    if options.focus == "none" and thresholds and not area:
        raise ConfigError("--focus none looks everywhere and has no threshold; leave it out, or give --focus weak")
    plan = _plan(options, detector, sizes, sides)
    if options.focus == "none" and not area:
        return plan.pyramid()
    return plan.with_thresholds(*thresholds) if thresholds else plan


def _plan(
    options: DetectorOptions, detector: CropDetector, sizes: Sequence[tuple[int, int]], sides: Sequence[tuple[int, int]]
) -> Plan:
    if options.side is not None and (sides or options.plan is not None):
        raise ConfigError("--side is for a plan that is proposed; leave it out, or --scales and --plan")
    if options.plan is not None:
        plan = read_plan(options.plan)
        return plan.with_sides(sides) if sides else plan
    # Where no photograph can be read, the run only says why.
    sizes = sizes or [(own_side(detector),) * 2]
    if sides:
        longer = float(np.median(np.asarray(sizes).max(axis=1)))
        return of_scales([long for _, long in sides], longer).with_sides(sides)
    return proposal(detector, sizes, options.side).plan


def described(plan: Plan, sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Return lines that say how photographs of these sizes (height, width) are looked at."""
    shown = ", ".join(f"{scale.max_side}" for scale in plan.scales)
    looked = "all of them whole" if plan.rules is not None else "looking again from scores of " + ", ".join(
        f"{scale.chips.threshold:.2g}" for scale in plan.scales[:-1])  # fmt: skip
    count = len(plan.scales)
    lines = [f"one scale of {shown} px" if count == 1 else f"{count} scales of {shown} px, {looked}"]
    longer = np.asarray(sizes).reshape(-1, 2).max(axis=1)
    if len(longer) and (longer.max() > _APART * np.median(longer) or _APART * longer.min() < np.median(longer)):
        lines.append(f"the longer sides of the photographs are {longer.min()} to {longer.max()} px and share one plan, "
                     f"for {np.median(longer):.0f} px; run those of other sizes apart")  # fmt: skip
    return lines
