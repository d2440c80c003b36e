"""One image's way through the scales, as host functions: its next chips, its answers, its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, cast

import numpy as np

from autofocus_jax.focus import area as area_ops
from autofocus_jax.focus import pyramid, stacking
from autofocus_jax.focus.chips import ChipFunction, checked, whole_pixels
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import STAGES, STRIDE, Bucket, Cost, Detections, ImageError, Placement


class Chip(NamedTuple):
    """One chip to be processed."""

    place: Placement
    size: tuple[int, int]  # (height, width), chip px
    factor: float  # level px per image px of its image at this scale
    row: int  # its position among the chips of its image and scale
    bucket: Bucket


class Found(NamedTuple):
    """The detector's answer for one chip."""

    detections: Detections  # above the score threshold, one row per (box, class), image frame, cut at the chip
    focus: np.ndarray | None  # focus map cut at the chip's true size


@dataclasses.dataclass(slots=True, eq=False)
class Walk:
    """An image in progress and all that is known of it.

    Lists have an entry for each scale that the image has reached.
    """

    key: Hashable  # the caller's own
    number: int  # how many images arrived before it
    size: tuple[int, int]  # (height, width), image px
    image: np.ndarray | pyramid.Regions | None  # None once no crop of it is needed any more
    heat: np.ndarray | None  # [H, W] in 0..1, of Plan.area; None without one
    seconds: dict[str, float]  # spent so far, by entry of STAGES
    padded: list[int]  # px the device processed, for each scale of the plan
    runs: list[int]  # inputs the detector ran on, for each scale of the plan
    regions: list[np.ndarray] = dataclasses.field(default_factory=list)  # boxes [c, 4] int32, image frame, disjoint
    chips: list[list[Chip]] = dataclasses.field(default_factory=list)
    found: list[list[Found | None]] = dataclasses.field(default_factory=list)  # by chip, None while it is awaited
    awaited: int = 0  # answers that are missing
    damage: ImageError | None = None  # why a part of the image cannot be read
    outcome: Future | Any = None  # its Outcome or what becomes it, once it is through


def start(
    key: Hashable,
    number: int,
    image: np.ndarray | pyramid.Regions,
    plan: Plan,
    read: float = 0.0,
    heat: np.ndarray | None = None,
) -> Walk:
    """Return the walk of an image at its first scale, whose only region is the whole image.

    If the plan has looks, the walk is at its last scale and waits for the chips of all scales.

    Args:
        key: the caller's name of the image.
        number: number of images that arrived before.
        image: uint8 RGB [h, w, 3], or Regions.
        plan: scales, buckets and rules.
        read: seconds that reading took.
        heat: the map [H, W] of `plan.area` for the image; None without one.

    Raises:
        ImageError: the image is no array of uint8 RGB.
        BucketError: the whole image, at that scale, is larger than every bucket.
    """
    check_image(image, key)
    size = (image.shape[0], image.shape[1])
    seconds = dict.fromkeys(STAGES, 0.0) | {"read": read}
    moving = Walk(key, number, size, image, heat, seconds, [0] * len(plan.scales), [0] * len(plan.scales))
    for regions in [whole_image(size)] if plan.looks is None else plan.looks:
        enter(moving, regions, plan)
    return moving


def check_image(image: np.ndarray | pyramid.Regions, key: Hashable) -> None:
    """Raise ImageError unless the image is an array of uint8 RGB [h, w, 3] with at least one pixel, or Regions."""
    if not isinstance(image, np.ndarray):
        if hasattr(image, "read") and len(getattr(image, "shape", ())) == 3:
            return
        raise ImageError(f"image {key!r} is {type(image).__name__}; give a NumPy array of uint8 RGB [h, w, 3]")
    if not (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size):
        came = f"{image.dtype} {list(image.shape)}"
        raise ImageError(f"image {key!r} is {came}; give a NumPy array of uint8 RGB [h, w, 3]")


def whole_image(size: tuple[int, int]) -> np.ndarray:
    """Return the region [1, 4] int32 (image frame) that is the whole image of `size` (height, width)."""
    return np.array([[0, 0, size[1], size[0]]], np.int32)


def enter(walk: Walk, regions: np.ndarray, plan: Plan) -> None:
    """Take a walk to its next scale, where it has a chip for each region.

    Args:
        walk: changed in place; it then waits for as many answers more.
        regions: boxes [c, 4] int32, image frame.
        plan: says which scale is next.

    Raises:
        BucketError: a chip is larger than every bucket.
    """
    walk.regions.append(regions)
    chips = place(walk.key, walk.size, len(walk.regions), regions, plan)
    walk.chips.append(chips)
    walk.found.append([None] * len(chips))
    walk.awaited += len(chips)


def place(key: Hashable, size: tuple[int, int], scale: int, regions: np.ndarray, plan: Plan) -> list[Chip]:
    """Return the chips that show regions [c, 4] (image frame, whole px) of an image at a scale, numbered from 1.

    Args:
        key: the caller's name of the image.
        size: (height, width) of the image, px.
        scale: number of the scale.
        regions: boxes [c, 4], image frame.
        plan: its buckets and `shrink` decide the sizes of the chips.
    """
    factor = pyramid.factor(*size, plan.scales[scale - 1])
    boxes = regions.astype(np.float32)
    buckets, sizes = plan.fit(np.array([pyramid.chip_size(box, factor) for box in boxes]).reshape(-1, 2))
    return [
        Chip(Placement(key, scale, box, pyramid.axis_factors(box, fitted)), fitted, factor, row, bucket)
        for row, (box, bucket, fitted) in enumerate(zip(boxes, buckets, map(tuple, sizes.tolist())))
    ]


