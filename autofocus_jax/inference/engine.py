"""The engine: runs a stream of images with the threads of this host and keeps finished pieces on disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from autofocus_jax.focus import cascade
from autofocus_jax.focus.cascade import AnyDetect, Outcome, Reader
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import pieces
from autofocus_jax.inference.pieces import Piece, Skipped
from autofocus_jax.machine import heap
from autofocus_jax.structures import Cost, Dataset, Detections, sum_costs

PIECE = 64  # images whose results are written together
GIVE_BACK = 2.0  # seconds between the times that freed memory is given back to the system

# `stream` with all but the images given.
Streamed = Callable[[Iterable[tuple[Hashable, Reader]]], Generator[Outcome, None, None]]


class RunResult(NamedTuple):
    """Detections of a run over a part of a dataset. `indices` are the images that did not fail, in the order asked."""

    indices: list[int]
    detections: list[Detections]  # one per entry of `indices`
    cost: Cost | None  # summed; None when all images failed
    seconds: float  # wall time from the first read to the last detection
    skipped: list[Skipped]


def host_threads() -> int:
    """Return the number of threads worth having beside the device: the cores of this process, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def stream(
    images: Iterable[tuple[Hashable, Reader]],
    detect: AnyDetect,
    plan: Plan,
    *,
    threads: int | None = None,
    keep_stages: bool = False,
    keep_images: bool = False,
) -> Generator[Outcome, None, None]:
    """Yield the Outcome of every image, in the order of their readers, as focus.cascade.stream does.

    Free heap memory is returned to the operating system every GIVE_BACK seconds.

    Args:
        images: (key, reader) of each image.
        detect: the detector.
        plan: the scales, buckets and rules.
        threads: number of reading threads, and of threads that crop, resize and stack; by default host_threads().
        keep_stages: fill Outcome.stages.
        keep_images: fill Outcome.image.
    """
    threads = host_threads() if threads is None else threads
    given_back = time.perf_counter()
    made = cascade.stream(images, detect, plan, threads=threads, keep_stages=keep_stages, keep_images=keep_images)
    with contextlib.closing(made) as outcomes:
        for outcome in outcomes:
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
    """Run a stream over the images of `indices` and gather its results, in pieces of `piece` images.

    The key of an image is its index, also in resumed and shared runs. An image whose Outcome is an error is left out
    and reported in `skipped`. Other errors end the run.

    Args:
        dataset: gives the images.
        indices: which images.
        streamed: the stream.
        progress: called with the number of images done, skipped and stored ones included.
        folder: existing folder for finished pieces. Existing pieces are not done again, so they must be of the same
            run.
        share: (k, n) does only every n-th piece, beginning with the k-th, as one of n processes.
        piece: number of images whose results are written together.
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
    readers = ((index, partial(dataset.image, index)) for number in todo for index in members[number])
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
                    part = part._replace(info=outcome.cost if part.info is None else part.info + outcome.cost)
                if progress is not None:
                    progress(1)
            now = time.perf_counter()
            results[number] = part._replace(seconds=now - begin)
            begin = now
            if files[number] is not None:
                pieces.save(files[number], results[number])
    return _joined([results[number] for number in mine])


def gather(count: int, folder: Path, patience: float = 60.0, piece: int = PIECE) -> RunResult:
    """Return the result of a run whose pieces other processes have finished in a shared folder.

    Args:
        count: number of images of the run.
        folder: the shared folder.
        patience: seconds that a piece may take to appear on a network file system.
        piece: number of images of a piece.

    Raises:
        PieceError: a piece is missing; the message names it.
    """
    parts, end = [], time.monotonic() + patience
    for number in range(-(-count // piece)):
        path = folder / f"{number:06d}.npz"
        while not path.is_file():
            if time.monotonic() > end:
                raise pieces.PieceError(f"{path} does not show up; the processes must share one folder")
            time.sleep(0.1)
            os.listdir(folder)  # asks a network file system for what is new
        parts.append(pieces.load(path))
    return _joined(parts)


def _joined(parts: Sequence[Piece]) -> RunResult:
    indices, detections, skipped = (
        [entry for part in parts for entry in getattr(part, name)] for name in ("indices", "detections", "skipped")
    )
    cost = sum_costs(part.info for part in parts if part.info is not None)
    return RunResult(indices, detections, cost, sum(part.seconds for part in parts), skipped)
