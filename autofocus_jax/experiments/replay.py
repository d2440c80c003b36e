"""The cascade played again from what was kept of the whole levels, without running the detector.

It is an approximation. A chip's own answer would differ a little from its part of the whole level's: the network sees
zeros where the chip ends, the cells of a chip lie elsewhere than those of the level, its proposals compete only with
each other, and an object that the chip cuts gives a part that the border rules remove. Chips, costs, border rules,
valid ranges and merging are the cascade's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import Config
from autofocus_jax.experiments.levels import Levels
from autofocus_jax.focus.cascade import Detect, add_info, cascade, no_cost
from autofocus_jax.focus.chips import ChipFunction
from autofocus_jax.focus.pyramid import level_size
from autofocus_jax.structures import STRIDE, CascadeInfo, ChipBatch, Detections, DetectorOutput, Placement, Scale


def replay_detect(levels: Sequence[Levels], scales: Sequence[Scale], num_classes: int) -> Detect:
    """A `detect` that answers for a chip with the whole level's detections that lie in it, and its part of the map.

    levels: of the images of the window, in their order. Of detections that reach over the chip it knows nothing, as
    the border rules would remove what the chip leaves of them. A cell of the chip has the probability of the level's
    cell that its centre lies in.
    """

    def detect(chips: ChipBatch, placements: Sequence[Placement]) -> DetectorOutput:
        batch, height, width = chips.pixels.shape[:3]
        parts = [_inside(levels[place.image].found[place.scale - 1], place.box) for place in placements]
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
            if place.scale < len(scales):
                cells = _part_of_map(levels[place.image], scales[place.scale - 1], place, chips.size[row])
                focus[row, : cells.shape[0], : cells.shape[1]] = cells
        return DetectorOutput(boxes, scores, valid, focus)

    return detect


def replay(
    levels: Sequence[Levels], config: Config, functions: Sequence[ChipFunction]
) -> tuple[list[Detections], CascadeInfo]:
    """What the cascade would find and cost, for images of which the levels were kept; functions as in `cascade`."""
    found: list[Detections] = []
    info = no_cost(len(config.scales))
    blank: dict[tuple[int, int], np.ndarray] = {}
    for start in range(0, len(levels), config.window):
        part = levels[start : start + config.window]
        images = [blank.setdefault(item.size, np.zeros((*item.size, 3), np.uint8)) for item in part]
        detect = replay_detect(part, config.scales, config.detector.num_classes)
        settings = config.scales, detect, config.buckets, config.stacking, functions
        detections, cost, _ = cascade(images, *settings, shrink=config.shrink)
        found += detections
        info = add_info(info, cost)
    return found, info


def _inside(found: Detections, chip: np.ndarray) -> Detections:
    """Detections whose box lies in a chip [4], all in the image frame."""
    inside = (found.boxes[:, :2] >= chip[:2]).all(axis=1) & (found.boxes[:, 2:] <= chip[2:]).all(axis=1)
    return Detections(*(field[inside] for field in found))


def _part_of_map(levels: Levels, scale: Scale, place: Placement, size: np.ndarray) -> np.ndarray:
    """The whole level's map at the centres of the cells of a chip of `size` (height, width) px."""
    whole = levels.focus[place.scale - 1]
    level = level_size(*levels.size, scale)
    axes = []
    for axis in (0, 1):  # rows, columns
        centres = (np.arange(-(-int(size[axis]) // STRIDE)) + 0.5) * STRIDE / place.factor[1 - axis]
        in_level = (place.box[1 - axis] + centres) * level[axis] / levels.size[axis]
        axes.append(np.minimum((in_level / STRIDE).astype(np.intp), whole.shape[axis] - 1))
    return whole[np.ix_(*axes)]
