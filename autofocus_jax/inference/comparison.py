"""Several ways to process the same images, run side by side, block by block, so that their times can be compared."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax.focus.ahead import ahead
from autofocus_jax.focus.cascade import AnyDetect, Reader
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.engine import RunResult
from autofocus_jax.inference.measure import Measurement, score
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.structures import AutoFocusError, Cost, Dataset, Detections, DetectorError, ImageError, sum_costs

HOPELESS = 8  # images from the first on; a detector that fails on all of them fails on every image
BLOCK = 32  # images that each way processes in its turn; reading the first of them is not hidden, so few are too few

Answer = tuple[Detections, Cost]  # of one image

# (key, reader) of each image -> for each what `Way.rows` get, or why there is nothing.
Stream = Callable[[Iterable[tuple[Hashable, Reader]]], Generator[Any, None, None]]


class Way(NamedTuple):
    """A way to process images. One way may fill several rows: shared work is done once and counted in each row."""

    stream: Stream  # reads in threads, ahead of the detector
    rows: Mapping[str, Callable[[Any], Answer]]  # by name
    fill: Callable[[], float] | None = None  # share of the pixels it ran on that show a photograph, where it is told


class _Times(NamedTuple):
    """Seconds on the clock, and of processor time."""

    wall: float
    cpu: float

    @classmethod
    def now(cls, processor: Callable[[], float]) -> _Times:
        return cls(time.perf_counter(), processor())

    def __sub__(self, other: _Times) -> _Times:
        return _Times(self.wall - other.wall, self.cpu - other.cpu)


def by_plan(name: str, detect: AnyDetect, plan: Plan) -> Way:
    """Return the way of the cascade, as a row of that name."""

    def stream(images: Iterable[tuple[Hashable, Reader]]) -> Generator[Answer | AutoFocusError, None, None]:
        with contextlib.closing(engine.stream(images, detect, plan)) as outcomes:
            for outcome in outcomes:
                yield (outcome.detections, outcome.cost) if outcome.error is None else DetectorError(outcome.error)

    return Way(stream, {name: _same})


def one_by_one(process: Callable[[np.ndarray], Any]) -> Stream:
    """Return the stream of a function of one image (uint8 RGB [h, w, 3]). The next images are read meanwhile."""

    def stream(images: Iterable[tuple[Hashable, Reader]]) -> Generator[Any, None, None]:
        threads = engine.host_threads()
        readers = (partial(_error_as_value, reader) for _, reader in images)
        with contextlib.closing(ahead(readers, threads, 2 * threads + 1, "read")) as arriving:
            for image in arriving:
                yield image if isinstance(image, AutoFocusError) else _error_as_value(partial(process, image))

    return stream


class Comparison:
    """Ways that run over images of a dataset, with the results and costs of each row so far.

    Attributes:
        reading: seconds of one reading and decoding of every image. Each way reads anew, in threads.
        running: seconds of all ways together, shared work counted once.
        skipped: images that could not be read, or that the detector failed on in one of the ways.
    """

    def __init__(self, dataset: Dataset, ways: Sequence[Way]):
        """Take the ways. Nothing is run yet.

        Raises:
            AutoFocusError: two rows have the same name.
        """
        names = [name for way in ways for name in way.rows]
        double = [name for name, count in Counter(names).items() if count > 1]
        if double:
            raise AutoFocusError(f"two rows are called {double[0]!r}; leave one out")
        self.dataset, self.ways, self.names = dataset, tuple(ways), tuple(names)
        self.reading = self.reading_cpu = self.running = 0.0
        self.skipped: list[Skipped] = []
        self._indices: list[int] = []
        self._failures = 0  # images that the detector failed on
        self._turn = 0  # the way that the next block begins with
        self._found: dict[str, list[Detections]] = {name: [] for name in names}
        self._costs: dict[str, list[Cost]] = {name: [] for name in names}
        self._seconds, self._cpu = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)

    def run(self, indices: Sequence[int], progress: Callable[[float], None] | None = None) -> None:
        """Run every way over these images and add the results. Images that fail count in no row.

        Each way reads the images anew, as a run of its own does. Each block of images begins with another way.

        Args:
            indices: which images.
            progress: called with the number of images done since the last call; one way is a fraction of an image.

        Raises:
            DetectorError: the detector failed on each of the first HOPELESS images.
        """
        for start in range(0, len(indices), BLOCK):
            self._run(list(indices[start : start + BLOCK]), progress)

    def _run(self, block: list[int], progress: Callable[[float], None] | None) -> None:
        rows: dict[str, list[Answer | None]] = {}
        failed: dict[int, AutoFocusError] = {}
        read: list[_Times] = []  # of all ways
        times: dict[str, _Times] = {}
        for way in (*self.ways[self._turn :], *self.ways[: self._turn]):
            begin, before = _Times.now(time.process_time), len(read)
            shared = list(_ticked(way.stream(self._readers(block, read)), progress, len(self.ways)))
            sharing = _Times.now(time.process_time) - begin
            sharing = sharing._replace(cpu=sharing.cpu - sum(one.cpu for one in read[before:]))
            failed |= {index: one for index, one in zip(block, shared) if isinstance(one, AutoFocusError)}
            for name, finish in way.rows.items():
                begin = _Times.now(time.process_time)
                rows[name] = [None if isinstance(one, AutoFocusError) else finish(one) for one in shared]
                finishing = _Times.now(time.process_time) - begin
                times[name] = _Times(sharing.wall + finishing.wall, sharing.cpu + finishing.cpu)
                self.running += finishing.wall
            self.running += sharing.wall
        self._turn = (self._turn + 1) % max(1, len(self.ways))
        self.reading += sum(one.wall for one in read) / max(1, len(self.ways))
        self.reading_cpu += sum(one.cpu for one in read) / max(1, len(self.ways))
        self.skipped += [Skipped(index, self.dataset.info(index).file_name, str(failed[index])) for index in block
                         if index in failed]  # fmt: skip
        through = [place for place, index in enumerate(block) if index not in failed]
        hopeless = [error for error in failed.values() if isinstance(error, DetectorError)]
        self._failures += len(hopeless)
        if not self._indices and not through and self._failures >= HOPELESS:
            raise DetectorError(f"the detector failed on each of the first {HOPELESS} images, at last: {hopeless[-1]}")
        if not through:
            return
        self._indices += [block[place] for place in through]
        for name, answers in rows.items():
            self._found[name] += [answers[place][0] for place in through]
            self._costs[name] += [answers[place][1] for place in through]
            self._seconds[name] += times[name].wall
            self._cpu[name] += times[name].cpu

    @property
    def images(self) -> int:
        """Return the number of images that were processed."""
        return len(self._indices)

    @property
    def indices(self) -> Sequence[int]:
        """Return the indices of the images that were processed, in the order of `detections` and `costs`."""
        return tuple(self._indices)

    def costs(self, name: str) -> list[Cost]:
        """Return the cost of a row for each image that was processed."""
        return self._costs[name]

    def detections(self, name: str) -> list[Detections]:
        """Return the detections of a row in each image that was processed."""
        return self._found[name]

    def measurement(self, name: str) -> Measurement:
        """Return the results and cost of a row so far.

        Raises:
            AutoFocusError: no image could be processed.
        """
        if not self._indices:
            reason = f"; the first: {self.skipped[0].reason}" if self.skipped else ""
            raise AutoFocusError(f"none of the images could be processed{reason}")
        cost = sum_costs(self._costs[name])
        result = RunResult(self._indices, self._found[name], cost, self._seconds[name], self.skipped)
        scores = score("coco", self.dataset, result.detections, result.indices)
        return Measurement(scores, result, 0, Counter())

    def cpu(self, name: str) -> float:
        """Return the seconds of processor time of a row, of all threads but those that read.

        Other work on the machine makes a run slower, and hardly changes these.
        """
        return self._cpu[name]

    def fill(self, name: str) -> float:
        """Return the share of the detector's input pixels of a row that show a photograph."""
        (way,) = (way for way in self.ways if name in way.rows)
        if way.fill is not None:
            return way.fill()
        cost = sum_costs(self._costs[name])
        return float(cost.pixels.sum() / cost.padded_pixels.sum())

    def _readers(self, block: Sequence[int], read: list[_Times]) -> Iterator[tuple[int, Reader]]:
        """The images of a block; the seconds that reading each took are added to `read`."""

        def timed(index: int) -> np.ndarray:
            begin = _Times.now(time.thread_time)
            try:
                return self.dataset.image(index)
            finally:
                read.append(_Times.now(time.thread_time) - begin)

        return ((index, partial(timed, index)) for index in block)


def _ticked(stream: Generator, progress: Callable[[float], None] | None, ways: int) -> Iterator[Any]:
    """Yield from a stream with progress, and close the stream at the end, also after an error."""
    with contextlib.closing(stream):
        for one in stream:
            if progress is not None:
                progress(1 / ways)
            yield one


def _error_as_value(function: Callable[[], Any]) -> Any:
    """Return the result of a function, or the error of an image that failed."""
    try:
        return function()
    except (ImageError, DetectorError) as error:
        return error


def _same(value: Any) -> Any:
    return value
