"""The loop over scales, for a stream of images: detect, turn focus maps into chips, zoom into them, stack the results.

The detector is an argument and so is the rule that makes chips; the full image pyramid is this same loop with
`chips.whole_level`, and a single scale is the loop over that scale alone.

Images pass through a window: chips of all images in it, whatever their scale, are pooled per bucket, so that the first
scale of later images fills the batches that the last scale of earlier ones leaves open. What is dispatched when depends
on the images alone, never on the clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import buckets as bucket_ops
from autofocus_jax.focus import pyramid, stacking, walk
from autofocus_jax.focus.chips import ChipFunction, focus_chips
from autofocus_jax.focus.walk import Chip, Found, Walk, add_info, no_cost, spend
from autofocus_jax.structures import (
    AutoFocusError,
    Bucket,
    CascadeInfo,
    ChipBatch,
    Detections,
    DetectorOutput,
    ImageError,
    Placement,
    Scale,
)

# Chips of one bucket, never an empty batch, and where each filled row comes from (for an oracle; a real detector
# ignores it). May return device arrays that are still being computed. Called from several threads at once.
Detect = Callable[[ChipBatch, Sequence[Placement]], DetectorOutput]

# Batches on the device while the host prepares the next: it never idles, and memory stays bounded. Each is dispatched
# by a thread of its own, since a CPU runs the programs of one thread one after the other, which leaves cores idle; the
# third keeps them busy while the thread of a batch that is done waits for its turn to run Python.
IN_FLIGHT = 3


class Stage(NamedTuple):
    """What happened to one image at one scale, for pictures and for judging the focus maps (image frame)."""

    chips: np.ndarray  # [c, 4] float32, the chips processed
    focus: tuple[np.ndarray, ...]  # c focus maps, each cut at its chip's true size; empty at the last scale
    kept: Detections  # in the valid range and whole
    removed: Detections  # in the valid range, but cut by a border of its chip


class Outcome(NamedTuple):
    """What a stream has to say of one image."""

    index: int  # position of the image in the stream
    size: tuple[int, int] | None  # (height, width), image px
    detections: Detections | None  # None when it could not be read
    info: CascadeInfo | None  # what this image cost
    stages: list[Stage] | None  # one per scale, when they were asked for
    error: str | None  # why it could not be read
    regions: list[np.ndarray] | None = None  # by scale that it reached: [c, 4] int32, image frame, what was looked at


def cascade(
    images: Sequence[np.ndarray],
    scales: Sequence[Scale],
    detect: Detect,
    buckets: Sequence[Bucket],
    stacking_config: StackingConfig,
    chip_functions: Sequence[ChipFunction] | None = None,
    *,
    shrink: float = 0.0,
) -> tuple[list[Detections], CascadeInfo, list[list[Stage]]]:
    """Runs a few images through the scales, coarse to fine; `stream` does the same for any number of them.

    images: uint8 RGB [h, w, 3] each. chip_functions: what turns a focus map into chips, one per scale but the last;
    by default Algorithm 1 with the rule of each scale. They see each chip's map in that chip's own frame, so chips of
    one parent are disjoint and lie inside it, and those of different parents are disjoint because the parents are.
    shrink: share of their sides, at most, that chips may lose to fit a smaller bucket (buckets.fit).

    Returns the detections of each image (image frame), what it cost, and a Stage per image and scale. Raises
    ImageError for what is no image, BucketError for a chip that no bucket holds, AutoFocusError for chip_functions
    that do not fit the scales.
    """
    for position, image in enumerate(images):
        _check(image, position)
    info = no_cost(len(scales))
    detections, stages = [], []
    settings = scales, detect, buckets, stacking_config, chip_functions
    for outcome in stream(images, *settings, shrink=shrink, window=max(1, len(images)), keep_stages=True):
        info = add_info(info, outcome.info)
        detections.append(outcome.detections)
        stages.append(outcome.stages)
    return detections, info, stages


def stream(
    images: Iterable[np.ndarray | ImageError],
    scales: Sequence[Scale],
    detect: Detect,
    buckets: Sequence[Bucket],
    stacking_config: StackingConfig,
    chip_functions: Sequence[ChipFunction] | None = None,
    *,
    shrink: float = 0.0,
    window: int = 32,
    threads: int = 1,
    keep_stages: bool = False,
) -> Generator[Outcome, None, None]:
    """Yields the Outcome of each image, in their order; the arguments are those of `cascade`.

    An ImageError among the images becomes an Outcome with `error`. At most `window` images, with their crops and
    results, are held at a time. `threads` threads crop, resize and stack while the device works; IN_FLIGHT more call
    `detect` and wait for what it returns, so it may be called from several threads at once.
    keep_stages: fill Outcome.stages. Raises what `cascade` raises, and whatever `images` or `detect` raise.
    """
    functions = _functions(scales, chip_functions)
    if window < 1 or threads < 1:
        raise AutoFocusError(f"a stream with a window of {window} and {threads} threads; want at least 1 of each")
    with contextlib.ExitStack() as stack:
        pool, fetcher = (ThreadPoolExecutor(count, thread_name_prefix="cascade") for count in (threads, IN_FLIGHT))
        for executor in (fetcher, pool):
            stack.callback(executor.shutdown, cancel_futures=True)
        flow = _Flow(scales, functions, detect, buckets, stacking_config, shrink, keep_stages, pool, fetcher)
        source, left = enumerate(images), True
        while True:
            if left and len(flow.order) < window and not flow.has_full_batch():
                index, image = next(source, (None, None))
                left = index is not None
                if left:
                    flow.admit(index, image)
            # A batch that is not full goes only when no more images may come in and the device is about to idle: what
            # is in flight may still fill it.
            elif len(flow.flying) <= IN_FLIGHT and flow.dispatch(partial_too=len(flow.flying) < IN_FLIGHT - 1):
                pass
            elif flow.flying:
                flow.receive()
            yield from flow.finished(wait=not (left or flow.order) or len(flow.results) > window)
            if not (left or flow.order or flow.results):
                return


class _Entry(NamedTuple):
    """A chip in a bucket's queue."""

    walk: Walk
    chip: Chip
    pixels: Future  # of (crop [h, w, 3] uint8, seconds it took)


