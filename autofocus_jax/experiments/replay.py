"""The cascade replayed from kept answers on whole levels, without running the detector.

A replay is an approximation. A chip's own answer would differ a little from its part of the whole level's answer:

- The network sees zeros where the chip ends. The cells of a chip lie elsewhere than those of the level.
- A chip's proposals compete only with each other.
- An object that the chip cuts gives a part that the border rules remove.

Chips, costs, border rules, valid ranges and merging are the cascade's own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config
from autofocus_jax.experiments.levels import Levels, level_sizes
from autofocus_jax.focus.buckets import Loose, Multiple
from autofocus_jax.focus.cascade import Detect, stream
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import STRIDE, ChipBatch, Cost, Detections, DetectorOutput, Placement, sum_costs


def replay_detect(levels: Any, plan: Plan, num_classes: int) -> Detect:
    """Return a `detect` that answers for a chip with the whole level's detections in it and its part of the map.

    Detections that reach over the chip are left out, because the border rules would remove their parts. A cell of the
    chip has the probability of the level's cell that holds its centre.
    """
    sizes = functools.cache(lambda size: level_sizes(size, plan))

    def detect(chips: ChipBatch, placements: Sequence[Placement]) -> DetectorOutput:
        batch, height, width = chips.pixels.shape[:3]
        parts = [_inside(levels[place.key].found[place.scale - 1], place.box) for place in placements]
        most = max(1, *(len(part.scores) for part in parts))
        boxes = np.zeros((batch, most, 4), np.float32)
        scores = np.zeros((batch, most, num_classes), np.float32)
        valid = np.zeros((batch, most), bool)
        focus = np.zeros((batch, height // STRIDE, width // STRIDE), np.float32)
        for row, (place, part) in enumerate(zip(placements, parts)):
            count = len(part.scores)
            boxes[row, :count] = box_ops.scale(box_ops.shift(part.boxes, -place.box[0], -place.box[1]), *place.factor)
            scores[row, np.arange(count), part.labels] = part.scores
            valid[row, :count] = True
            if place.scale < len(plan.scales):
                known = levels[place.key]
                cells = _part_of_map(known, sizes(known.size), place, np.asarray(chips.size[row]))
                focus[row, : cells.shape[0], : cells.shape[1]] = cells
        return DetectorOutput(boxes, scores, valid, focus)

    return detect


def replay(levels: Sequence[Levels], config: Config, plan: Plan) -> tuple[list[Detections], Cost]:
    """Return what the cascade would find and cost, for images of which the levels were kept."""
    if isinstance(plan.buckets, Loose):  # the kept answers come in batches, whatever detector gave them
        plan = dataclasses.replace(plan, buckets=Multiple())
    detect = replay_detect(levels, plan, config.detector.num_classes)
    readers = ((number, partial(_blank, item.size)) for number, item in enumerate(levels))
    outcomes = list(stream(readers, detect, plan))
    cost = sum_costs([Cost.none(len(plan.scales)), *(outcome.cost for outcome in outcomes)])
    return [outcome.detections for outcome in outcomes], cost


@functools.lru_cache(maxsize=8)
def _blank(size: tuple[int, int]) -> np.ndarray:
    """A black image of `size` (height, width); replayed detectors look at no pixel."""
    return np.zeros((*size, 3), np.uint8)


def _inside(found: Detections, chip: np.ndarray) -> Detections:
    """Detections whose box lies in a chip [4], all in the image frame."""
    inside = (found.boxes[:, :2] >= chip[:2]).all(axis=1) & (found.boxes[:, 2:] <= chip[2:]).all(axis=1)
    return Detections(*(field[inside] for field in found))


def _part_of_map(levels: Levels, sizes: Sequence[tuple[int, int]], place: Placement, size: np.ndarray) -> np.ndarray:
    """The whole level's map at the centres of the cells of a chip of `size` (height, width) px."""
    whole = levels.focus[place.scale - 1]
    level = sizes[place.scale - 1]
    axes = []
    for axis in (0, 1):  # rows, columns
        centres = (np.arange(-(-int(size[axis]) // STRIDE)) + 0.5) * STRIDE / place.factor[1 - axis]
        in_level = (place.box[1 - axis] + centres) * level[axis] / levels.size[axis]
        axes.append(np.minimum((in_level / STRIDE).astype(np.intp), whole.shape[axis] - 1))
    return whole[np.ix_(*axes)]
