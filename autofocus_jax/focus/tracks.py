"""Objects of a video from frame to frame: where they should be now, and which detections they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from autofocus_jax import boxes as box_ops
from autofocus_jax.structures import Detections

SPREAD = 0.25  # sides of an object that it may move in a frame, while its velocity is unknown
DOUBT = 0.25  # parts of a velocity that was seen once which it may be wrong by
STEADY = 0.02  # and at least, when it is known
OVERLAP = 0.1  # least IoU of an object and a detection, both grown by what it may have moved
PATIENCE = 3  # frames after which an object that was not found again is given up


class Tracks(NamedTuple):
    """Objects, a row each, as they were last seen."""

    boxes: np.ndarray  # [n, 4] float32, image frame
    scores: np.ndarray  # [n] float32
    labels: np.ndarray  # [n] int32
    velocities: np.ndarray  # [n, 2] float32, px a frame along (x, y); NaN while it was seen once
    spread: np.ndarray  # [n] float32, px a frame by which its place is uncertain
    seen: np.ndarray  # [n] int64, number of the frame

    @classmethod
    def none(cls) -> Tracks:
        """Return no object."""
        return cls.of(Detections.none(), 0)

    @classmethod
    def of(cls, found: Detections, number: int) -> Tracks:
        """Return detections of frame `number` as objects of unknown velocity."""
        count = len(found.scores)
        velocities = np.full((count, 2), np.nan, np.float32)
        spread = (SPREAD * np.sqrt(box_ops.area(found.boxes))).astype(np.float32)
        return cls(*found, velocities, spread, np.full(count, number, np.int64))


def predicted(tracks: Tracks, number: int) -> np.ndarray:
    """Return the boxes [n, 4] float32 (image frame) of objects in frame `number`, moved with constant velocity."""
    passed = number - tracks.seen
    x, y = (np.nan_to_num(tracks.velocities) * passed[:, None]).T
    return box_ops.shift(tracks.boxes, x, y)


def grown(boxes: np.ndarray, margin: np.ndarray | float) -> np.ndarray:
    """Return boxes [..., 4] with `margin` px more at each side; it broadcasts against [...]."""
    margin = np.asarray(margin, np.float32)[..., None]
    return boxes + np.concatenate([-margin, -margin, margin, margin], axis=-1)


def updated(tracks: Tracks, found: Detections, number: int, size: tuple[int, int]) -> Tracks:
    """Return the objects after frame `number`.

    Objects and detections of a class are matched one to one, so that their IoU is the largest in sum. A detection
    without an object is a new one. An object without a detection is given up after a few frames, or outside the image.

    Args:
        tracks: the objects before.
        found: detections of the frame, image frame.
        number: of the frame.
        size: (height, width) of the image, px.
    """
    expected, passed = predicted(tracks, number), number - tracks.seen
    may_move = tracks.spread * passed
    overlap = box_ops.iou(grown(expected, may_move)[:, None], grown(found.boxes[None], may_move[:, None]))[:, 0]
    overlap[(overlap < OVERLAP) | (tracks.labels[:, None] != found.labels)] = 0
    old, new = linear_sum_assignment(overlap, maximize=True)
    old, new = old[overlap[old, new] > 0], new[overlap[old, new] > 0]

    now = Tracks.of(found, number)
    moved = (_centres(found.boxes[new]) - _centres(tracks.boxes[old])) / passed[old, None]
    before = np.where(np.isnan(tracks.velocities[old]), moved, tracks.velocities[old])
    now.velocities[new] = (before + moved) / 2
    missed = np.abs(_centres(found.boxes[new]) - _centres(expected[old])).max(axis=1) / passed[old]
    steady = STEADY * np.sqrt(box_ops.area(found.boxes[new]))
    first = np.isnan(tracks.velocities[old]).any(axis=1)
    guess = np.where(first, missed * DOUBT, np.maximum(missed, tracks.spread[old] / 2))
    now.spread[new] = np.maximum(guess, steady)

    left = (passed < PATIENCE) & (box_ops.area(box_ops.clip(expected, *size)) > 0)
    left[old] = False
    return Tracks(*(np.concatenate([fresh, stale[left]]) for fresh, stale in zip(now, tracks)))


def _centres(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
