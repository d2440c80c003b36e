"""Section 5.4: chooses the chip rules (t, d, k) of a config on its tune split.

Rules are searched from the finest scale to the coarsest. Finer scales keep their chosen rules; coarser scales pass on
their whole level. Every candidate is a real run of the cascade.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from autofocus_jax.config import Config
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe as describe_inputs
from autofocus_jax.experiments.inputs import indices
from autofocus_jax.experiments.points import real_point
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus.cascade import AnyDetect
from autofocus_jax.inference import measure
from autofocus_jax.planning.rule_search import (
    Point,
    Rules,
    describe,
    grids,
    short,
    usual_size,
    within_drop,
)
from autofocus_jax.structures import AutoFocusError, ChipRule, Dataset


@dataclasses.dataclass(frozen=True)
class Arguments(DetectorInputs):
    split: str = "tune"
    """images to choose on; never those that are reported"""
    drop: float = 0.0
    """points of AP below the pyramid that the chosen rules may cost together"""
    thresholds: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    dilations: tuple[int, ...] = (1, 3)
    min_sizes: tuple[int, ...] = (32, 64, 128)
    """least sides to try, in pixels of the level that predicts the map"""
    contexts: tuple[int, ...] = ()
    """least sides to try, in pixels of the next level, which is what the detector sees; as 128 160 192 256"""


class Candidate(NamedTuple):
    """A rule of one scale and the results of the cascade with it."""

    scale: int  # 1-based, of the level that predicts the map
    rule: ChipRule | None  # None: the whole level
    ap: float  # AP of the config's metric, or AP50 of VOC's
    pixels: float  # per image


def search(
    config: Config, detect: AnyDetect, dataset: Dataset, rules: Sequence[Sequence[ChipRule]], drop: float,
    report: Callable[[Candidate], None], chosen: Sequence[int] | None = None,
) -> list[ChipRule]:  # fmt: skip
    """Return the chosen rule of every scale but the last, coarse to fine.

    At each scale the rule with the fewest pixels is taken among those whose AP is within that scale's equal share of
    `drop` below the pyramid's. If there is none, the rule of highest AP is taken (planning.rule_search).

    Args:
        config: the settings.
        detect: the detector.
        dataset: images and ground truth.
        rules: the rules to try at each scale.
        drop: points of AP that the rules may cost together.
        report: called with each candidate.
        chosen: which images; by default all.
    """

    def run(rules: Rules) -> Point:
        point = real_point(config, rules, detect, dataset, chosen)
        if math.isnan(point.ap):
            raise AutoFocusError("no image holds an object, so rules cannot be compared; choose on other images")
        scale = next((number for number, rule in enumerate(rules, 1) if rule is not None), len(rules))
        report(Candidate(scale, rules[scale - 1], point.ap, point.pixels))
        return point

    return list(within_drop(run, len(config.scales) - 1, rules, drop).rules)


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment; every candidate is a run of the detector."""
    dataset = open_images(arguments, config)
    grid = grids(config.scales, usual_size(dataset), arguments.thresholds, arguments.dilations, arguments.min_sizes,
                 arguments.contexts)  # fmt: skip
    seen: list[Candidate] = []
    bar = iter(track(range(2 + sum(map(len, grid))), "rules"))

    def report(candidate: Candidate) -> None:
        seen.append(candidate)
        next(bar)

    next(bar)
    detect = load_detector(arguments, config).detect
    chosen = search(config, detect, dataset, grid, arguments.drop, report, indices(arguments, dataset))
    name = measure.HEADLINES[config.metric][0]
    rows = [
        {"scale": str(scale), "rule (t, d, k)": short((rule,)), name: ap, "side": pixels**0.5}
        for scale, rule, ap, pixels in seen
    ]
    facts = {**describe_inputs(arguments, config, len(indices(arguments, dataset))), "chosen": describe(tuple(chosen))}
    shown = table("chip rules", rows, {"scale": "{}", "rule (t, d, k)": "{}", name: "{:.2f}", "side": "{:.0f}"})
    notes = tuple(f"scale {number}: {rule}" for number, rule in enumerate(chosen, 1))
    return Result(facts, rows, (shown,), None, notes)
