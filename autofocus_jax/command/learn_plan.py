"""The plan of `autofocus learn`: given, proposed, or chosen by what the detector finds at which magnification."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autofocus_jax.command.compare import planned
from autofocus_jax.command.options.learn import Arguments
from autofocus_jax.command.suggest_detector import sides_to_try
from autofocus_jax.config import ConfigError
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.magnification import suggest_plan, trial
from autofocus_jax.foreign.proposal import THRESHOLD
from autofocus_jax.structures import Dataset, Detections

Found = tuple[int, Sequence[Detections]]  # index of a photograph, and its detections at each side


def begin(arguments: Arguments, detector: CropDetector, dataset: Dataset) -> tuple[Plan | None, tuple[int, ...]]:
    """Return the plan and the longer sides of its levels; None, and the sides to try, where it is to be chosen.

    Raises:
        ConfigError: the plan has not two scales.
    """
    if arguments.plan is None and arguments.annotations is None:
        return None, sides_to_try(detector, dataset, arguments.side)
    plan = _of_two(planned(arguments, detector, dataset)[0].plan)
    return plan, tuple(scale.max_side for scale in plan.scales)


def choose(dataset: Dataset, sides: Sequence[int], found: Sequence[Found], say: Callable[[str], None]) -> Plan:
    """Choose two scales and their valid ranges by what was found at each side, and say why.

    Args:
        dataset: the photographs.
        sides: the longer sides that were tried, px, coarse to fine.
        found: what was found in the photographs that count.
        say: hears the reasons.

    Raises:
        ConfigError: one scale is enough.
        ForeignError: too little was found.
    """
    infos = (dataset.info(index) for index, _ in found)
    sizes = [(info.height, info.width) for info in infos]
    plan, reasons = suggest_plan(trial(sides, sizes, [at for _, at in found]), THRESHOLD)
    for reason in reasons:
        say(f"- {reason}")
    return _of_two(plan)


def _of_two(plan: Plan) -> Plan:
    if len(plan.scales) != 2 or plan.scales[0].chips is None:
        raise ConfigError(f"learning where to look again wants a plan of two scales, got {len(plan.scales)}: give "
                          "larger photographs, or --plan with two")  # fmt: skip
    return plan
