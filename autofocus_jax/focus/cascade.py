"""The loop over scales: detect, turn focus maps into chips, zoom into them, and stack what was found.

The detector is an argument and so is the rule that makes chips; the full image pyramid is this same loop with
`chips.whole_level`, and a single scale is the loop over that scale alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus import pyramid, stacking
from autofocus_jax.focus.chips import ChipFunction, focus_chips, whole_pixels
from autofocus_jax.structures import (
    STRIDE,
    AutoFocusError,
    Bucket,
    CascadeInfo,
    ChipBatch,
    Detections,
    DetectorOutput,
    ImageError,
    Placement,
    Scale,
)

# Chips of one bucket, never an empty batch, and where each filled row comes from (for an oracle; a real detector
# ignores it). May return device arrays that are still being computed.
Detect = Callable[[ChipBatch, Sequence[Placement]], DetectorOutput]

IN_FLIGHT = 2  # batches on the device while the host prepares the next: it never idles, and memory stays bounded


class Stage(NamedTuple):
    """What happened to one image at one scale, for pictures and for judging the focus maps (image frame)."""

    chips: np.ndarray  # [c, 4] float32, the chips processed
    focus: tuple[np.ndarray, ...]  # c focus maps, each cut at its chip's true size; empty at the last scale
    kept: Detections  # in the valid range and whole
    removed: Detections  # in the valid range, but cut by a border of its chip


class _Chip(NamedTuple):
    """One chip of a scale that is to be processed."""

    place: Placement
    size: tuple[int, int]  # (height, width), chip px
    factor: float  # level px per image px of its image at this scale


class _Found(NamedTuple):
    """Detections above the score threshold; one row per (box, class)."""

    chip: np.ndarray  # [m] int, position of the chip among the scale's
    boxes: np.ndarray  # [m, 4] float32, image frame
    scores: np.ndarray  # [m] float32
    labels: np.ndarray  # [m] int32


def cascade(
    images: Sequence[np.ndarray],
    scales: Sequence[Scale],
    detect: Detect,
    buckets: Sequence[Bucket],
    stacking_config: StackingConfig,
    chip_functions: Sequence[ChipFunction] | None = None,
) -> tuple[list[Detections], CascadeInfo, list[list[Stage]]]:
    """Runs a window of images through the scales, coarse to fine; chips of all images are pooled per bucket.

    images: uint8 RGB [h, w, 3] each. chip_functions: what turns a focus map into chips, one per scale but the last;
    by default Algorithm 1 with the rule of each scale. They see each chip's map in that chip's own frame, so chips of
    one parent are disjoint and lie inside it, and those of different parents are disjoint because the parents are.

    Returns the detections of each image (image frame), what it cost, and a Stage per image and scale. Raises
    ImageError for what is no image, BucketError for a chip that no bucket holds, AutoFocusError for chip_functions
    that do not fit the scales.
    """
    functions = _functions(scales, chip_functions)
    for position, image in enumerate(images):
        _check(image, position)
    sizes = [image.shape[:2] for image in images]
    info = no_cost(len(scales))._replace(images=len(images))
    regions = [np.array([[0, 0, width, height]], np.int32) for height, width in sizes]
    found: list[list[stacking.ScaleDetections]] = [[] for _ in images]
    focus: list[list[tuple[np.ndarray, ...]]] = [[] for _ in images]
    for index, scale in enumerate(scales):
        chips = _place(regions, index + 1, [pyramid.factor(*size, scale) for size in sizes])
        batches = bucket_ops.group(np.array([chip.size for chip in chips], np.int64), buckets)
        _add_cost(info, index, chips, [buckets[bucket] for bucket, _ in batches], sizes, scale)
        last = index + 1 == len(scales)
        rows, maps = _detect_all(images, chips, batches, buckets, detect, stacking_config.score_threshold, not last)
        first = np.cumsum([0, *map(len, regions)])  # of each image's chips; they stand image by image
        for position, part in enumerate(_split(rows, first, regions)):
            found[position].append(part)
            focus[position].append(tuple(maps[first[position] : first[position + 1]]))
        if not last:
            regions = _zoom(functions[index], chips, maps, len(images))

    results = [stacking.stack(parts, size, scales, stacking_config) for parts, size in zip(found, sizes)]
    stages = [
        [Stage(part.chips, maps, *stage) for part, maps, stage in zip(parts, image_maps, stacked)]
        for parts, image_maps, (_, stacked) in zip(found, focus, results)
    ]
    return [detections for detections, _ in results], info, stages


def no_cost(scales: int) -> CascadeInfo:
    """The CascadeInfo of no image at all, for a cascade over that many scales."""
    return CascadeInfo(0, *(np.zeros(scales, np.int64) for _ in range(4)))


def add_info(a: CascadeInfo, b: CascadeInfo) -> CascadeInfo:
    """What two runs of a cascade over the same scales cost together."""
    return CascadeInfo(*(x + y for x, y in zip(a, b)))


def _functions(scales: Sequence[Scale], given: Sequence[ChipFunction] | None) -> list[ChipFunction]:
    if not scales:
        raise AutoFocusError("the cascade got no scales; give it at least one")
    if given is not None:
        if len(given) != len(scales) - 1:
            raise AutoFocusError(
                f"{len(given)} chip functions for {len(scales)} scales; give one per scale but the last"
            )
        return list(given)
    for number, scale in enumerate(scales[:-1], 1):
        if scale.chips is None:
            raise AutoFocusError(f"scale {number} has no chip rule; give it one, or pass chip_functions")
    return [partial(focus_chips, rule=scale.chips) for scale in scales[:-1]]


def _check(image: np.ndarray, position: int) -> None:
    array = isinstance(image, np.ndarray)
    if not (array and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size):
        came = f"{image.dtype} {list(image.shape)}" if array else type(image).__name__
        raise ImageError(f"image {position} of the window is {came}; give a NumPy array of uint8 RGB [h, w, 3]")


def _place(regions: Sequence[np.ndarray], scale: int, factors: Sequence[float]) -> list[_Chip]:
    """The chips of every image's regions [c, 4] (image frame) at a scale, image by image."""
    chips = []
    for position, (boxes, factor) in enumerate(zip(regions, factors)):
        for box in boxes.astype(np.float32):
            size = pyramid.chip_size(box, factor)
            chips.append(_Chip(Placement(position, scale, box, pyramid.axis_factors(box, size)), size, factor))
    return chips