class _Flow:
    """The images of a window and their chips: waiting in queues, flying on the device, coming back."""

    def __init__(self, scales, functions, detect, buckets, stacking_config, shrink, keep_stages, pool, fetcher):
        self.scales, self.functions, self.detect = scales, functions, detect
        self.buckets, self.stacking, self.keep_stages = buckets, stacking_config, keep_stages
        self.shrink, self.pool, self.fetcher = shrink, pool, fetcher
        self.shapes = bucket_ops.shapes(buckets)
        self.order: deque[Walk | Outcome] = deque()  # admitted, in order, until all before them are through
        self.done: dict[int, Future] = {}  # by index: Outcomes of walks that are through
        self.results: deque[Future | Outcome] = deque()  # in order
        self.chips: dict[int, list[Chip]] = {}  # by index: chips of the walk's present scale
        self.queues: list[deque[_Entry]] = [deque() for _ in buckets]
        self.flying: deque[tuple[list[_Entry], Bucket, Future]] = deque()
        self.device_free = 0.0  # when the device finished its last batch
        self.clock = threading.Lock()  # for device_free

    def admit(self, index: int, image: np.ndarray | ImageError) -> None:
        if isinstance(image, ImageError):
            self.order.append(Outcome(index, None, None, None, None, str(image)))
        else:
            _check(image, index)
            arriving = walk.start(index, image, self.scales)
            self.order.append(arriving)
            self._enqueue(arriving)
        self._retire()

    def has_full_batch(self) -> bool:
        return any(len(queue) >= bucket.batch for queue, bucket in zip(self.queues, self.buckets))

    def dispatch(self, partial_too: bool) -> bool:
        """Sends one batch to the device; False when there is none to send. The oldest image's full batch goes first."""
        filled = [min(1.0, len(queue) / bucket.batch) for queue, bucket in zip(self.queues, self.buckets)]
        fullest = max(filled, default=0.0)
        if fullest == 0.0 or (fullest < 1.0 and not partial_too):
            return False
        chosen = [position for position, share in enumerate(filled) if share == fullest]
        position = min(chosen, key=lambda position: self.queues[position][0].walk.index)
        bucket, queue = self.buckets[position], self.queues[position]
        entries = [queue.popleft() for _ in range(min(bucket.batch, len(queue)))]
        crops = []
        for entry in entries:
            pixels, seconds = entry.pixels.result()
            crops.append(pixels)
            spend(entry.walk.info, "resize", seconds)
            entry.walk.info.padded_pixels[entry.chip.place.scale - 1] += bucket.height * bucket.width
        empty = (bucket.batch - len(entries)) * bucket.height * bucket.width
        entries[-1].walk.info.padded_pixels[entries[-1].chip.place.scale - 1] += empty
        answer = self.fetcher.submit(self._detect, [entry.chip for entry in entries], crops, bucket)
        self.flying.append((entries, bucket, answer))
        return True

    def receive(self) -> None:
        """Takes the oldest batch from the device; walks it completes go on to their next scale or to stacking."""
        entries, _, future = self.flying.popleft()
        begin = time.perf_counter()
        found, busy = future.result()
        waited = time.perf_counter() - begin
        for entry, answer in zip(entries, found):
            spend(entry.walk.info, "device", busy / len(entries))
            spend(entry.walk.info, "waiting", waited / len(entries))
            walk.receive(entry.walk, entry.chip, answer)
            if not entry.walk.awaited:
                self._advance(entry.walk)
        self._retire()

    def finished(self, wait: bool) -> Iterable[Outcome]:
        """Outcomes that are ready, in order; with `wait`, also those that are still being stacked."""
        while self.results:
            first = self.results[0]
            if isinstance(first, Future) and not wait and not first.done():
                return
            self.results.popleft()
            yield first.result() if isinstance(first, Future) else first

    def _enqueue(self, moving: Walk) -> None:
        chips = walk.place(moving, self.scales, self.shapes, self.shrink)
        self.chips[moving.index] = chips
        for chip in chips:
            pixels = self.pool.submit(_crop, moving.image, chip)
            self.queues[chip.bucket].append(_Entry(moving, chip, pixels))

    def _advance(self, moving: Walk) -> None:
        scale = len(moving.regions)
        begin = time.perf_counter()
        if scale < len(self.scales):
            regions = walk.zoom(moving, self.chips[moving.index], self.functions[scale - 1])
            spend(moving.info, "chips", time.perf_counter() - begin)
            if len(regions):
                moving.regions.append(regions)
                self._enqueue(moving)
                return
        moving.image = None
        del self.chips[moving.index]
        self.done[moving.index] = self.pool.submit(_finish, moving, self.scales, self.stacking, self.keep_stages)

    def _retire(self) -> None:
        while self.order:
            first = self.order[0]
            if isinstance(first, Walk):
                if first.index not in self.done:
                    return
                self.results.append(self.done.pop(first.index))
            else:
                self.results.append(first)
            self.order.popleft()

    def _detect(self, chips: list[Chip], crops: list[np.ndarray], bucket: Bucket) -> tuple[list[Found], float]:
        """Runs in a thread of the fetcher: crops to answers, and for how long the device was busy for it alone."""
        batch = bucket_ops.pad(crops, bucket)
        sent = time.perf_counter()
        output = self.detect(batch, [chip.place for chip in chips])
        np.asarray(output.valid)
        ready = time.perf_counter()
        with self.clock:
            busy = max(0.0, ready - max(sent, self.device_free))
            self.device_free = max(ready, self.device_free)
        want_focus = [chip.place.scale < len(self.scales) for chip in chips]
        return walk.read_output(chips, output, self.stacking.score_threshold, want_focus), busy


