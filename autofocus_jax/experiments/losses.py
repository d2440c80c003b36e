"""Section 5.1: where a detector's pixels go, from FocusPixels over perfect maps to the padded chips of the device.

autofocus experiment losses --config configs/demo.py --output results

Each row adds one cause to the row above. The first rows need no detector; the other rows are a real run of the cascade.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.experiments.detector import DetectorInputs, load_detector, open_images
from autofocus_jax.experiments.inputs import describe, indices
from autofocus_jax.experiments.result import Result, Track, table
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.cascade import Outcome
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.metrics.focus import shown_whole
from autofocus_jax.structures import FOCUS, STRIDE, FocusRange, GroundTruth

CAUSES = (
    "scale 1, and FocusPixels of perfect maps",
    "dilation of these cells",
    "rectangles of at least k, merged: the bound",
    "the map's own cells instead, in places where something small is",
    "chips without one FocusPixel",
    "padding to buckets, and rows that only fill a batch",
)


@dataclasses.dataclass(frozen=True)
class Arguments(DetectorInputs):
    """Options of the experiment."""


class Spent(NamedTuple):
    """Pixels of one image up to each of CAUSES, and objects."""

    pixels: np.ndarray  # [len(CAUSES)]
    whole: float  # of the pyramid
    small: int  # objects in the valid range of a scale after the first
    missed: int  # of these, those that no chip of such a scale shows whole


def of_image(outcome: Outcome, truth: GroundTruth, plan: Plan, focus_range: FocusRange) -> Spent:
    """Return the cost of one image by cause.

    Args:
        outcome: of the cascade, with its stages.
        truth: its objects.
        plan: of the run.
        focus_range: sizes of the objects that are FOCUS, chip px.
    """
    size, perfect = outcome.size, oracle_chips(outcome.size, truth, plan, focus_range)
    factors = [pyramid.factor(*size, scale) for scale in plan.scales]
    first = float(perfect[0].sizes.prod(axis=1).sum())
    cells = dilated = 0.0
    for number, scale in enumerate(plan.scales[:-1]):
        area = (STRIDE * factors[number + 1] / factors[number]) ** 2
        dilation = 1 if scale.chips is None else scale.chips.dilation
        for labels in perfect[number].labels:
            focus = labels == FOCUS
            cells += area * focus.sum()
            dilated += area * ndimage.binary_dilation(focus, np.ones((dilation, dilation), bool)).sum()
    bound = sum(float(stage.sizes.prod(axis=1).sum()) for stage in perfect)
    empty = sum(_without_focus(outcome, number, truth, factors, focus_range) for number in range(1, len(plan.scales)))
    real = float(outcome.cost.pixels.sum())
    pixels = [first + cells, first + dilated, bound, real - empty, real, float(outcome.cost.padded_pixels.sum())]
    return Spent(np.array(pixels), float(outcome.cost.full_pixels.sum()), *_missed(outcome, truth, plan))


def _without_focus(
    outcome: Outcome, number: int, truth: GroundTruth, factors: Sequence[float], focus_range: FocusRange
) -> float:
    """Pixels of the chips at a scale (from 0) in which no object was FOCUS at the scale before."""
    before = np.sqrt(box_ops.area(truth.boxes)) * factors[number - 1]
    wanted = truth.boxes[(focus_range.a < before) & (before < focus_range.b) & ~truth.ignore]
    chips = outcome.stages[number].chips
    touched = (box_ops.intersection(chips, wanted) > 0).any(axis=1)
    return float(sum(math.prod(pyramid.chip_size(chip, factors[number])) for chip in chips[~touched]))


def _missed(outcome: Outcome, truth: GroundTruth, plan: Plan) -> tuple[int, int]:
    """(objects that a scale after the first answers for, those of them that no chip shows whole)."""
    boxes = truth.boxes[~truth.ignore]
    sides = np.sqrt(box_ops.area(boxes))
    later, shown = np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)
    alone = ~plan.scales[0].valid.holds(sides)
    for scale, stage in zip(plan.scales[1:], outcome.stages[1:]):
        inside = scale.valid.holds(sides) & alone
        later |= inside
        shown |= inside & shown_whole(stage.chips, boxes)
    return int(later.sum()), int((later & ~shown).sum())


def run(arguments: Arguments, config: Config, track: Track) -> Result:
    """Run the experiment."""
    if len(config.scales) < 2:
        raise ConfigError(f"config {config.name!r} has one scale; there is nothing to lose between scales")
    dataset = open_images(arguments, config)
    detect, chosen, plan = load_detector(arguments, config).detect, indices(arguments, dataset), Plan.of(config)
    readers = ((index, partial(dataset.image, index)) for index in chosen)
    spent, skipped = [], []
    for outcome in track(engine.stream(readers, detect, plan, keep_stages=True), "images", len(chosen)):
        if outcome.error is not None:
            skipped.append(f"skipped: {outcome.error}")
            continue
        spent.append(of_image(outcome, dataset.ground_truth(outcome.key), plan, config.focus_range))
    if not spent:
        raise ConfigError(f"not one of {len(chosen)} images can be read; check the images")
    pixels, whole = np.mean([one.pixels for one in spent], axis=0), sum(one.whole for one in spent) / len(spent)
    small, missed = (sum(getattr(one, name) for one in spent) for name in ("small", "missed"))
    rows = [{"up to": cause, "side": math.sqrt(value), "times fewer": whole / value, "of the bound": pixels[2] / value}
            for cause, value in zip(CAUSES, pixels.tolist())]  # fmt: skip
    formats = {"up to": "{}", "side": "{:.0f}", "times fewer": "{:.2f}", "of the bound": "{:.2f}"}
    facts = {**describe(arguments, config, len(spent)), "small objects": small, "missed": missed}
    title = f"{config.name}, {arguments.split}, {len(spent)} images; the pyramid takes {math.sqrt(whole):.0f}²"
    notes = (f"{missed} of {small} objects that scale 1 does not answer for lie whole in no chip of their scale.",
             *skipped)  # fmt: skip
    return Result(facts, rows, (table(title, rows, formats),), None, notes)