def _add_cost(
    info: CascadeInfo,
    index: int,
    chips: Sequence[_Chip],
    batches: Sequence[Bucket],
    image_sizes: Sequence[tuple[int, int]],
    scale: Scale,
) -> None:
    """Writes what one scale costs into row `index` of info's arrays."""
    info.chips[index] = len(chips)
    info.pixels[index] = sum(chip.size[0] * chip.size[1] for chip in chips)
    info.padded_pixels[index] = sum(bucket.batch * bucket.height * bucket.width for bucket in batches)
    levels = [pyramid.level_size(*size, scale) for size in image_sizes]
    info.full_pixels[index] = sum(height * width for height, width in levels)


def _detect_all(
    images: Sequence[np.ndarray],
    chips: Sequence[_Chip],
    batches: Sequence[tuple[int, np.ndarray]],
    buckets: Sequence[Bucket],
    detect: Detect,
    score_threshold: float,
    want_focus: bool,
) -> tuple[_Found, list[np.ndarray]]:
    """Runs the detector on all chips of one scale, batch by batch (bucket index, rows of `chips`).

    Returns the detections of all chips and, when wanted, each chip's focus map cut at its true size. Crops and pads the
    next batch while the device works on the last ones, and fetches a result only when more than IN_FLIGHT wait.
    """
    found = [_Found(np.zeros(0, np.intp), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))]
    maps: dict[int, np.ndarray] = {}

    def fetch(rows: np.ndarray, output: DetectorOutput) -> None:
        found.append(_above_threshold(rows, [chips[row].place for row in rows], output, score_threshold))
        if want_focus:
            maps.update(zip(rows.tolist(), _cut([chips[row].size for row in rows], np.asarray(output.focus))))

    waiting: deque[tuple[np.ndarray, DetectorOutput]] = deque()
    for bucket, rows in batches:
        chosen = [chips[row] for row in rows]
        pixels = [pyramid.crop(images[chip.place.image], chip.place.box, chip.factor)[0] for chip in chosen]
        waiting.append((rows, detect(bucket_ops.pad(pixels, buckets[bucket]), [chip.place for chip in chosen])))
        if len(waiting) > IN_FLIGHT:
            fetch(*waiting.popleft())
    while waiting:
        fetch(*waiting.popleft())
    return _Found(*(np.concatenate(parts) for parts in zip(*found))), [maps[row] for row in sorted(maps)]