def _crop(image: np.ndarray, chip: Chip) -> tuple[np.ndarray, float]:
    begin = time.perf_counter()
    pixels = pyramid.crop(image, chip.place.box, chip.factor, chip.size)[0]
    return pixels, time.perf_counter() - begin


def _finish(moving: Walk, scales: Sequence[Scale], config: StackingConfig, keep_stages: bool) -> Outcome:
    begin = time.perf_counter()
    parts = walk.scale_detections(moving)
    detections, stacked = stacking.stack(parts, moving.size, scales, config)
    stages = None
    if keep_stages:
        maps = [tuple(answer.focus for answer in answers if answer.focus is not None) for answers in moving.found]
        maps += [()] * (len(scales) - len(maps))
        stages = [Stage(part.chips, focus, *stage) for part, focus, stage in zip(parts, maps, stacked)]
    spend(moving.info, "stacking", time.perf_counter() - begin)
    return Outcome(moving.index, moving.size, detections, moving.info, stages, None, moving.regions)


def _functions(scales: Sequence[Scale], given: Sequence[ChipFunction] | None) -> list[ChipFunction]:
    if not scales:
        raise AutoFocusError("the cascade got no scales; give it at least one")
    if given is not None:
        if len(given) != len(scales) - 1:
            raise AutoFocusError(
                f"{len(given)} chip functions for {len(scales)} scales; give one per scale but the last"
            )
        return list(given)
    for number, scale in enumerate(scales[:-1], 1):
        if scale.chips is None:
            raise AutoFocusError(f"scale {number} has no chip rule; give it one, or pass chip_functions")
    return [partial(focus_chips, rule=scale.chips) for scale in scales[:-1]]


def _check(image: np.ndarray, position: int) -> None:
    array = isinstance(image, np.ndarray)
    if not (array and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size):
        came = f"{image.dtype} {list(image.shape)}" if array else type(image).__name__
        raise ImageError(f"image {position} of the window is {came}; give a NumPy array of uint8 RGB [h, w, 3]")
