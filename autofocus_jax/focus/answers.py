"""Checks of a detector's answer for a batch, and its split into chips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autofocus_jax.focus import stacking
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.walk import Chip, Found
from autofocus_jax.structures import STRIDE, Detections, DetectorError, DetectorOutput, HostAnswer, Placement

_LEAST_SIDE = 0.1  # image px: what a box keeps inside its chip, or it is no box; in every format it is written as one


def read_output(chips: Sequence[Chip], output: DetectorOutput, plan: Plan) -> list[Found]:
    """Return the useful part of a batch's answer, chip by chip, in the image frame and cut at the chips.

    The function waits for the device. Focus maps are copied, so that the memory of the batch can be freed. They are not
    read at the last scale.

    Args:
        chips: chips of the batch, all of one bucket, in the order of its rows.
        output: the detector's answer. `focus` may be None if the rule of every chip is `whole_level`.
        plan: its score threshold and rules decide what is kept.

    Raises:
        DetectorError: the answer is no DetectorOutput for the batch, or holds a box that is not finite.
    """
    count, bucket = len(chips), chips[0].bucket
    boxes, scores, valid = _candidates(output, bucket.batch)
    scores = scores[:count]
    row, proposal, label = np.nonzero((scores > plan.stacking.score_threshold) & valid[:count, :, None])
    boxes = boxes[row, proposal].astype(np.float32, copy=False)
    found = Detections(boxes, scores[row, proposal, label], label.astype(np.int32))
    return _in_image(chips, found, row, _maps(output.focus, chips, plan))


def read_host_answer(chips: Sequence[Chip], answer: HostAnswer, plan: Plan) -> list[Found]:
    """Return the useful part of a host detector's answer, as `read_output` does.

    Args:
        chips: all chips of one image and scale.
        answer: the detector's answer for these chips.
        plan: its score threshold and rules decide what is kept.

    Raises:
        DetectorError: the answer is no HostAnswer for these chips.
    """
    if not isinstance(answer, HostAnswer):
        raise DetectorError(f"the detector answered a {type(answer).__name__} for {len(chips)} loose chips; return "
                            "HostAnswer(found, focus, runs, pixels), or give the plan other buckets")  # fmt: skip
    if len(answer.found) != len(chips):
        raise DetectorError(f"the detector answered for {len(answer.found)} of {len(chips)} chips; answer for each")
    parts = [_rows(found, plan.stacking.score_threshold) for found in answer.found]
    fields = (np.concatenate(field) for field in zip(*parts))
    row = np.repeat(np.arange(len(chips)), [len(part.scores) for part in parts])
    return _in_image(chips, Detections(*fields), row, _loose_maps(answer.focus, chips, plan))


def _rows(found: Detections, threshold: float) -> Detections:
    """The rows of a chip's answer above the threshold; DetectorError for arrays that do not belong together."""
    boxes, scores, labels = (np.asarray(field) for field in found)
    if boxes.shape != (len(scores), 4) or scores.ndim != 1 or labels.shape != scores.shape:
        raise DetectorError(f"boxes, scores and labels of a chip must be [n, 4], [n] and [n], got {list(boxes.shape)}, "
                            f"{list(scores.shape)} and {list(labels.shape)}")  # fmt: skip
    keep = scores > threshold
    return Detections(boxes[keep].astype(np.float32), scores[keep].astype(np.float32), labels[keep].astype(np.int32))


def _in_image(
    chips: Sequence[Chip], found: Detections, row: np.ndarray, maps: Sequence[np.ndarray | None]
) -> list[Found]:
    """Return the detections in chips as one Found a chip, in the image frame.

    `found` is in chip px, and `row` [n] is the chip of each detection, ascending.
    """
    boxes, count = found.boxes, len(chips)
    if not np.isfinite(boxes).all():
        place = chips[row[np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0]]].place
        raise DetectorError(f"the detector answered a box that is not finite (image {place.key!r}, scale {place.scale})"
                            "; mark such rows as not valid")  # fmt: skip
    shown = np.stack([chip.place.box for chip in chips])[row]
    factor = np.stack([chip.place.factor for chip in chips])[row]
    boxes = stacking.project(boxes, Placement(None, 0, shown, factor))
    boxes = np.clip(boxes, np.tile(shown[:, :2], 2), np.tile(shown[:, 2:], 2))
    (x1, y1, x2, y2), least = boxes.T, _LEAST_SIDE
    rows = np.flatnonzero((x2 - x1 >= least) & (y2 - y1 >= least))  # others lie beside the chip
    boxes, scores, labels, row = (field.take(rows, axis=0) for field in (boxes, found.scores, found.labels, row))
    bounds = np.searchsorted(row, np.arange(count + 1))
    return [
        Found(Detections(boxes[begin:end], scores[begin:end], labels[begin:end]), focus)
        for focus, begin, end in zip(maps, bounds, bounds[1:])
    ]