def _above_threshold(
    rows: np.ndarray, placements: Sequence[Placement], output: DetectorOutput, score_threshold: float
) -> _Found:
    """The rows of a batch's output that are worth keeping, in the image frame and cut at their chip."""
    count = len(rows)
    scores = np.asarray(output.scores)[:count]
    keep = (scores > score_threshold) & np.asarray(output.valid)[:count, :, None]
    batch_row, proposal, label = np.nonzero(keep)
    boxes = np.asarray(output.boxes)[batch_row, proposal].astype(np.float32, copy=False)
    chip = np.stack([place.box for place in placements])[batch_row]
    factor = np.stack([place.factor for place in placements])[batch_row]
    boxes = stacking.project(boxes, Placement(0, 0, chip, factor))
    boxes = np.clip(boxes, np.tile(chip[:, :2], 2), np.tile(chip[:, 2:], 2))
    return _Found(rows[batch_row], boxes, scores[batch_row, proposal, label], label.astype(np.int32))


def _cut(chip_sizes: Sequence[tuple[int, int]], focus: np.ndarray) -> Iterator[np.ndarray]:
    """Focus maps without what lies outside the chips' true sizes; copies, so that the batch's memory is let go."""
    for (height, width), cells in zip(chip_sizes, focus):
        yield cells[: -(-height // STRIDE), : -(-width // STRIDE)].copy()


def _split(found: _Found, first: np.ndarray, regions: Sequence[np.ndarray]) -> list[stacking.ScaleDetections]:
    """Detections of a scale, image by image, ordered by chip; first [images + 1]: first chip of each image."""
    order = np.argsort(found.chip, kind="stable")
    chip, *fields = (field[order] for field in found)
    bounds = np.searchsorted(chip, first)
    return [
        stacking.ScaleDetections(
            Detections(*(field[start:stop] for field in fields)), chip[start:stop] - offset, boxes.astype(np.float32)
        )
        for boxes, offset, start, stop in zip(regions, first, bounds, bounds[1:])
    ]


def _zoom(function: ChipFunction, chips: Sequence[_Chip], maps: Sequence[np.ndarray], images: int) -> list[np.ndarray]:
    """What the next scale sees of each image: boxes [n, 4] int32 in the image frame, disjoint and in whole px.

    Chips are mapped with whole numbers (chip px * box side / chip side), so a chip of the whole level is exactly its
    parent's box and one inside it never leaves it.
    """
    regions: list[list[np.ndarray]] = [[np.zeros((0, 4), np.int32)] for _ in range(images)]
    for (place, (height, width), _), focus in zip(chips, maps, strict=True):
        boxes = function(focus, (height, width)).astype(np.float64)
        origin = np.tile(place.box[:2].astype(np.float64), 2)
        sides = np.tile(place.box[2:].astype(np.float64), 2) - origin
        boxes = boxes * sides / np.array([width, height, width, height]) + origin
        regions[place.image].append(whole_pixels(boxes))
    return [np.concatenate(boxes) for boxes in regions]
