"""A video through a Model: the last frames say where the next one is looked at."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from functools import partial

import numpy as np

from autofocus_jax.config import Config, ConfigError
from autofocus_jax.focus.ahead import ahead
from autofocus_jax.focus.cascade import Outcome, Reader
from autofocus_jax.focus.frames import Follow, State, step
from autofocus_jax.focus.pyramid import Regions
from autofocus_jax.inference.model import Model
from autofocus_jax.structures import Bucket, ImageError

_AHEAD = 2  # frames that are read while another one is looked at


def follow(
    model: Model,
    images: Iterable[tuple[Hashable, Reader]],
    every: int = 10,
    state: State | None = None,
    *,
    score: float = Follow.score,
    keep_stages: bool = False,
    keep_images: bool = False,
) -> Iterator[tuple[State, Outcome]]:
    """Yield the state after each frame of a video and its Outcome, in order, as focus.frames.step makes them.

    A model that compiles batches of several chips is compiled anew for single ones, since the chips of one frame do not
    fill batches. `model.changed(one_by_one)` does so once for several videos.

    Args:
        model: the detector and the plan of a full look.
        images: (key, reader) of each frame; a reader returns uint8 RGB [h, w, 3] or raises ImageError.
        every: a full look comes at the latest after so many frames.
        state: the state after the frames before, to go on with a video; None at its begin.
        score: detections of at least this score are followed.
        keep_stages: fill Outcome.stages.
        keep_images: fill Outcome.image.

    Raises:
        ConfigError: the model has no plan yet.
        PlanError: `every` is below 1.
    """
    settings = Follow(every, score)
    if model.plan is None:
        raise ConfigError("the model has no plan yet; use model.proposed(sizes), or load it with a plan")
    if model.config is not None and any(bucket.batch > 1 for bucket in model.config.buckets):
        model = model.changed(one_by_one)
    state = State.none() if state is None else state
    frames = ahead((partial(_read, key, reader) for key, reader in images), 1, _AHEAD, "read")
    with contextlib.closing(frames):
        for key, frame in frames:
            state, outcome = step(state, frame, model.detect, model.plan, settings, key=key, keep_stages=keep_stages,
                                  keep_images=keep_images)  # fmt: skip
            yield state, outcome


def one_by_one(config: Config) -> Config:
    """Return the config with buckets that hold a single chip each, for `Model.changed`."""
    buckets = dict.fromkeys(Bucket(bucket.height, bucket.width, 1) for bucket in config.buckets)
    return dataclasses.replace(config, buckets=tuple(buckets))


def _read(key: Hashable, reader: Reader) -> tuple[Hashable, np.ndarray | ImageError]:
    try:
        image = reader()
        if isinstance(image, Regions):
            raise ImageError(f"frame {key!r} is read by windows, and frames of a video come whole; give arrays")
        return key, image
    except ImageError as error:
        return key, error
