"""The loop over scales for a stream of images: detect, turn focus maps into chips, zoom into them, stack the results.

The detector and the plan are arguments; the plan's rules make chips. `Plan.pyramid()` makes this loop the full image
pyramid, and `Plan.alone(n)` a single scale.

Images pass through a window. Chips of all images in the window are pooled per bucket, whatever their scale. So scale 1
of later images fills the batches that the last scale of earlier images leaves open. `schedule.decide` chooses the next
action from the images alone, never from the clock.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from autofocus_jax.focus.ahead import ahead
from autofocus_jax.focus.flow import AnyDetect, Arrived, Detect, Flow, Outcome, Stage
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.pyramid import Regions
from autofocus_jax.focus.schedule import Admit, Done, Receive, Send, State, decide
from autofocus_jax.focus.walk import check_image
from autofocus_jax.structures import AutoFocusError, Cost, Detections, ImageError

__all__ = ["AnyDetect", "Detect", "Outcome", "Reader", "Stage", "cascade", "stream"]

# Gives an image, uint8 RGB [h, w, 3] or Regions, or raises ImageError.
Reader = Callable[[], np.ndarray | Regions]

_RESULTS = 2  # finished images that may wait for the caller where each of them holds its pixels


def cascade(
    images: Sequence[np.ndarray], detect: AnyDetect, plan: Plan, keys: Sequence[Hashable] | None = None
) -> tuple[list[Detections], Cost, list[list[Stage]]]:
    """Run a few images through the scales, coarse to fine. `stream` does the same for any number of images.

    Args:
        images: uint8 RGB [h, w, 3] each; all share batches.
        detect: the detector.
        plan: the scales, buckets and rules.
        keys: names of the images in placements; by default their positions.

    Returns:
        Detections of each image (image frame), the cost of all images, and for each image a Stage per scale.

    Raises:
        ImageError: an image is no array of uint8 RGB, or `plan.area` has no map for it.
        BucketError: a chip is larger than every bucket.
        DetectorError: the detector fails, or its answer does not fit its chips.
        RuleError: a rule returns boxes that are no valid chips.
    """
    keys = range(len(images)) if keys is None else keys
    for key, image in zip(keys, images, strict=True):
        check_image(image, key)
    readers = ((key, partial(_same, image)) for key, image in zip(keys, images))
    outcomes = list(_stream(readers, detect, plan, max(1, len(images)), 1, True, False, goes_on=False))
    for done in outcomes:
        if done.error is not None:
            raise ImageError(done.error)
    cost = sum((done.cost for done in outcomes if done.cost is not None), Cost.none(len(plan.scales)))
    detections = [done.detections for done in outcomes if done.detections is not None]
    return detections, cost, [done.stages for done in outcomes if done.stages is not None]


def stream(
    images: Iterable[tuple[Hashable, Reader]],
    detect: AnyDetect,
    plan: Plan,
    *,
    threads: int = 1,
    keep_stages: bool = False,
    keep_images: bool = False,
) -> Generator[Outcome, None, None]:
    """Yield the Outcome of every image, in the order of the readers, which run in threads ahead of the device.

    An ImageError of a reader or of `plan.area` becomes an Outcome with `error`. If the plan's buckets are Loose, a
    DetectorError does too, because a call then holds chips of one image only. Other errors end the stream. At most 2 *
    `plan.window` + 4 decoded images are held at a time, whatever the number of threads.

    Args:
        images: (key, reader) of each image. The caller chooses the key; it comes back in Outcome and Placement.
        detect: the detector. `detect.concurrency` threads call it at once (default 1).
        plan: the scales, buckets and rules.
        threads: number of reading threads, and of threads that crop, resize and stack.
        keep_stages: fill Outcome.stages.
        keep_images: fill Outcome.image.

    Raises:
        ImageError: a reader returns no array of uint8 RGB.
        BucketError: as `cascade`.
        RuleError: as `cascade`.
        DetectorError: as `cascade` for a detector of batches; for a host detector, if it fails on all of the first
            images.
    """
    return _stream(images, detect, plan, plan.window, threads, keep_stages, keep_images, goes_on=True)


def _stream(images, detect, plan, window, threads, keep_stages, keep_images, goes_on) -> Generator[Outcome, None, None]:
    concurrency = getattr(detect, "concurrency", 1)
    if threads < 1 or concurrency < 1:
        raise AutoFocusError(f"a stream needs at least 1 thread and a concurrency of at least 1, got {threads} and "
                             f"{concurrency}")  # fmt: skip
    readers = (partial(_read, key, reader, plan) for key, reader in images)
    with contextlib.ExitStack() as stack:
        reading = ahead(readers, threads, min(2 * threads + 1, window), "read")
        arriving = stack.enter_context(contextlib.closing(reading))
        # Threads of the detector and of the host apart: the former only wait.
        caller, pool = (ThreadPoolExecutor(count, thread_name_prefix="cascade") for count in (concurrency, threads))
        for executor in (caller, pool):
            stack.callback(executor.shutdown, cancel_futures=True)
        flow = Flow(detect, plan, keep_stages, keep_images, pool, caller, goes_on)
        most = min(_RESULTS, window) if keep_images else window
        more = True
        while True:
            match decide(State(more, len(flow.order), window, flow.waiting(), len(flow.flying), concurrency)):
                case Admit():
                    arrived = next(arriving, None)
                    more = arrived is not None
                    if arrived is not None:
                        flow.admit(arrived)
                case Send(position):
                    flow.send(position)
                case Receive():
                    flow.receive()
                case Done():
                    yield from flow.finished(0)
                    return
            yield from flow.finished(most)


def _read(key: Hashable, reader: Reader, plan: Plan) -> Arrived:
    begin = time.perf_counter()
    heat = None
    try:
        image: np.ndarray | Regions | ImageError = reader()
        if plan.area is not None and not isinstance(image, np.ndarray):
            raise ImageError(f"image {key!r} is read by windows, and a given area wants it whole; leave the area out")
        if plan.area is not None and isinstance(image, np.ndarray) and image.ndim == 3:
            heat = plan.area.map_of(key, image.shape[:2])
    except ImageError as error:
        image = error
    return Arrived(key, image, time.perf_counter() - begin, heat)


def _same(image: np.ndarray) -> np.ndarray:
    return image
