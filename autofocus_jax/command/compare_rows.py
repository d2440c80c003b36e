"""The rows of `autofocus compare`: a detector used whole, in slices, over the pyramid, and in the cascade."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax.command.sahi_merging import Merge, mergers
from autofocus_jax.config import ConfigError
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign import slices
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.slices import Part, SliceConfig
from autofocus_jax.inference.comparison import Answer, Way, by_plan, one_by_one
from autofocus_jax.inference.focus_network import look_of
from autofocus_jax.inference.measure import PYRAMID
from autofocus_jax.structures import STAGES, Cost, Dataset, Detections, ValidRange, Where
from autofocus_jax.where.truth import truth

AT_ONCE = 4096  # px, longer side of the largest image that a detector of any input size is given at once
PERFECT = "perfect focus"
LOOKS = ("weak", "network", "either")  # kinds of focus that are no bound


class Wanted(NamedTuple):
    """Settings of a comparison, beside the detector and the plan."""

    side: int  # the longer side of a whole image
    larger: tuple[int, ...]  # further ones, for a detector of any input size
    tiles: tuple[int, ...]  # sides of slices, px of the finest level; the first is the reference
    canvases: tuple[int, ...]  # sides of fixed canvases, for a detector of any input size
    focus: tuple[str, ...]  # ways to look, as "weak" or "weak:0.05"
    focus_weights: str | None = None  # of a focus network


def ways(detector: CropDetector, plan: Plan, wanted: Wanted, truths: Dataset | None) -> list[Way]:
    """Return the ways to process a photograph, in the order of the table.

    Args:
        detector: the one detector of all rows.
        plan: scales, ranges, chip rules and merging.
        wanted: what is compared.
        truths: gives the ground truth for perfect focus; None for none.

    Raises:
        ConfigError: a focus that is not known.
    """
    focuses = looks(wanted, plan, truths)
    made = [_whole(detector, wanted.side, plan)]
    made += [_whole(detector, side, plan) for side in wanted.larger if detector.fixed is None]
    made += [_slices(detector, tile, plan) for tile in wanted.tiles]
    forms = {"": detector}
    if detector.fixed is None:
        forms |= {f", canvas {side}": detector._replace(fixed=(side, side)) for side in wanted.canvases}
    for form, used in forms.items():
        if used.fixed is not None or plan.scales[-1].max_side <= AT_ONCE:
            made.append(_cascade(f"{PYRAMID}{form}", ForeignDetect(used), plan.pyramid()))
            break
    if len(plan.scales) > 1:
        for name, (where, own) in focuses.items():
            made += [_cascade(f"{name}{form}", ForeignDetect(used, where), own) for form, used in forms.items()]
    return made


def slice_row(tile: int) -> str:
    """Return the name of the row of slices of that side, merged by NMS alone."""
    return f"slices {tile}"


def looks(wanted: Wanted, plan: Plan, truths: Dataset | None) -> dict[str, tuple[Where, Plan]]:
    """Return each way to look, by the name of its row, with the plan that it is used in; arguments as of `ways`."""
    found: dict[str, tuple[Where, Plan]] = {}
    kinds: dict[str, Any] = {}
    for name in wanted.focus:
        kind, _, threshold = name.partition(":")
        if kind not in LOOKS:
            raise ConfigError(f"there is no focus {name!r}; want one of {', '.join(LOOKS)}, or KIND:T with a least "
                              "score T")  # fmt: skip
        own = plan if not threshold else _with_threshold(plan, name, threshold)
        shown = f"{kind} focus {own.scales[0].chips.threshold:g}" if own.scales[0].chips else f"{kind} focus"
        if shown in found:
            raise ConfigError(f"two focuses are {shown}; leave one out")
        kinds[kind] = kinds.get(kind) or look_of(kind, wanted.focus_weights)
        found[shown] = kinds[kind], own
    if truths is not None:
        found[PERFECT] = truth([truths.ground_truth(index) for index in range(len(truths))]), plan
    return found


def _with_threshold(plan: Plan, name: str, text: str) -> Plan:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ConfigError(f"the score of a focus must be in [0, 1], got {text!r} in {name}")
    return plan.with_thresholds(value)


def _cascade(name: str, detect: ForeignDetect, plan: Plan) -> Way:
    return by_plan(name, detect, plan)._replace(fill=lambda: detect.spent.fill)


def _whole(detector: CropDetector, side: int, plan: Plan) -> Way:
    """The photograph at once, merged by the NMS of the plan."""

    def share(image: np.ndarray) -> list[Part]:
        return [slices.whole(detector, image, side)]

    rows = {f"whole {side}": lambda parts: _answer(slices.merge_plainly(parts, plan.stacking), parts)}
    return Way(one_by_one(share), rows)


def _slices(detector: CropDetector, tile: int, plan: Plan) -> Way:
    """Slices and the photograph at once, merged in several ways."""
    config = SliceConfig(tile, plan.scales[-1].max_side)
    coarse, fine = plan.scales[0].valid, plan.scales[-1].valid

    def share(image: np.ndarray) -> tuple[tuple[int, int], list[Part]]:
        at_once = slices.whole(detector, image, tile, square=True)
        return image.shape[:2], [at_once, slices.sliced(detector, image, config)]

    name = slice_row(tile)
    rows = {name: lambda shared: _answer(slices.merge_plainly(shared[1], plan.stacking), shared[1])}
    if len(plan.scales) > 1:
        rows[f"{name}, ranges"] = partial(_by_ranges, ranges=(coarse, fine), plan=plan)
    rows |= {f"{name}, {how}": partial(_by_sahi, merge=merge) for how, merge in mergers().items()}
    return Way(one_by_one(share), rows)


def _by_ranges(shared: tuple[tuple[int, int], list[Part]], ranges: Sequence[ValidRange], plan: Plan) -> Answer:
    size, parts = shared
    return _answer(slices.merge_by_ranges(parts, size, ranges, plan.stacking), parts)


def _by_sahi(shared: tuple[tuple[int, int], list[Part]], merge: Merge) -> Answer:
    size, parts = shared
    found = (part.found.detections for part in parts)
    return _answer(merge(Detections(*(np.concatenate(fields) for fields in zip(*found))), size), parts)


def _answer(found: Detections, parts: Sequence[Part]) -> Answer:
    """Detections with what they cost; the seconds of the stages are not told apart."""
    pixels = np.array([part.pixels for part in parts], np.int64)
    chips = np.array([len(part.found.chips) for part in parts], np.int64)
    spent = np.array([part.spent for part in parts], np.int64)
    return found, Cost(1, pixels, pixels, chips, spent[:, 1], spent[:, 0], np.zeros(len(STAGES)))


def default_tiles(detector: CropDetector, side: int, plan: Plan) -> tuple[int, ...]:
    """Return sides of slices to compare with: what SAHI's users take, and a few others; none larger than the level."""
    sides = (640, side, 960) if detector.fixed is None else (side, 2 * side)
    finest = plan.scales[-1].max_side
    fitting = tuple(dict.fromkeys(tile for tile in sides if tile < finest))
    return fitting or (side,)


def default_larger(side: int, plan: Plan) -> tuple[int, ...]:
    """Return the sides of the plan's scales, as far as one input holds them and they are larger than `side`."""
    return tuple(scale.max_side for scale in plan.scales if side < scale.max_side <= AT_ONCE)


def best_slices(rows: Mapping[str, Mapping[str, float | None]], key: str) -> str:
    """Return the name of the row of slices with the best score `key`, those with our own ranges left out."""
    names = [name for name in rows if name.startswith("slices ") and not name.endswith(", ranges")]
    return max(names, key=lambda name: -1.0 if rows[name][key] is None else rows[name][key])
