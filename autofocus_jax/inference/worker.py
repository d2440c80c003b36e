"""The unit of work of every program that detects: a detector compiled once, and rows of images into rows of results.

A Worker knows nothing of what calls it: one process (api.Model is made of one), or many on a cluster (batch.cluster).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from autofocus_jax import parallel
from autofocus_jax.config import Config
from autofocus_jax.data.image import decode_image, read_image
from autofocus_jax.detector.model import Variables
from autofocus_jax.focus.cascade import Outcome
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.engine import Reader, stream
from autofocus_jax.structures import AutoFocusError, Bucket, ChipBatch, DetectorOutput, Placement


class Row(NamedTuple):
    """What is known of one image: what was found, or why it could not be read."""

    id: str
    height: int | None  # px; None where the image could not be read, as all that follows but `error`
    width: int | None
    boxes: np.ndarray | None  # [n, 4] float32 xyxy, image frame, best first
    scores: np.ndarray | None  # [n] float32
    labels: np.ndarray | None  # [n] int32
    pixels: np.ndarray | None  # [scales] int64, level pixels processed
    full_pixels: np.ndarray | None  # [scales] int64, pixels of the whole levels
    error: str | None


def error_row(name: str, reason: str) -> Row:
    """The Row of an image that could not be read."""
    return Row(name, *[None] * (len(Row._fields) - 2), reason)


class Worker:
    """A detector with the AutoFocus cascade around it, its weights on the devices of this process.

    Batches are split over the devices. Calls may come from several threads at once. A program is compiled once for each
    padded shape, when it is first needed, or all of them at once by `warm_up`. What it answers for an image depends on
    the images beside it by float rounding at most.
    """

    def __init__(self, weights: Variables, settings: Config, devices: Sequence[jax.Device] | None = None):
        """weights: the variables of settings.detector. devices: by default all of this process."""
        devices = jax.local_devices() if devices is None else list(devices)
        self.settings = settings
        self._weights, self._devices = weights, devices
        spread = dataclasses.replace(settings, buckets=parallel.spread(settings.buckets, len(devices)))
        self.detector = compile_detector(spread, weights, devices)

    def changed(self, settings: Config) -> Worker:
        """The same weights with other settings of the same detector; programs are shared unless the buckets differ."""
        if settings.buckets != self.settings.buckets:
            return Worker(self._weights, settings, self._devices)
        other = copy.copy(self)
        other.settings = settings
        return other

    def detect(self, chips: ChipBatch, placements: Sequence[Placement] = ()) -> DetectorOutput:
        """The detector alone, a focus.cascade.Detect; returns at once, with arrays that are still being computed."""
        return self.detector(chips, placements)

    def warm_up(self, progress: Callable[[Bucket], None] | None = None) -> None:
        """Compiles every bucket's program; calls `progress` after each."""
        self.detector.warm_up(progress)

    def stream(
        self,
        readers: Iterable[Reader],
        stages: bool = False,
        window: int | None = None,
        threads: int | None = None,
    ) -> Iterator[Outcome]:
        """Outcomes of any number of images, in their order; readers return uint8 RGB [h, w, 3] or raise ImageError.

        window: images whose chips share batches, and a bound of those that are held; by default Config.window. The rest
        as inference.engine.stream.
        """
        config = self.settings
        return stream(readers, config.scales, self.detect, self.detector.buckets, config.stacking,
                      shrink=config.shrink, window=window or config.window, threads=threads,
                      keep_stages=stages)  # fmt: skip

    def rows(
        self,
        images: Iterable[tuple[str, Reader]],
        score: float = 0.0,
        window: int | None = None,
        threads: int | None = None,
    ) -> Iterator[Row]:
        """A Row of each (id, reader), in their order; a reader's ImageError becomes a Row with `error`.

        score: detections below it are left out. The rest as `stream`.
        """
        names: dict[int, str] = {}  # of what is in flight, by position

        def readers() -> Iterator[Reader]:
            for position, (name, reader) in enumerate(images):
                names[position] = name
                yield reader

        for outcome in self.stream(readers(), window=window, threads=threads):
            yield _row(names.pop(outcome.index), outcome, score)

    def __call__(self, batch: Mapping[str, Sequence[Any]], score: float = 0.0) -> dict[str, list[Any]]:
        """A batch of rows, as columns, into rows of results: the columns of Row, in the same order.

        batch: "id", and "bytes" (of image files) or "path" (of local image files); where a row's bytes are None its
        path counts. Orientation tags are followed. Raises AutoFocusError for a batch without these columns.
        """
        missing = [name for name, there in (("id", "id" in batch), ("bytes or path", {"bytes", "path"} & set(batch)))
                   if not there]  # fmt: skip
        if missing:
            raise AutoFocusError(f"a batch without column {' and '.join(missing)}; it has {', '.join(batch) or 'none'}")
        names = [str(name) for name in batch["id"]]
        nothing = [None] * len(names)
        columns = zip(names, batch.get("bytes", nothing), batch.get("path", nothing), strict=True)
        images = ((name, partial(_read, name, content, path)) for name, content, path in columns)
        found = list(self.rows(images, score))
        return {field: [getattr(row, field) for row in found] for field in Row._fields}


def _read(name: str, content: bytes | None, path: str | None) -> np.ndarray:
    if content is None and path is not None:
        return read_image(path, oriented=True)
    return decode_image(bytes(content or b""), name, oriented=True)


def _row(name: str, outcome: Outcome, score: float) -> Row:
    if outcome.error is not None:
        return error_row(name, outcome.error)
    boxes, scores, labels = outcome.detections
    keep = scores >= score
    return Row(name, *outcome.size, boxes[keep], scores[keep], labels[keep], outcome.info.pixels,
               outcome.info.full_pixels, None)  # fmt: skip
