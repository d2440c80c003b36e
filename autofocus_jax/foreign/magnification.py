"""At which magnification a detector finds which sizes, measured without boxes by running it at several.

What is found surely at one magnification counts as an object, unless others that show it large enough do not know it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import pyramid, stacking
from autofocus_jax.foreign.canvases import find_in_chips
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.proposal import ENLARGED, STEP, THRESHOLD, Proposal, of_scales
from autofocus_jax.structures import Detections, Scale, ValidRange

SURE = 0.5  # score from which a detection is taken for an object
KNOWN = 0.25  # score from which an object counts as found
SUSPECTED = 0.05  # score at another magnification that confirms an object
LEGIBLE = 32.0  # level px from which a magnification should at least suspect an object
IOU = 0.5  # of two boxes of the same object
SMALL = 64.0  # level px below which a detection is looked at again, as weak focus does
NEARLY = 0.98  # of the best, which is as good
APART = 1.15  # valid ranges reach so many times over the border between two scales
NOTICED = 0.8  # of the objects that scale 1 misses it should notice so many


class Trial(NamedTuple):
    """What a detector finds at several magnifications. S sides, G objects of all photographs together."""

    sides: tuple[int, ...]  # the longer side of each level, px, coarse to fine
    longer: float  # the longer side of the photographs, px
    sizes: np.ndarray  # [G] sqrt(box area) of each object, image px
    found: np.ndarray  # [S, G] bool: found there
    noticed: np.ndarray  # [S, G] bool: something small and weak touches it there, so that it would be looked at again


def candidate_sides(own: int, longer: float) -> tuple[int, ...]:
    """Return the sides to try, coarse to fine: each twice the one before, from `own` on, up to the photographs' own."""
    finest = max(round(longer), ENLARGED * own)
    count = 1 + math.floor(math.log2(finest / own) + 1e-6)
    return tuple(max(own, 32 * round(finest / 2**number / 32)) if number else finest for number in range(count))[::-1]


def find_at(detector: CropDetector, image: np.ndarray, side: int) -> Detections:
    """Return what a detector finds in the whole level of that longer side, image frame."""
    height, width = image.shape[:2]
    scale = Scale(side, side, ValidRange(0, math.inf), None)
    level, _, factors = pyramid.crop(image, np.array([0, 0, width, height]), pyramid.factor(height, width, scale))
    ((boxes, scores, labels),), _ = find_in_chips(detector, [level])
    return Detections(box_ops.scale(boxes, *(1 / factors)), scores, labels)


def trial(
    sides: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    detections: Sequence[Sequence[Detections]],
    threshold: float = THRESHOLD,
) -> Trial:
    """Match what was found at several magnifications.

    Args:
        sides: the longer side of each level, px, coarse to fine.
        sizes: (height, width) of each photograph, px.
        detections: of each photograph those at each side, image frame.
        threshold: score from which something small is looked at again.
    """
    parts = [_objects(at, [side / max(size) for side in sides], threshold) for size, at in zip(sizes, detections)]
    measured, found, noticed = (np.concatenate(columns, axis=-1) for columns in zip(*parts))
    return Trial(tuple(sides), float(np.median(np.asarray(sizes).max(axis=1))), measured, found, noticed)


