"""`autofocus compare --recall`: of which objects the focus map, the chips and the detector in them lose how many."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from rich import box
from rich.table import Table

from autofocus_jax import boxes as box_ops
from autofocus_jax.command.learn_labels import highest
from autofocus_jax.command.suggest_detector import by_octave, level_form
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.flow import Outcome
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.magnification import KNOWN, best_scores, find_at, suspicions
from autofocus_jax.inference import engine
from autofocus_jax.metrics.focus import shown_whole
from autofocus_jax.structures import STRIDE, Dataset, Detections, DetectorError, GroundTruth, ImageError, Where

SEEN = ("found at scale 1", "weak at scale 1", "not seen at scale 1")
SHARES = ("map", "chips", "in_chips", "found")
NOTES = (
    "map: share of the objects of scale 2's sizes on which the focus map reaches its threshold; chips: that lie whole "
    "in a chip; in chips: share of these that the detector finds there; found: share of all in the result",
    "found and in chips: with a score of 0.25 or more and an IoU of 0.5 or more; weak: a small detection touches it, "
    "of whatever score; false chips: those a photograph that touch no such object, and their share of scale 2's px",
)


class Followed(NamedTuple):
    """What became of the objects of scale 2's sizes, [G] each, and what chips cost, in one photograph or in many."""

    sizes: np.ndarray  # sqrt(area), image px
    seen: np.ndarray  # index into SEEN
    map: np.ndarray  # bool
    chips: np.ndarray  # bool
    inside: np.ndarray  # bool, found by the detector in the chips
    found: np.ndarray  # bool, in the result
    spent: np.ndarray  # [c] px of each chip of scale 2
    false: np.ndarray  # [c] bool, chips without an object


def recall(
    dataset: Dataset, indices: Sequence[int], detector: CropDetector, looks: Mapping[str, tuple[Where, Plan]],
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Run the cascade with each way to look, and return what it loses where, as comparison.json has it.

    Photographs that fail are left out.

    Args:
        dataset: photographs with boxes, of the detector's labels.
        indices: which of them.
        detector: the detector.
        looks: by the name of a row: where to look, and a plan of two scales.
        progress: called with the number of photographs done since the last call.
    """
    coarse = {}
    side = next(plan.scales[0].max_side for _, plan in looks.values())
    for index in indices:
        with contextlib.suppress(ImageError, DetectorError):
            coarse[index] = find_at(level_form(detector, side), dataset.image(index), side)
        progress(1 / (len(looks) + 1))
    rows = {}
    for name, (where, plan) in looks.items():
        readers = ((index, partial(dataset.image, index)) for index in coarse)
        parts = []
        for outcome in engine.stream(readers, ForeignDetect(detector, where), plan, keep_stages=True):
            index = cast(int, outcome.key)
            if outcome.error is None:
                parts.append(follow(outcome, dataset.ground_truth(index), coarse[index], plan))
            progress(1 / (len(looks) + 1))
        if parts:
            joined = Followed(*map(np.concatenate, zip(*parts)))
            rows[name] = _shares(joined, len(parts))
    return rows


def follow(outcome: Outcome, truth: GroundTruth, coarse: Detections, plan: Plan) -> Followed:
    """Follow the objects of one photograph through a cascade of two scales.

    Args:
        outcome: of the cascade, with its stages.
        truth: boxes, image frame.
        coarse: what the detector finds on the whole level of scale 1, of any size.
        plan: of the run.
    """
    (first, second), (coarser, finer) = outcome.stages, plan.scales
    factors = [pyramid.factor(*outcome.size, scale) for scale in plan.scales]
    sizes = np.sqrt(box_ops.area(truth.boxes))
    counts = finer.valid.holds(sizes) & ~truth.ignore
    boxes, labels, sizes = truth.boxes[counts], truth.labels[counts], sizes[counts]
    level = pyramid.axis_factors(first.chips[0], pyramid.level_size(*outcome.size, coarser))
    seen = np.where(best_scores(boxes, labels, coarse) >= KNOWN, 0, np.where(
        suspicions(boxes, coarse, factors[0]) > 0, 1, 2))  # fmt: skip
    spent = [math.prod(pyramid.chip_size(chip, factors[1])) for chip in second.chips]
    touched = box_ops.intersection(second.chips, truth.boxes[counts | truth.ignore]) > 0
    return Followed(
        sizes, seen, highest(first.focus[0], boxes, level, STRIDE) >= coarser.chips.threshold,
        shown_whole(second.chips, boxes), best_scores(boxes, labels, second.kept) >= KNOWN,
        best_scores(boxes, labels, outcome.detections) >= KNOWN, np.array(spent, float), ~touched.any(axis=1),
    )  # fmt: skip


def _shares(all_of: Followed, photographs: int) -> dict[str, Any]:
    """The shares of each group of objects, in %, and the cost of false places."""
    groups = [_group(of, all_of, inside) for of, inside in _groups(all_of) if inside.any()]
    wasted = all_of.spent[all_of.false].sum() / all_of.spent.sum() if len(all_of.spent) else 0.0
    return {"groups": groups, "false_chips": float(all_of.false.sum()) / photographs, "false_px": 100 * float(wasted)}


def _groups(followed: Followed) -> Iterator[tuple[str, np.ndarray]]:
    yield "all", np.ones(len(followed.sizes), bool)
    yield from by_octave(followed.sizes)
    for number, name in enumerate(SEEN):
        yield name, followed.seen == number


def _group(name: str, followed: Followed, inside: np.ndarray) -> dict[str, Any]:
    shares = {key: getattr(followed, key)[inside].mean() for key in ("map", "chips", "found")}
    shown = inside & followed.chips
    shares["in_chips"] = followed.inside[shown].mean() if shown.any() else None
    return {"of": name, "objects": int(inside.sum())} | {
        key: None if share is None else 100 * float(share) for key, share in shares.items()
    }


def table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table of what `recall` returned."""
    result = Table(title="what limits the search, %", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, heading in enumerate(("", "objects of scale 2", "", "map", "chips", "in chips", "found", "false chips",
                                      "of px")):  # fmt: skip
        result.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    for name, row in rows.items():
        for number, group in enumerate(row["groups"]):
            shares = ["-" if group[key] is None else f"{group[key]:.0f}" for key in SHARES]
            cost = () if number else (f"{row['false_chips']:.1f}", f"{row['false_px']:.0f}")
            result.add_row("" if number else name, group["of"], str(group["objects"]), *shares, *cost)
    return result
