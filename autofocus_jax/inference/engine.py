"""The engine: reads images ahead of the device, streams them through a cascade, keeps finished pieces on disk."""

from __future__ import annotations

import collections
import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autofocus_jax import heap
from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import cascade
from autofocus_jax.focus.cascade import Detect, Outcome
from autofocus_jax.focus.chips import ChipFunction
from autofocus_jax.focus.walk import add_info, spend
from autofocus_jax.inference import pieces
from autofocus_jax.inference.pieces import Piece, Skipped
from autofocus_jax.structures import Bucket, CascadeInfo, Dataset, Detections, ImageError, Scale

PIECE = 64  # images whose results are written together
GIVE_BACK = 2.0  # seconds between the times that freed memory is given back to the system

Reader = Callable[[], np.ndarray]  # gives an image, uint8 RGB [h, w, 3], or raises ImageError
Streamed = Callable[[Iterable[Reader]], Iterator[Outcome]]  # `stream` with everything but the readers given


class RunResult(NamedTuple):
    """Detections of a run over part of a dataset; `indices` are the images that could be read, in the order asked."""

    indices: list[int]
    detections: list[Detections]  # one per entry of `indices`
    info: CascadeInfo | None  # summed; None when no image could be read
    seconds: float  # wall time from the first read to the last detection
    skipped: list[Skipped]


def host_threads() -> int:
    """Threads worth having beside the device: the cores that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def stream(
    readers: Iterable[Reader],
    scales: Sequence[Scale],
    detect: Detect,
    buckets: Sequence[Bucket],
    stacking: StackingConfig,
    chip_functions: Sequence[ChipFunction] | None = None,
    *,
    shrink: float = 0.0,
    window: int = 32,
    threads: int | None = None,
    keep_stages: bool = False,
) -> Generator[Outcome, None, None]:
    """Yields the Outcome of every image, in the order of their readers, which run in threads ahead of the device.

    Outcome.index counts the readers. A reader's ImageError becomes an Outcome with `error`; other errors end the
    stream. Memory is bounded by `window` images and a few that are read ahead; what the heap keeps of the others is
    given back every GIVE_BACK seconds. The rest as focus.cascade.stream.
    threads: that read, and as many that crop, resize and stack; by default host_threads().
    """
    threads = host_threads() if threads is None else threads
    seconds: dict[int, float] = {}
    given_back = time.perf_counter()
    with contextlib.closing(_read_ahead(readers, threads, seconds)) as images:
        settings = scales, detect, buckets, stacking, chip_functions
        with contextlib.closing(
            cascade.stream(images, *settings, shrink=shrink, window=window, threads=threads, keep_stages=keep_stages)
        ) as outcomes:
            for outcome in outcomes:
                took = seconds.pop(outcome.index)
                if outcome.info is not None:
                    spend(outcome.info, "read", took)
                yield outcome
                if time.perf_counter() - given_back > GIVE_BACK:
                    heap.give_back()
                    given_back = time.perf_counter()


def run(
    dataset: Dataset,
    indices: Sequence[int],
    streamed: Streamed,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
    share: tuple[int, int] = (0, 1),
    piece: int = PIECE,
) -> RunResult:
    """Runs a stream over the images of `indices` and gathers its results, in pieces of `piece` images.

    folder: existing; every piece is written there when it is finished, and what lies there already is not done again,
    so the caller answers for its being of the same run. share (k, n): do only every n-th piece, beginning with the
    k-th, as one of n processes. An image that raises ImageError is left out and reported in `skipped`; other errors end
    the run. progress(n) is called with the images that were dealt with, skipped ones and stored ones included.
    """
    count = -(-len(indices) // piece)
    files = [None if folder is None else folder / f"{number:06d}.npz" for number in range(count)]
    mine = range(share[0], count, share[1])
    members = {number: list(indices[number * piece : (number + 1) * piece]) for number in mine}
    results: dict[int, Piece] = {}
    for number in mine:
        if files[number] is not None and files[number].is_file():
            results[number] = pieces.load(files[number])
            if progress is not None:
                progress(len(members[number]))
    todo = [number for number in mine if number not in results]
    readers = (_reader(dataset, index) for number in todo for index in members[number])
    begin = time.perf_counter()
    with contextlib.closing(streamed(readers)) as outcomes:
        for number in todo:
            part = Piece([], [], None, 0.0, [])
            for index in members[number]:
                outcome = next(outcomes)
                if outcome.error is not None:
                    part.skipped.append(Skipped(index, dataset.info(index).file_name, outcome.error))
                else:
                    part.indices.append(index)
                    part.detections.append(outcome.detections)
                    part = part._replace(info=outcome.info if part.info is None else add_info(part.info, outcome.info))
                if progress is not None:
                    progress(1)
            now = time.perf_counter()
            results[number] = part._replace(seconds=now - begin)
            begin = now
            if files[number] is not None:
                pieces.save(files[number], results[number])
    return _joined([results[number] for number in mine])


def _joined(parts: Sequence[Piece]) -> RunResult:
    info = None
    for part in parts:
        if part.info is not None:
            info = part.info if info is None else add_info(info, part.info)
    indices, detections, skipped = (
        [entry for part in parts for entry in getattr(part, name)] for name in ("indices", "detections", "skipped")
    )
    return RunResult(indices, detections, info, sum(part.seconds for part in parts), skipped)


def _reader(dataset: Dataset, index: int) -> Reader:
    return lambda: dataset.image(index)


def _read_ahead(
    readers: Iterable[Reader], threads: int, seconds: dict[int, float]
) -> Generator[np.ndarray | ImageError, None, None]:
    """Yields what each reader gives; `threads` of them run ahead, and a few images wait. seconds[n]: of the n-th."""
    waiting: collections.deque[Future] = collections.deque()
    numbered = enumerate(readers)

    def read(number: int, reader: Reader) -> np.ndarray | ImageError:
        begin = time.perf_counter()
        try:
            return reader()
        except ImageError as error:
            return error
        finally:
            seconds[number] = time.perf_counter() - begin

    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    try:
        while True:
            for number, reader in numbered:
                waiting.append(pool.submit(read, number, reader))
                if len(waiting) >= 2 * threads + 2:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
