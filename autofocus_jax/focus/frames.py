"""Frames of a video, one after the other: the last frames say where the next one is looked at.

Every few frames the cascade looks at the whole frame. Between such full looks, chips lie where objects should be by
now, and where the picture changed otherwise. The scale that answers for an object's size shows the chip of the object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from functools import partial
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.errors import PlanError
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.area import Area, cells
from autofocus_jax.focus.cascade import AnyDetect, Outcome, stream
from autofocus_jax.focus.changes import changed, grey, places, without
from autofocus_jax.focus.chips import merge_overlapping
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.tracks import Tracks, grown, predicted, updated
from autofocus_jax.focus.walk import check_image
from autofocus_jax.structures import STRIDE, Detections, ImageError, Placement

CONTEXT = STRIDE  # level px that a chip shows around what it is made for
CUT = 0.25  # share of a picture that changed from which on the whole frame is looked at
SAME = 0.5  # IoU with a better detection from which on a detection is taken for the same object
SHADOW = 0.2  # sides of an object, around it, where a change is its own


@dataclasses.dataclass(frozen=True)
class Follow:
    """Settings of `step`.

    Attributes:
        every: a full look comes at the latest after so many frames; 1 looks at every frame in full.
        score: detections of at least this score are followed.
    """

    every: int = 10
    score: float = 0.3

    def __post_init__(self):
        if self.every < 1:
            raise PlanError(f"a full look comes every 1 frame or more, got every {self.every}")


class State(NamedTuple):
    """Everything that is known after a frame, as arrays: `np.savez(path, **state._asdict())` keeps it."""

    number: int  # frames so far, broken ones too
    full: int  # number of the last frame that was looked at in full
    size: np.ndarray  # [2] int64, (height, width) of the last good frame, px; 0 before the first
    grey: np.ndarray  # [h, w] float32, that frame in small
    boxes: np.ndarray  # this and the rest: fields of Tracks
    scores: np.ndarray
    labels: np.ndarray
    velocities: np.ndarray
    spread: np.ndarray
    seen: np.ndarray

    @classmethod
    def none(cls) -> State:
        """Return the state before the first frame."""
        return cls(0, 0, np.zeros(2, np.int64), np.zeros((0, 0), np.float32), *Tracks.none())

    @property
    def tracks(self) -> Tracks:
        """Return the objects that are followed."""
        return Tracks(*self[4:])


def step(
    state: State,
    frame: np.ndarray | ImageError,
    detect: AnyDetect,
    plan: Plan,
    follow: Follow = Follow(),
    *,
    key: Hashable = None,
    keep_stages: bool = False,
    keep_images: bool = False,
) -> tuple[State, Outcome]:
    """Look at the next frame of a video. Return the state after it and its Outcome.

    A frame of another size than the last one starts anew, with a full look. A broken frame changes nothing but the
    number of frames, and so does one that the detector fails on; its Outcome says why.

    Args:
        state: what came back for the frame before; `State.none()` before the first.
        frame: uint8 RGB [h, w, 3], or why it could not be read.
        detect: the detector. Its batches hold chips of one frame, so buckets with a batch of 1 suit it.
        plan: the scales, buckets and rules of a full look.
        follow: how often to look in full, and what to follow.
        key: the caller's name of the frame.
        keep_stages: fill Outcome.stages.
        keep_images: fill Outcome.image.

    Raises:
        ImageError: the frame is no array of uint8 RGB.
        DetectorError: as focus.cascade.stream.
    """
    number = int(state.number) + 1
    passed_over = state._replace(number=number)
    if isinstance(frame, ImageError):
        return passed_over, Outcome(key, error=str(frame))
    check_image(frame, key)
    size = (frame.shape[0], frame.shape[1])
    picture = grey(frame, plan.scales[-1])
    known = tuple(state.size.tolist()) == size
    tracks = state.tracks if known else Tracks.none()
    looks = None
    if known and number - int(state.full) < follow.every:
        news = changed(state.grey, picture)
        if news.mean() < CUT:
            if plan.area is not None and plan.area.limits:
                news &= _inside(plan.area, key, size, news.shape)
            looks = _looks(tracks, news, number, size, plan)
    planned = dataclasses.replace(plan, looks=looks, window=1)
    (outcome,) = stream([(key, partial(_same, frame))], detect, planned, keep_stages=keep_stages,
                        keep_images=keep_images)  # fmt: skip
    if outcome.detections is None:
        return passed_over, outcome
    tracks = updated(tracks, _sure(outcome.detections, follow.score), number, size)
    full = int(state.full) if looks is not None else number
    return State(number, full, np.array(size, np.int64), picture, *tracks), outcome


def _looks(tracks: Tracks, news: np.ndarray, number: int, size: tuple[int, int], plan: Plan) -> tuple[np.ndarray, ...]:
    """Boxes [n, 4] int32 of each scale, image frame: around the objects, and around changes that are not theirs."""
    expected = predicted(tracks, number)
    uncertain = tracks.spread * (number - tracks.seen)
    shadow = SHADOW * np.sqrt(box_ops.area(tracks.boxes))
    theirs = np.concatenate([grown(tracks.boxes, shadow), grown(expected, shadow + uncertain)])
    new = places(without(news, theirs, size), size)
    sides, new_sides = np.sqrt(box_ops.area(expected)), np.sqrt(box_ops.area(new))
    own = _own_scale(sides, plan)
    looks = []
    for index, scale in enumerate(plan.scales):
        factor = pyramid.factor(*size, scale)
        margin = CONTEXT / factor + plan.stacking.border_tolerance
        may_be = (new_sides / 2 <= scale.valid.high) & (2 * new_sides >= scale.valid.low) & (not scale.leads)
        mine = own == index
        boxes = np.concatenate([grown(expected[mine], margin + uncertain[mine]), grown(new[may_be], margin)])
        boxes = box_ops.clip(np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1), *size)
        boxes = boxes[box_ops.area(boxes) > 0].astype(np.int32)
        looks.append(merge_overlapping(boxes))
    return tuple(looks)


def _inside(area: Area, key: Hashable, size: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Where an area lies in a grey picture of `shape`, [h, w] bool."""
    as_cells = STRIDE * shape[0], STRIDE * shape[1]
    factor = np.array([as_cells[1] / size[1], as_cells[0] / size[0]], np.float32)
    whole = Placement(key, 1, np.array([0, 0, size[1], size[0]], np.float32), factor)
    return cells(area.map_of(key, size), size, whole, as_cells) > 0


def _sure(found: Detections, score: float) -> Detections:
    """The detections, best first, that are worth following: one for each object, whatever its class."""
    found = Detections(*(field[found.scores >= score] for field in found))
    again = np.triu(box_ops.iou(found.boxes, found.boxes) > SAME, 1).any(axis=0)
    return Detections(*(field[~again] for field in found))


def _own_scale(sides: np.ndarray, plan: Plan) -> np.ndarray:
    """Index [n] of the scale whose valid range holds each side [n] (sqrt of area, image px) farthest from its ends."""
    with np.errstate(divide="ignore"):
        inside = [np.minimum(np.log(sides) - np.log(scale.valid.low), np.log(scale.valid.high) - np.log(sides))
                  if not scale.leads else np.full(len(sides), -np.inf) for scale in plan.scales]  # fmt: skip
    return np.argmax(inside, axis=0)


def _same(frame: np.ndarray) -> np.ndarray:
    return frame
