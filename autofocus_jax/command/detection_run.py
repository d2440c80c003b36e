"""The run of `autofocus detect`: images and frames through the model, and each result to every writer."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np

from autofocus_jax.command import video
from autofocus_jax.command.inputs import Item
from autofocus_jax.command.stopping import whole
from autofocus_jax.command.writers import Entry, Film, Writer
from autofocus_jax.data.raster import read_or_open
from autofocus_jax.focus.cascade import Outcome, Reader
from autofocus_jax.focus.frames import Follow
from autofocus_jax.inference.model import Model
from autofocus_jax.inference.video import follow
from autofocus_jax.machine.terminal import printable
from autofocus_jax.structures import AutoFocusError, Cost, ImageError


class Summary(NamedTuple):
    """Results of a run, finished or not."""

    images: int  # and frames
    found: int  # detections
    full: int  # images with as many detections as are kept
    skipped: list[tuple[str, str]]  # file name, reason
    cost: Cost | None  # summed; None when no image was processed
    seconds: float
    stopped: BaseException | None  # what ended it early: an interrupt, or a file that could not be written


class Source(NamedTuple):
    """Origin of an image: its key in the stream."""

    item: Item
    frame: int | None  # of a video, from 0
    film: Film | None


def run_detection(
    model: Model,
    items: Sequence[Item],
    writers: Sequence[Writer],
    score: float,
    stages: bool,
    window: int,
    progress: Callable[[Summary], None] | None = None,
    every: int | None = None,
) -> Summary:
    """Detect in every item, in order, and pass detections of at least `score` to the writers, which are always closed.

    Items that fail are skipped. An interrupt (Ctrl-C, other signals by command.stopping) or an output that cannot be
    written ends the run early. Finished results are kept, and the summary says what stopped the run. progress is called
    after every image. With `every`, videos are followed, with a full look after so many frames (inference.video).
    """
    summary = Summary(0, 0, 0, [], None, 0.0, None)
    most = model.plan.stacking.max_detections
    start = time.perf_counter()
    try:
        with contextlib.ExitStack() as stack:
            for writer in writers:
                stack.callback(whole(writer.close))
            images = _sources(items, summary.skipped)
            keep_images = any(writer.wants_image for writer in writers)
            for outcome in _outcomes(model, images, stages, window, keep_images, every, score):
                source = cast(Source, outcome.key)
                if outcome.error is not None:
                    summary.skipped.append((source.item.file_name, _reason(source, outcome.error)))
                else:
                    result = model.result(outcome, str(source.item.path)).above(score)
                    entry = Entry(summary.images + 1, *_names(source), result, outcome.image, source.film)
                    for writer in writers:
                        try:
                            whole(writer.add)(entry)
                        except ImageError as error:  # of a part that only this writer reads
                            summary.skipped.append((source.item.file_name, f"it is searched, but not drawn: {error}"))
                    cost = outcome.cost if summary.cost is None else summary.cost + outcome.cost
                    summary = summary._replace(images=summary.images + 1, found=summary.found + len(result),
                                               full=summary.full + (len(result) >= most), cost=cost)  # fmt: skip
                summary = summary._replace(seconds=time.perf_counter() - start)
                if progress is not None:
                    progress(summary)
    except (KeyboardInterrupt, AutoFocusError) as error:
        summary = summary._replace(stopped=error)
    return summary._replace(seconds=time.perf_counter() - start)


def _outcomes(model, images, stages, window, keep_images, every, score) -> Iterator[Outcome]:
    """The Outcome of each image and frame. With `every`, each video is followed."""
    if every is None:
        yield from model.stream(images, stages, window, keep_images=keep_images)
        return
    for film, group in itertools.groupby(images, lambda image: image[0].film):
        if film is None:
            yield from model.stream(group, stages, window, keep_images=keep_images)
            continue
        least = min(score, Follow.score)  # what is reported is followed
        for _, outcome in follow(model, group, every, score=least, keep_stages=stages, keep_images=keep_images):
            yield outcome


def readers(items: Sequence[Item]) -> Iterator[Reader]:
    """Return a reader of each image and frame, in order. Videos that cannot be opened are left out."""
    return (read for _, read in _sources(items, []))


def count(items: Sequence[Item]) -> int:
    """Return the number of images and frames, if the videos say how many they have."""
    total = 0
    for item in items:
        with contextlib.suppress(ImageError):
            total += video.video_info(item.path).frames if item.video else 1
    return total


def _sources(items: Sequence[Item], skipped: list) -> Iterator[tuple[Source, Reader]]:
    """Each image and each frame with what reads it; videos that cannot be opened, or end early, go to `skipped`.

    Frames are decoded when they are asked for, because a video can only be read in order.
    """
    for item in items:
        if not item.video:
            yield Source(item, None, None), functools.partial(read_or_open, item.path)
            continue
        try:
            info = video.video_info(item.path)
            film = Film(item.name, info.height, info.width, info.rate)
            number = -1
            for number, frame in enumerate(video.frames(item.path)):
                yield Source(item, number, film), functools.partial(_same, frame)
        except ImageError as error:
            skipped.append((item.file_name, str(error)))
            continue
        if number < 0:
            skipped.append((item.file_name, f"video {item.path} cannot be decoded; it holds no frame"))
        elif number + 1 < 0.98 * info.frames - 1:
            skipped.append((f"{item.file_name}#{number + 1}", f"video {item.path} ends after {number + 1} of "
                            f"{info.frames} frames; what came before is kept"))  # fmt: skip


def _same(frame: np.ndarray) -> np.ndarray:
    return frame


def _reason(source: Source, error: str) -> str:
    """Why there is no result: what is said of a file that cannot be read names it, what a detector says does not."""
    name = printable(_names(source)[1])
    return error if printable(source.item.file_name) in error else f"{name}: {error}"


def _names(source: Source) -> tuple[str, str]:
    """Name of its own files, and what tables call it."""
    item, frame = source.item, source.frame
    return (item.name, item.file_name) if frame is None else (f"{item.name}_{frame:06d}", f"{item.file_name}#{frame}")