def spend(walk: Walk, chip: Chip, runs: int, pixels: int) -> None:
    """Count inputs that the detector ran on at the scale of a chip, and their pixels."""
    walk.runs[chip.place.scale - 1] += runs
    walk.padded[chip.place.scale - 1] += pixels


def receive(walk: Walk, chip: Chip, found: Found) -> None:
    """Store the detector's answer for one chip in its walk."""
    walk.found[chip.place.scale - 1][chip.row] = found
    walk.awaited -= 1


def next_regions(walk: Walk, plan: Plan) -> np.ndarray:
    """Return the regions of the next scale, boxes [n, 4] int32 in the image frame; [0, 4] after the last scale.

    All chips of the walk's newest scale must be answered.
    """
    scale = len(walk.regions)
    if scale == len(plan.scales):
        return np.zeros((0, 4), np.int32)
    answers = [found for found in walk.found[-1] if found is not None]
    rule = plan.functions[scale - 1]
    if plan.area is None or walk.heat is None:
        return zoom(walk.chips[-1], [found.focus for found in answers], rule)
    maps = [
        area_ops.joined(plan.area, found.focus, area_ops.cells(walk.heat, walk.size, chip.place, chip.size))
        for chip, found in zip(walk.chips[-1], answers, strict=True)
    ]
    walk.found[-1] = [found._replace(focus=focus) for found, focus in zip(answers, maps, strict=True)]
    regions = zoom(walk.chips[-1], maps, rule)
    if not plan.area.limits:
        return regions
    settings = plan.scales[scale - 1].chips
    least = settings.min_size / walk.chips[-1][0].factor if settings is not None else 0.0
    margin = STRIDE / 2 / pyramid.factor(*walk.size, plan.scales[scale])
    return area_ops.cut(regions, walk.heat, walk.size, margin, least)


def zoom(chips: Sequence[Chip], maps: Sequence[np.ndarray | None], rule: ChipFunction) -> np.ndarray:
    """Return the regions of the next scale: boxes [n, 4] int32 in the image frame, disjoint and in whole px.

    Chips are mapped with whole numbers (chip px * box side / chip side). So a chip of the whole level is exactly its
    parent's box, and a chip inside the parent never leaves it.

    Args:
        chips: chips of one image and scale.
        maps: the focus map of each, cut at its true size; None for a rule that ignores the map.
        rule: turns a focus map into chips.

    Raises:
        RuleError: the rule returns boxes that are no valid chips.
    """
    regions: list[np.ndarray] = [np.zeros((0, 4), np.int32)]
    for (parent, (height, width), *_), focus in zip(chips, maps, strict=True):
        boxes = checked(rule(cast(np.ndarray, focus), (height, width)), (height, width))
        if not len(boxes):
            continue
        origin = np.tile(parent.box[:2].astype(np.float64), 2)
        sides = np.tile(parent.box[2:].astype(np.float64), 2) - origin
        boxes = boxes * sides / np.array([width, height, width, height]) + origin
        regions.append(whole_pixels(boxes))
    return np.concatenate(regions)


def cost(walk: Walk, plan: Plan) -> Cost:
    """Return the cost of a walk so far."""
    levels = [np.prod(pyramid.level_size(*walk.size, scale)) for scale in plan.scales]
    missing = [0] * (len(plan.scales) - len(walk.chips))
    pixels = [sum(chip.size[0] * chip.size[1] for chip in chips) for chips in walk.chips]
    counts = [len(chips) for chips in walk.chips]
    per_scale = pixels + missing, levels, counts + missing, walk.padded, walk.runs
    seconds = np.array([walk.seconds[stage] for stage in STAGES])
    return Cost.of(1, per_scale, seconds)


def scale_detections(walk: Walk, plan: Plan) -> list[stacking.ScaleDetections]:
    """Return all detections of a finished walk, one entry per scale, ordered by chip; empty for scales not reached.

    An area that limits has left out those whose centre lies outside.
    """
    parts = []
    for index in range(len(plan.scales)):
        answers = [found for found in walk.found[index] if found is not None] if index < len(walk.found) else []
        regions = walk.regions[index] if index < len(walk.regions) else np.zeros((0, 4), np.int32)
        fields = zip(Detections.none(), *(answer.detections for answer in answers))
        counts = [len(answer.detections.scores) for answer in answers]
        chip = np.repeat(np.arange(len(answers)), counts)
        detections = Detections(*(np.concatenate(field) for field in fields))
        if plan.area is not None and plan.area.limits and walk.heat is not None:
            keep = area_ops.inside(walk.heat, walk.size, detections)
            chip, detections = chip[keep], Detections(*(field[keep] for field in detections))
        parts.append(stacking.ScaleDetections(detections, chip, regions.astype(np.float32)))
    return parts
