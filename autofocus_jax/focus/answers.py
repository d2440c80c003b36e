"""What a detector answers for a batch, checked and taken apart chip by chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autofocus_jax.focus import stacking
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.walk import Chip, Found
from autofocus_jax.structures import STRIDE, Detections, DetectorError, DetectorOutput, Placement


def read_output(chips: Sequence[Chip], output: DetectorOutput, plan: Plan) -> list[Found]:
    """Return what is worth keeping of a batch's answer, chip by chip, in the image frame and cut at its chip.

    Waits for the device. Focus maps are copies, so that the memory of the batch is let go. They are not read at the
    last scale.

    Args:
        chips: those of the batch, in the order of its rows, all of one bucket.
        output: what the detector answered. `focus` may be None where the rule of every chip is `whole_level`.
        plan: its score threshold and its rules decide what is kept.

    Raises:
        DetectorError: the answer is no DetectorOutput for the batch, or holds a box that is not finite.
    """
    count, bucket = len(chips), chips[0].bucket
    boxes, scores, valid = _candidates(output, bucket.batch)
    scores = scores[:count]
    row, proposal, label = np.nonzero((scores > plan.stacking.score_threshold) & valid[:count, :, None])
    boxes = boxes[row, proposal].astype(np.float32, copy=False)
    if not np.isfinite(boxes).all():
        place = chips[row[np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0]]].place
        raise DetectorError(f"the detector answered a box that is not finite (image {place.key!r}, scale {place.scale})"
                            "; mark such rows as not valid")  # fmt: skip
    shown = np.stack([chip.place.box for chip in chips])[row]
    factor = np.stack([chip.place.factor for chip in chips])[row]
    boxes = stacking.project(boxes, Placement(None, 0, shown, factor))
    boxes = np.clip(boxes, np.tile(shown[:, :2], 2), np.tile(shown[:, 2:], 2))
    scores, label = scores[row, proposal, label], label.astype(np.int32)
    bounds = np.searchsorted(row, np.arange(count + 1))
    maps = _maps(output.focus, chips, plan)
    return [
        Found(Detections(boxes[begin:end], scores[begin:end], label[begin:end]), focus)
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
        for chip in chips:
            scale = chip.place.scale
            if scale < last and plan.functions[scale - 1] is not whole_level:
                raise DetectorError(f"the detector answered no focus map, which the rule of scale {scale} needs; "
                                    "answer one, or use Plan.pyramid()")  # fmt: skip
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