def _candidates(output: Any, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [B, N, 4], scores [B, N, K] and valid [B, N] bool of an answer."""
    if not isinstance(output, DetectorOutput):
        came = f"a {type(output).__name__}" + (f" of {len(output)}" if isinstance(output, tuple) else "")
        raise DetectorError(f"the detector answered {came}; return DetectorOutput(boxes, scores, valid, focus)")
    for name in ("boxes", "scores", "valid"):
        if getattr(output, name) is None:
            raise DetectorError(f"the detector answered no {name}; give DetectorOutput.{name} an array")
    valid = np.asarray(output.valid).astype(bool, copy=False)
    scores, boxes = np.asarray(output.scores), np.asarray(output.boxes)
    if scores.ndim != 3:
        raise DetectorError(f"scores must be [B, N, K], one for each class, got shape {list(scores.shape)}")
    rows = scores.shape[1]
    for name, array, wanted in (("scores", scores, (batch, rows, scores.shape[2])), ("boxes", boxes, (batch, rows, 4)),
                                ("valid", valid, (batch, rows))):  # fmt: skip
        if array.shape != wanted:
            raise DetectorError(f"{name} must have shape {list(wanted)} in a batch of {batch} with scores of "
                                f"{list(scores.shape)}, got {list(array.shape)}")  # fmt: skip
    return boxes, scores, valid


def _maps(focus: Any, chips: Sequence[Chip], plan: Plan) -> list[np.ndarray | None]:
    """A copy of the focus map of each chip, cut at its true size; None where no next scale needs it."""
    last = len(plan.scales)
    if focus is None:
        _check_needs_no_map(chips, plan)
    if focus is None or all(chip.place.scale == last for chip in chips):
        return [None] * len(chips)
    bucket, maps = chips[0].bucket, np.asarray(focus)
    wanted = bucket.batch, -(-bucket.height // STRIDE), -(-bucket.width // STRIDE)
    if maps.shape != wanted:
        raise DetectorError(f"focus must have shape {list(wanted)}, a cell for {STRIDE}x{STRIDE} px of "
                            f"{bucket.batch} chips of {bucket.height}x{bucket.width} px, "
                            f"got {list(maps.shape)}")  # fmt: skip
    cut = []
    for row, chip in enumerate(chips):
        height, width = (-(-side // STRIDE) for side in chip.size)
        cut.append(maps[row, :height, :width].copy() if chip.place.scale < last else None)
    return cut


def _loose_maps(focus: Any, chips: Sequence[Chip], plan: Plan) -> list[np.ndarray | None]:
    """The focus map of each loose chip; None where no next scale needs it."""
    if focus is None:
        _check_needs_no_map(chips, plan)
    if focus is None or chips[0].place.scale == len(plan.scales):
        return [None] * len(chips)
    maps = [np.asarray(values, np.float32) for values in focus]
    if len(maps) != len(chips):
        raise DetectorError(f"the detector answered {len(maps)} focus maps for {len(chips)} chips; answer one for each")
    for chip, values in zip(chips, maps, strict=True):
        wanted = tuple(-(-side // STRIDE) for side in chip.size)
        if values.shape != wanted:
            raise DetectorError(f"focus must have shape {list(wanted)}, a cell for {STRIDE}x{STRIDE} px of a chip of "
                                f"{chip.size[0]}x{chip.size[1]} px, got {list(values.shape)}")  # fmt: skip
    return list(maps)


def _check_needs_no_map(chips: Sequence[Chip], plan: Plan) -> None:
    if plan.area is not None or plan.looks is not None:
        return  # an area's map stands in, and looks need none
    for chip in chips:
        scale = chip.place.scale
        if scale < len(plan.scales) and plan.functions[scale - 1] is not whole_level:
            raise DetectorError(f"the detector answered no focus map, which the rule of scale {scale} needs; "
                                "answer one, or use Plan.pyramid()")  # fmt: skip
