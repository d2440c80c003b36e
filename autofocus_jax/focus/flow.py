"""The images of a window on their way through the cascade: queues of chips, batches in flight, finished walks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple, cast

import numpy as np

from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus import pyramid, stacking, walk
from autofocus_jax.focus.answers import read_host_answer, read_output
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.schedule import Waiting
from autofocus_jax.focus.walk import Chip, Found, Walk
from autofocus_jax.structures import (
    Bucket,
    ChipBatch,
    Cost,
    Detections,
    DetectorError,
    DetectorOutput,
    HostAnswer,
    ImageError,
    Placement,
)

# Chips of one bucket, never an empty batch, and where each filled row comes from (for an oracle; a real detector
# ignores it). May return device arrays that are still being computed. An attribute `concurrency` (default 1) says how
# many calls may run at once, each in a thread of its own.
Detect = Callable[[ChipBatch, Sequence[Placement]], DetectorOutput]

# What `detect` is in a plan whose buckets are Loose: it gets all chips of one image and scale, uint8 RGB [h, w, 3].
# A DetectorError that it raises is about that image.
HostDetect = Callable[[Sequence[np.ndarray], Sequence[Placement]], HostAnswer]

AnyDetect = Detect | HostDetect

_HOPELESS = 8  # images that a detector may fail on before it has answered for any


class Stage(NamedTuple):
    """Record of one image at one scale (image frame), for pictures and for measuring focus maps."""

    chips: np.ndarray  # [c, 4] float32, the chips processed
    focus: tuple[np.ndarray, ...]  # c focus maps, each cut at its chip's true size; empty at the last scale
    kept: Detections  # in the valid range and whole
    removed: Detections  # in the valid range, but cut by a border of its chip


class Outcome(NamedTuple):
    """Result of one image: its detections, or the reason why there are none."""

    key: Hashable  # as it came with the reader
    size: tuple[int, int] | None = None  # (height, width), image px
    detections: Detections | None = None  # None when there is an error
    cost: Cost | None = None  # of this image
    stages: list[Stage] | None = None  # one per scale, when they were asked for
    error: str | None = None  # why the image could not be read, or what the detector failed with
    regions: list[np.ndarray] | None = None  # by scale that it reached: [c, 4] int32, image frame, what was looked at
    image: np.ndarray | pyramid.Regions | None = None  # as it was read, when it was asked for


class Arrived(NamedTuple):
    """An image that was read."""

    key: Hashable
    image: np.ndarray | pyramid.Regions | ImageError
    seconds: float
    heat: np.ndarray | None = None  # of Plan.area for the image


class _Entry(NamedTuple):
    """A chip in a bucket's queue."""

    walk: Walk
    chip: Chip
    pixels: Future  # of (crop [h, w, 3] uint8 or pyramid.Part, seconds it took)


