"""The engine: reads images ahead of the device, in windows, and runs a cascade on each window."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax.focus.cascade import add_info
from autofocus_jax.structures import CascadeInfo, Dataset, Detections, ImageError

# A window of images (uint8 RGB [h, w, 3]) -> their detections, what they cost together, and what happened to them.
CascadeFunction = Callable[[list[np.ndarray]], tuple[list[Detections], CascadeInfo, Any]]


class Skipped(NamedTuple):
    """An image that could not be read."""

    index: int
    file_name: str
    reason: str


class RunResult(NamedTuple):
    """Detections of a run over part of a dataset; `indices` are the images that could be read, in the order asked."""

    indices: list[int]
    detections: list[Detections]  # one per entry of `indices`
    info: CascadeInfo | None  # summed; None when no image could be read
    seconds: float  # wall time from the first read to the last detection
    skipped: list[Skipped]


def run(
    dataset: Dataset,
    indices: Sequence[int],
    cascade: CascadeFunction,
    window: int,
    progress: Callable[[int], None] | None = None,
    readers: int = 2,
) -> RunResult:
    """Runs a cascade over the images of `indices` in windows of `window` images.

    While a window is on the device `readers` threads decode the next one, so that at most two windows of images are
    held. An image that raises ImageError is left out and reported in `skipped`; other errors end the run.
    progress(n) is called after each window with the images it dealt with, skipped ones included.
    """
    start = time.perf_counter()
    done: list[int] = []
    detections: list[Detections] = []
    skipped: list[Skipped] = []
    info = None
    with contextlib.closing(_windows(dataset, indices, window, readers)) as windows:
        for read, images, failed in windows:
            skipped += failed
            if read:
                found, cost, _ = cascade(images)
                done += read
                detections += found
                info = cost if info is None else add_info(info, cost)
            del images  # before the next window is gathered
            if progress is not None:
                progress(len(read) + len(failed))
    return RunResult(done, detections, info, time.perf_counter() - start, skipped)


def _windows(
    dataset: Dataset, indices: Sequence[int], window: int, readers: int
) -> Generator[tuple[list[int], list[np.ndarray], list[Skipped]], None, None]:
    """Yields windows of `window` readable images (the last may be smaller), with those that could not be read.

    `window` images are kept in flight beyond the window that was yielded last.
    """
    waiting: collections.deque[tuple[int, Future]] = collections.deque()
    left = iter(indices)
    pool = ThreadPoolExecutor(readers, thread_name_prefix="read")
    try:
        read: list[int] = []
        images: list[np.ndarray] = []
        failed: list[Skipped] = []
        while True:
            for index in left:
                waiting.append((index, pool.submit(dataset.image, index)))
                if len(waiting) >= window:
                    break
            if not waiting:
                break
            index, future = waiting.popleft()
            try:
                images.append(future.result())
                read.append(index)
            except ImageError as error:
                failed.append(Skipped(index, dataset.info(index).file_name, str(error)))
            if len(read) == window:
                yield read, images, failed
                read, images, failed = [], [], []
        if read or failed:
            yield read, images, failed
    finally:
        pool.shutdown(cancel_futures=True)


class Outcome(NamedTuple):
    """What became of one reader of `stream`; detections, info and stages are None where it could not be read."""

    index: int  # position in `readers`
    size: tuple[int, int] | None  # (height, width), image px
    detections: Detections | None
    info: CascadeInfo | None  # of this image alone
    stages: list | None  # with keep_stages: a cascade.Stage per scale
    error: str | None


def stream(readers, scales, detect, buckets, stacking, chip_functions=None, *, window=32, threads=2, keep_stages=False):
    """Stand-in with the contract of the engine that is being written; replaced by it."""
    import itertools

    from autofocus_jax.focus.cascade import cascade

    def read(reader):
        try:
            return reader()
        except ImageError as error:
            return str(error)

    count, left = 0, iter(readers)
    with ThreadPoolExecutor(threads) as pool:
        while part := list(itertools.islice(left, window)):
            for got in pool.map(read, part):
                if isinstance(got, str):
                    yield Outcome(count, None, None, None, None, got)
                else:
                    (found,), info, (stages,) = cascade([got], scales, detect, buckets, stacking, chip_functions)
                    yield Outcome(count, got.shape[:2], found, info, stages if keep_stages else None, None)
                count += 1