def suggest_plan(measured: Trial, threshold: float = THRESHOLD) -> Proposal:
    """Return the plan that a trial bears, and why.

    Raises:
        ForeignError: too few objects to learn from.
    """
    sides, longer, sizes, found, noticed = measured
    if len(sizes) < 10:
        raise ForeignError(f"{len(sizes)} objects are found surely at any magnification; that is too little to go by: "
                           "give more photographs, or let the plan be proposed without")  # fmt: skip
    reach = np.logical_or.accumulate(found, axis=0).sum(axis=1)
    finest = int(np.argmax(reach >= NEARLY * reach[-1]))
    reasons = [f"the finest scale is {sides[finest]} px: with it and coarser ones {reach[finest]} of {len(sizes)} "
               f"objects are found, with all {reach[-1]}"]  # fmt: skip
    if not finest:
        reasons.append("one scale: larger ones find nothing more")
        return Proposal(of_scales([sides[0]], longer, threshold), tuple(reasons))
    shares = [_share(noticed[number] | found[number], found[finest]) for number in range(finest)]
    fitting = [number for number in range(finest) if sides[finest] / sides[number] <= 2 * STEP]
    enough = [number for number in fitting if shares[number] >= NOTICED]
    coarse = enough[0] if enough else max(fitting, key=lambda number: shares[number])
    reasons.append(f"scale 1 is {sides[coarse]} px: of what {sides[finest]} px show it finds or suspects "
                   f"{shares[coarse]:.0%}, of {NOTICED:.0%} that are wanted")  # fmt: skip
    plan = of_scales([sides[coarse], sides[finest]], longer, threshold)
    proposed = plan.scales[0].valid.low, plan.scales[1].valid.high
    border = _border(sizes, found[coarse], found[finest])
    low, high = proposed if border >= proposed[0] else (float(round(border / APART)), float(round(border * APART)))
    seen = "all sizes" if math.isinf(border) else f"sizes up to {border:.0f} px"
    reasons.append(f"valid ranges: scale 1 from {low:g} px, scale 2 up to {high:g} px of the photograph; scale 2 sees "
                   f"{seen} as well as scale 1")  # fmt: skip
    ranges = ValidRange(low, math.inf), ValidRange(0.0, high)
    scales = [dataclasses.replace(scale, valid=valid) for scale, valid in zip(plan.scales, ranges)]
    return Proposal(dataclasses.replace(plan, scales=tuple(scales)), tuple(reasons))


def _objects(
    found: Sequence[Detections], factors: Sequence[float], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The objects of one photograph: sizes [g], found [S, g], noticed [S, g]."""
    sure = [Detections(*(field[at.scores >= SURE] for field in at)) for at in found]
    merging = StackingConfig(score_threshold=0.0, max_detections=10**6, nms_iou=IOU)
    boxes, _, labels = stacking.merge(*(np.concatenate(fields) for fields in zip(*sure)), merging)
    sizes = np.sqrt(box_ops.area(boxes))
    known, suspected = (
        np.array([_matches(boxes, labels, at, score) for at in found]) for score in (KNOWN, SUSPECTED)
    )
    legible = np.array([factor * sizes >= LEGIBLE for factor in factors])
    objects = (suspected.sum(axis=0) > 1) | (legible.sum(axis=0) < 2)
    noticed = np.array([_touches(boxes, at, factor, threshold) for at, factor in zip(found, factors)])
    return sizes[objects], known[:, objects], noticed[:, objects]


def _matches(boxes: np.ndarray, labels: np.ndarray, at: Detections, score: float) -> np.ndarray:
    """[g] bool: which objects are among detections of a score from `score`."""
    there = at.scores >= score
    same = labels[:, None] == at.labels[there]
    return (same & (box_ops.iou(boxes, at.boxes[there]) >= IOU)).any(axis=1)


def _touches(boxes: np.ndarray, at: Detections, factor: float, threshold: float) -> np.ndarray:
    """[g] bool: which objects a detection touches that weak focus would look at again."""
    counts = (at.scores >= threshold) & (np.sqrt(box_ops.area(at.boxes)) * factor < SMALL)
    return (box_ops.intersection(boxes, at.boxes[counts]) > 0).any(axis=1)


def _share(part: np.ndarray, of: np.ndarray) -> float:
    return float(part[of].mean()) if of.any() else 0.0


def _border(sizes: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> float:
    """The largest size up to which the finer scale may answer alone, and lose nearly nothing; inf where for all."""
    order = np.argsort(sizes)
    below = np.concatenate([[0], np.cumsum(fine[order])])  # found by the finer one up to a border
    above = np.concatenate([np.cumsum(coarse[order][::-1])[::-1], [0]])
    last = np.flatnonzero(below + above >= NEARLY * (below + above).max())[-1]
    return math.inf if last == len(sizes) else float(sizes[order[last]])