class Flow:
    """The images of a window and their chips: queued, in flight, or finished."""

    def __init__(self, detect: Detect | HostDetect, plan: Plan, keep_stages: bool, keep_images: bool, pool: Executor,
                 caller: Executor, goes_on: bool):  # fmt: skip
        self.detect, self.plan, self.pool, self.caller = detect, plan, pool, caller
        self.keep_stages, self.keep_images = keep_stages, keep_images
        self.goes_on = goes_on  # past an image that the detector fails on, where it is known which one
        self.failed, self.through = 0, 0  # images that the detector failed on, and that it answered to the end
        self.loose = isinstance(plan.buckets, Loose)
        self.arrived = 0
        self.order: deque[Walk | Outcome] = deque()  # that arrived, in order, until all before them are through
        self.results: deque[Future | Outcome] = deque()  # in order
        fixed = plan.buckets if isinstance(plan.buckets, tuple) else ()
        self.queues: dict[Bucket, deque[_Entry]] = {bucket: deque() for bucket in fixed}
        self.flying: deque[tuple[list[_Entry], Future]] = deque()
        self.device_free = 0.0  # when the device finished its last batch
        self.clock = threading.Lock()  # for device_free

    def waiting(self) -> list[Waiting]:
        """Return the queues that are not empty, for `decide`."""
        queued = [(bucket, queue) for bucket, queue in self.queues.items() if queue]
        return [Waiting(len(queue), bucket.batch, queue[0].walk.number) for bucket, queue in queued]

    def admit(self, arrived: Arrived) -> None:
        """Take in an image that was read."""
        key, image, seconds, heat = arrived
        if isinstance(image, ImageError):
            self.order.append(Outcome(key, error=str(image)))
        else:
            moving = walk.start(key, self.arrived, image, self.plan, seconds, heat)
            self.order.append(moving)
            for chips in moving.chips:
                self._enqueue(moving, chips)
            if not moving.awaited:  # nothing to look at
                self._advance(moving)
        self.arrived += 1
        self._retire()

    def send(self, position: int) -> None:
        """Send a batch to the detector, from the queue at this position of `waiting`."""
        bucket, queue = [(bucket, queue) for bucket, queue in self.queues.items() if queue][position]
        entries = [queue.popleft() for _ in range(min(bucket.batch, len(queue)))]
        if not queue and not isinstance(self.plan.buckets, tuple):
            del self.queues[bucket]  # sizes without number would leave as many empty queues
        crops = []
        for entry in entries:
            try:
                pixels, seconds = entry.pixels.result()
            except ImageError as error:  # its other chips are under way, so it goes on and fails at its end
                entry.walk.damage = error
                pixels, seconds = np.zeros((*entry.chip.size, 3), np.uint8), 0.0
            crops.append(pixels)
            entry.walk.seconds["resize"] += seconds
            walk.spend(entry.walk, entry.chip, 0 if self.loose else 1, bucket.height * bucket.width)
        empty = bucket.batch - len(entries)
        walk.spend(entries[-1].walk, entries[-1].chip, empty, empty * bucket.height * bucket.width)
        run = self._detect_loose if self.loose else self._detect
        answer = self.caller.submit(run, entries, crops)
        self.flying.append((entries, answer))

    def receive(self) -> None:
        """Take the oldest batch from the device. Completed walks continue with their next scale or with stacking."""
        entries, future = self.flying.popleft()
        begin = time.perf_counter()
        try:
            found, busy = future.result()
        except (DetectorError, ImageError) as error:
            if not (self.goes_on and self.loose):
                raise
            self._fail(entries[0].walk, error)
            return
        waited = time.perf_counter() - begin
        for entry, answer in zip(entries, found, strict=True):
            entry.walk.seconds["device"] += busy / len(entries)
            entry.walk.seconds["waiting"] += waited / len(entries)
            walk.receive(entry.walk, entry.chip, answer)
            if not entry.walk.awaited:
                self._advance(entry.walk)
        self._retire()

    def finished(self, most: int) -> Iterator[Outcome]:
        """Yield ready outcomes in order. Wait for further ones only while more than `most` are pending."""
        while self.results:
            first = self.results[0]
            if isinstance(first, Future) and not first.done() and len(self.results) <= most:
                return
            self.results.popleft()
            yield first.result() if isinstance(first, Future) else first

    def _enqueue(self, moving: Walk, chips: Sequence[Chip]) -> None:
        for chip in chips:
            pixels = self.pool.submit(_crop, cast(np.ndarray, moving.image), chip, self.loose)
            self.queues.setdefault(chip.bucket, deque()).append(_Entry(moving, chip, pixels))

    def _advance(self, moving: Walk) -> None:
        if moving.damage is not None:
            moving.outcome = Outcome(moving.key, moving.size, error=str(moving.damage))
            moving.image = None
            return
        begin = time.perf_counter()
        regions = walk.next_regions(moving, self.plan)
        moving.seconds["chips"] += time.perf_counter() - begin
        if len(regions):
            walk.enter(moving, regions, self.plan)
            self._enqueue(moving, moving.chips[-1])
            return
        if not self.keep_images:
            moving.image = None
        self.through += 1
        moving.outcome = self.pool.submit(_finish, moving, self.plan, self.keep_stages)

    def _fail(self, moving: Walk, error: DetectorError | ImageError) -> None:
        """End an image whose loose chips, all of one scale, the detector failed on."""
        hopeless = isinstance(error, DetectorError)  # a file that cannot be read says nothing of the detector
        self.failed += hopeless
        if hopeless and self.failed == _HOPELESS and not self.through:
            message = f"the detector failed on each of the first {_HOPELESS} images, at last: {error}"
            raise DetectorError(message) from error
        moving.outcome = Outcome(moving.key, moving.size, error=str(error))
        self._retire()

    def _retire(self) -> None:
        while self.order:
            first = self.order[0]
            if isinstance(first, Walk) and first.outcome is None:
                return
            self.results.append(first.outcome if isinstance(first, Walk) else first)
            self.order.popleft()

    def _detect(self, entries: list[_Entry], crops: list[np.ndarray]) -> tuple[list[Found], float]:
        """Turn crops into answers, in a thread of `caller`; also return for how long the device was busy with them."""
        chips = [entry.chip for entry in entries]
        batch = bucket_ops.pad(crops, chips[0].bucket)
        sent = time.perf_counter()
        output = cast(Detect, self.detect)(batch, [chip.place for chip in chips])
        np.asarray(getattr(output, "valid", None))  # waits for the device
        return read_output(chips, output, self.plan), self._busy_since(sent)

    def _detect_loose(self, entries: list[_Entry], crops: list[np.ndarray]) -> tuple[list[Found], float]:
        """`_detect` of a detector on the host, for all chips of one image and scale."""
        chips = [entry.chip for entry in entries]
        sent = time.perf_counter()
        answer = cast(HostDetect, self.detect)(crops, [chip.place for chip in chips])
        busy = self._busy_since(sent)
        found = read_host_answer(chips, answer, self.plan)
        walk.spend(entries[0].walk, chips[0], answer.runs, answer.pixels)
        return found, busy

    def _busy_since(self, sent: float) -> float:
        """Seconds that the device was busy with a batch that was sent then and is done now, and with no other."""
        ready = time.perf_counter()
        with self.clock:
            busy = max(0.0, ready - max(sent, self.device_free))
            self.device_free = max(ready, self.device_free)
        return busy


