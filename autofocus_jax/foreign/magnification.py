"""Magnifications at which a detector finds objects of each size, measured without ground truth.

A sure detection at one magnification counts as an object, unless other magnifications that show it large enough do not
confirm it.
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
LEAST = 10  # objects to conclude anything from
IOU = 0.5  # of two boxes of the same object
SMALL = 64.0  # level px below which a detection is looked at again, as weak focus does
NEARLY = 0.98  # of the best, which is as good
APART = 1.15  # valid ranges reach so many times over the border between two scales
SEEN = 0.8  # of the objects that the finest scale finds scale 1 should find or suspect so many
NOTICED = 0.75  # of those that scale 1 misses it should suspect so many, at the score from which it is looked again
SCORES = (0.01, 0.02, 0.05, 0.1, 0.2)  # that are tried


class Trial(NamedTuple):
    """Detections at several magnifications. S sides, G objects of all photographs together."""

    sides: tuple[int, ...]  # the longer side of each level, px, coarse to fine
    longer: float  # the longer side of the photographs, px
    sizes: np.ndarray  # [G] sqrt(box area) of each object, image px
    scores: np.ndarray  # [S, G] float32: best score there of a detection of it; 0 where there is none
    suspicion: np.ndarray  # [S, G] float32: best score there of something small that touches it; 0 where nothing does

    @property
    def found(self) -> np.ndarray:
        """Return which objects were found at each side, [S, G] bool."""
        return self.scores >= KNOWN


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
) -> Trial:
    """Match what was found at several magnifications.

    Args:
        sides: the longer side of each level, px, coarse to fine.
        sizes: (height, width) of each photograph, px.
        detections: of each photograph those at each side, image frame.
    """
    parts = [_objects(at, [side / max(size) for side in sides]) for size, at in zip(sizes, detections)]
    measured, scores, suspicion = (np.concatenate(columns, axis=-1) for columns in zip(*parts))
    return Trial(tuple(sides), float(np.median(np.asarray(sizes).max(axis=1))), measured, scores, suspicion)


def suggest_plan(measured: Trial, threshold: float | None = None) -> Proposal:
    """Return the plan that a trial bears, and why.

    Args:
        measured: the trial.
        threshold: of the focus map; None chooses one for weak focus.

    Raises:
        ForeignError: too few objects to learn from.
    """
    sides, longer, sizes, scores, suspicion = measured
    found = measured.found
    if len(sizes) < LEAST:
        raise ForeignError(f"{len(sizes)} objects are found surely at any magnification; that is too little to go by: "
                           "give more photographs")  # fmt: skip
    reach = np.maximum.accumulate(scores, axis=0).mean(axis=1)
    finest = int(np.argmax(reach >= NEARLY * reach[-1]))
    reasons = [f"the finest scale is {sides[finest]} px: with it and coarser ones the objects have a score of "
               f"{reach[finest]:.2f} on average, with all {reach[-1]:.2f}"]  # fmt: skip
    if not finest:
        reasons.append("one scale: larger ones find nothing more")
        return Proposal(of_scales([sides[0]], longer), tuple(reasons))
    noticed = found | (suspicion >= THRESHOLD)
    shares = [_share(noticed[number], found[finest]) for number in range(finest)]
    fitting = [number for number in range(finest) if sides[finest] / sides[number] <= 2 * STEP]
    enough = [number for number in fitting if shares[number] >= SEEN]
    coarse = enough[0] if enough else max(fitting, key=lambda number: shares[number])
    reasons.append(f"scale 1 is {sides[coarse]} px: of what {sides[finest]} px show it finds or suspects "
                   f"{shares[coarse]:.0%}, of {SEEN:.0%} that are wanted")  # fmt: skip
    if threshold is None:
        threshold, share = _threshold(suspicion[coarse], found[finest] & ~found[coarse])
        reasons.append(f"it is looked again from a score of {threshold:g} on: so {share:.0%} of what scale 1 misses is "
                       f"looked at, of {NOTICED:.0%} that are wanted")  # fmt: skip
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


def _objects(found: Sequence[Detections], factors: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The objects of one photograph: sizes [g], scores [S, g], suspicion [S, g]."""
    sure = [Detections(*(field[at.scores >= SURE] for field in at)) for at in found]
    merging = StackingConfig(score_threshold=0.0, max_detections=10**6, nms_iou=IOU)
    boxes, _, labels = stacking.merge_all(sure, merging)
    sizes = np.sqrt(box_ops.area(boxes))
    scores = np.array([best_scores(boxes, labels, at) for at in found])
    legible = np.array([factor * sizes >= LEGIBLE for factor in factors])
    objects = ((scores >= SUSPECTED).sum(axis=0) > 1) | (legible.sum(axis=0) < 2)
    suspicion = np.array([suspicions(boxes, at, factor) for at, factor in zip(found, factors)])
    return sizes[objects], scores[:, objects], suspicion[:, objects]


def best_scores(boxes: np.ndarray, labels: np.ndarray, at: Detections) -> np.ndarray:
    """[g] float32: best score of a detection of each object; 0 where there is none."""
    same = (labels[:, None] == at.labels) & (box_ops.iou(boxes, at.boxes) >= IOU)
    return np.where(same, at.scores, 0).max(axis=1, initial=0).astype(np.float32)


def suspicions(boxes: np.ndarray, at: Detections, factor: float) -> np.ndarray:
    """[g] float32: best score of the small detections that touch each object, as weak focus sees them."""
    small = np.sqrt(box_ops.area(at.boxes)) * factor < SMALL
    touches = box_ops.intersection(boxes, at.boxes[small]) > 0
    return np.where(touches, at.scores[small], 0).max(axis=1, initial=0).astype(np.float32)


def _threshold(suspicion: np.ndarray, missed: np.ndarray) -> tuple[float, float]:
    """The highest score from which enough of the missed objects [G] are looked at again, and their share then."""
    shares = {score: _share(suspicion >= score, missed) for score in SCORES}
    enough = [score for score, share in shares.items() if share >= NOTICED]
    score = max(enough, default=SCORES[0]) if missed.sum() >= LEAST else THRESHOLD
    return score, shares[score]


def _share(part: np.ndarray, of: np.ndarray) -> float:
    return float(part[of].mean()) if of.any() else 0.0


def _border(sizes: np.ndarray, coarse: np.ndarray, fine: np.ndarray) -> float:
    """The largest size up to which the finer scale may answer alone, and lose nearly nothing; inf where for all."""
    order = np.argsort(sizes)
    below = np.concatenate([[0], np.cumsum(fine[order])])  # found by the finer one up to a border
    above = np.concatenate([np.cumsum(coarse[order][::-1])[::-1], [0]])
    last = np.flatnonzero(below + above >= NEARLY * (below + above).max())[-1]
    return math.inf if last == len(sizes) else float(sizes[order[last]])
