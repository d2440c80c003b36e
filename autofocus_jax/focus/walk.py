"""One image's way through the scales, as host functions: which chips it needs next, what came back, what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.focus import buckets, pyramid, stacking
from autofocus_jax.focus.chips import ChipFunction, whole_pixels
from autofocus_jax.structures import STAGES, STRIDE, CascadeInfo, Detections, DetectorOutput, Placement, Scale


class Chip(NamedTuple):
    """One chip that is to be processed."""

    place: Placement
    size: tuple[int, int]  # (height, width), chip px
    factor: float  # level px per image px of its image at this scale
    row: int  # its position among the chips of its image and scale
    bucket: int  # position of its bucket


class Found(NamedTuple):
    """What the detector answered for one chip."""

    detections: Detections  # above the score threshold, one row per (box, class), image frame, cut at the chip
    focus: np.ndarray | None  # focus map cut at the chip's true size


@dataclasses.dataclass(slots=True, eq=False)
class Walk:
    """An image on its way; `found[s]` holds what came back of scale s + 1, by chip, None while it is awaited."""

    index: int
    size: tuple[int, int]  # (height, width), image px
    image: np.ndarray | None  # let go when no crop of it is needed any more
    info: CascadeInfo
    regions: list[np.ndarray]  # by scale: boxes [c, 4] int32, image frame, disjoint and in whole px
    found: list[list[Found | None]]
    awaited: int = 0


def no_cost(scales: int) -> CascadeInfo:
    """The CascadeInfo of no image at all, for a cascade over that many scales."""
    return CascadeInfo(0, *(np.zeros(scales, np.int64) for _ in range(4)), 0, np.zeros(len(STAGES)))


def add_info(a: CascadeInfo, b: CascadeInfo) -> CascadeInfo:
    """What two runs of a cascade over the same scales cost together."""
    return CascadeInfo(*(x + y for x, y in zip(a, b)))


def spend(info: CascadeInfo, stage: str, seconds: float) -> None:
    """Adds seconds of a stage (one of STAGES) to info."""
    info.seconds[STAGES.index(stage)] += seconds


def start(index: int, image: np.ndarray, scales: Sequence[Scale]) -> Walk:
    """The walk of an image (uint8 RGB [h, w, 3]) before its first scale, the whole of it being the first region."""
    height, width = image.shape[:2]
    info = no_cost(len(scales))._replace(images=1)
    for index_of_scale, scale in enumerate(scales):
        info.full_pixels[index_of_scale] = np.prod(pyramid.level_size(height, width, scale))
    return Walk(index, (height, width), image, info, [np.array([[0, 0, width, height]], np.int32)], [])


def place(walk: Walk, scales: Sequence[Scale], shapes: np.ndarray, shrink: float) -> list[Chip]:
    """The chips of the walk's newest regions; counts their cost and waits for as many answers.

    shapes [k, 2]: those of the buckets (buckets.shapes). shrink: share of their sides, at most, that chips may lose to
    fit a smaller bucket (buckets.fit). Raises BucketError for a chip that no bucket holds.
    """
    scale = len(walk.regions)
    factor = pyramid.factor(*walk.size, scales[scale - 1])
    boxes = walk.regions[-1].astype(np.float32)
    chosen, sizes = buckets.fit(np.array([pyramid.chip_size(box, factor) for box in boxes]), shapes, shrink)
    chips = []
    for row, (box, bucket, size) in enumerate(zip(boxes, chosen.tolist(), map(tuple, sizes.tolist()))):
        placement = Placement(walk.index, scale, box, pyramid.axis_factors(box, size))
        chips.append(Chip(placement, size, factor, row, bucket))
    walk.found.append([None] * len(chips))
    walk.awaited = len(chips)
    walk.info.chips[scale - 1] = len(chips)
    walk.info.pixels[scale - 1] = sum(chip.size[0] * chip.size[1] for chip in chips)
    return chips


def receive(walk: Walk, chip: Chip, found: Found) -> None:
    """Takes the detector's answer for one chip."""
    walk.found[-1][chip.row] = found
    walk.awaited -= 1


def zoom(walk: Walk, chips: Sequence[Chip], function: ChipFunction) -> np.ndarray:
    """What the next scale sees: boxes [n, 4] int32 in the image frame, disjoint and in whole px.

    chips: those of the walk's newest scale, all answered. They are mapped with whole numbers (chip px * box side /
    chip side), so a chip of the whole level is exactly its parent's box and one inside it never leaves it.
    """
    regions: list[np.ndarray] = [np.zeros((0, 4), np.int32)]
    for (parent, (height, width), *_), found in zip(chips, walk.found[-1], strict=True):
        boxes = function(found.focus, (height, width)).astype(np.float64)
        if not len(boxes):
            continue
        origin = np.tile(parent.box[:2].astype(np.float64), 2)
        sides = np.tile(parent.box[2:].astype(np.float64), 2) - origin
        boxes = boxes * sides / np.array([width, height, width, height]) + origin
        regions.append(whole_pixels(boxes))
    return np.concatenate(regions)


def read_output(
    chips: Sequence[Chip], output: DetectorOutput, score_threshold: float, want_focus: Sequence[bool]
) -> list[Found]:
    """A batch's output, chip by chip: what is worth keeping, in the image frame and cut at its chip.

    Waits for the device. want_focus: for each chip, whether its focus map is needed; maps are copies, so that the
    batch's memory is let go.
    """
    count = len(chips)
    scores = np.asarray(output.scores)[:count]
    keep = (scores > score_threshold) & np.asarray(output.valid)[:count, :, None]
    row, proposal, label = np.nonzero(keep)
    boxes = np.asarray(output.boxes)[row, proposal].astype(np.float32, copy=False)
    shown = np.stack([chip.place.box for chip in chips])[row]
    factor = np.stack([chip.place.factor for chip in chips])[row]
    boxes = stacking.project(boxes, Placement(0, 0, shown, factor))
    boxes = np.clip(boxes, np.tile(shown[:, :2], 2), np.tile(shown[:, 2:], 2))
    scores, label = scores[row, proposal, label], label.astype(np.int32)
    bounds = np.searchsorted(row, np.arange(count + 1))
    maps = np.asarray(output.focus) if any(want_focus) else None
    found = []
    for position, (chip, begin, end) in enumerate(zip(chips, bounds, bounds[1:])):
        height, width = chip.size
        cells = -(-height // STRIDE), -(-width // STRIDE)
        focus = maps[position, : cells[0], : cells[1]].copy() if want_focus[position] else None
        found.append(Found(Detections(boxes[begin:end], scores[begin:end], label[begin:end]), focus))
    return found


def scale_detections(walk: Walk) -> list[stacking.ScaleDetections]:
    """All detections of a finished walk, one entry per scale, ordered by chip; scales it never reached are empty."""
    parts = []
    for index in range(len(walk.info.chips)):
        answers = walk.found[index] if index < len(walk.found) else []
        regions = walk.regions[index] if index < len(walk.regions) else np.zeros((0, 4), np.int32)
        none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
        fields = zip(none, *(answer.detections for answer in answers))
        counts = [len(answer.detections.scores) for answer in answers]
        chip = np.repeat(np.arange(len(answers)), counts)
        detections = Detections(*(np.concatenate(field) for field in fields))
        parts.append(stacking.ScaleDetections(detections, chip, regions.astype(np.float32)))
    return parts