def _crop(image: np.ndarray | pyramid.Regions, chip: Chip, loose: bool) -> tuple[np.ndarray | pyramid.Part, float]:
    if loose and not isinstance(image, np.ndarray):
        return pyramid.Part(image, chip.place.box, chip.size), 0.0  # a loose chip may be as large as the image
    begin = time.perf_counter()
    pixels = pyramid.crop(image, chip.place.box, chip.factor, chip.size)[0]
    return pixels, time.perf_counter() - begin


def _finish(moving: Walk, plan: Plan, keep_stages: bool) -> Outcome:
    begin = time.perf_counter()
    parts = walk.scale_detections(moving, plan)
    detections, stacked = stacking.stack(parts, moving.size, plan.scales, plan.stacking)
    stages = None
    if keep_stages:
        maps = [tuple(found.focus for found in answers if found is not None and found.focus is not None)
                for answers in moving.found]  # fmt: skip
        maps += [()] * (len(plan.scales) - len(maps))
        stages = [Stage(part.chips, focus, *stage) for part, focus, stage in zip(parts, maps, stacked)]
    moving.seconds["stacking"] += time.perf_counter() - begin
    cost = walk.cost(moving, plan)
    return Outcome(moving.key, moving.size, detections, cost, stages, None, moving.regions, moving.image)
