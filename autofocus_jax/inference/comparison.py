"""Several ways to process the same images, run side by side: image by image, so that their times can be compared."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import engine
from autofocus_jax.inference.engine import RunResult
from autofocus_jax.inference.measure import Measurement, score
from autofocus_jax.inference.pieces import Skipped
from autofocus_jax.structures import AutoFocusError, Cost, Dataset, Detections, DetectorError, ImageError

HOPELESS = 8  # images in a row from the first on; a detector that fails on all of them fails on every image

Answer = tuple[Detections, Cost]  # of one image


class Way(NamedTuple):
    """A way to process an image, which may end in several rows: what they share is done once and counted in each."""

    share: Callable[[Hashable, np.ndarray], Any]  # (key of the image, uint8 RGB [h, w, 3]) -> what `rows` get
    rows: Mapping[str, Callable[[Any], Answer]]  # by name


def by_plan(name: str, detect: Detect, plan: Plan) -> Way:
    """Return the way of the cascade, as a row of that name."""

    def run(key: Hashable, image: np.ndarray) -> Answer:
        (outcome,) = engine.stream([(key, partial(_same, image))], detect, plan)
        if outcome.error is not None:
            raise DetectorError(outcome.error)
        return outcome.detections, outcome.cost

    return Way(run, {name: _same})


class Comparison:
    """Ways that are run over images of a dataset, and what each row found and cost so far.

    Attributes:
        reading: seconds that reading and decoding took. They count in no row, because rows share decoded images.
        running: seconds that all ways together took, what rows share counted once.
        skipped: images that could not be read, or that the detector failed on in any of the ways.
    """

    def __init__(self, dataset: Dataset, ways: Sequence[Way]):
        """Take the ways; nothing is run yet. AutoFocusError where two rows have a name."""
        names = [name for way in ways for name in way.rows]
        double = [name for name, count in Counter(names).items() if count > 1]
        if double:
            raise AutoFocusError(f"two rows are called {double[0]!r}; leave one out")
        self.dataset, self.ways, self.names = dataset, tuple(ways), tuple(names)
        self.reading, self.running, self.skipped = 0.0, 0.0, []
        self._indices: list[int] = []
        self._failures = 0  # images that the detector failed on
        self._found: dict[str, list[Detections]] = {name: [] for name in names}
        self._costs: dict[str, list[Cost]] = {name: [] for name in names}
        self._seconds = dict.fromkeys(names, 0.0)

    def run(self, indices: Sequence[int], progress: Callable[[int], None] | None = None) -> None:
        """Run every way over these images, which are added to those before. Those that fail count in no row.

        Each image begins with another way. The very first one is run twice, and its second run counts, because
        detectors are slower when they see a shape for the first time.

        Args:
            indices: which images.
            progress: called with the number of images that were dealt with since the last call.

        Raises:
            DetectorError: the detector failed on each of the first HOPELESS images.
        """
        for index in indices:
            try:
                self._run_one(index)
            except (ImageError, DetectorError) as error:
                self.skipped.append(Skipped(index, self.dataset.info(index).file_name, str(error)))
                self._failures += isinstance(error, DetectorError)
                if not self._indices and self._failures == HOPELESS:
                    raise DetectorError(f"the detector failed on each of the first {HOPELESS} images, at last: "
                                        f"{error}") from error  # fmt: skip
            if progress is not None:
                progress(1)

    def _run_one(self, index: int) -> None:
        begin = time.perf_counter()
        image = self.dataset.image(index)
        reading = time.perf_counter() - begin
        if not self._indices:
            for way in self.ways:
                _run(way, index, image)
        start = len(self._indices) % max(1, len(self.ways))
        answers, begin = {}, time.perf_counter()
        for way in (*self.ways[start:], *self.ways[:start]):
            answers |= _run(way, index, image)
        for name, ((detections, cost), seconds) in answers.items():
            self._found[name].append(detections)
            self._costs[name].append(cost)
            self._seconds[name] += seconds
        self.running += time.perf_counter() - begin
        self.reading += reading
        self._indices.append(index)

    @property
    def images(self) -> int:
        """Images that were processed."""
        return len(self._indices)

    def detections(self, name: str) -> list[Detections]:
        """Return what a row found in each image that was processed."""
        return self._found[name]

    def measurement(self, name: str) -> Measurement:
        """Return what a row found and cost so far; AutoFocusError where no image could be processed."""
        if not self._indices:
            reason = f"; the first: {self.skipped[0].reason}" if self.skipped else ""
            raise AutoFocusError(f"none of the images could be processed{reason}")
        costs = self._costs[name]
        cost = sum(costs[1:], costs[0])
        result = RunResult(self._indices, self._found[name], cost, self._seconds[name], self.skipped)
        scores = score("coco", self.dataset, result.detections, result.indices)
        return Measurement(scores, result, 0, Counter())


def _run(way: Way, key: Hashable, image: np.ndarray) -> dict[str, tuple[Answer, float]]:
    """The answer of each row, and the seconds that it took, those of what rows share included."""
    begin = time.perf_counter()
    shared = way.share(key, image)
    sharing = time.perf_counter() - begin
    answers = {}
    for name, finish in way.rows.items():
        begin = time.perf_counter()
        answer = finish(shared)
        answers[name] = answer, sharing + time.perf_counter() - begin
    return answers


def _same(value: Any) -> Any:
    return value
