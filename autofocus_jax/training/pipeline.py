"""From training chips to TrainBatches: decode, crop, resize, flip, label, pad; ahead of the device, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import grain
import numpy as np

from autofocus_jax.boxes import area, clip, scale, shift
from autofocus_jax.config import Config
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.focus.pyramid import crop, factor
from autofocus_jax.structures import IGNORE, STRIDE, AutoFocusError, ChipBatch, Dataset, ImageError, TrainBatch
from autofocus_jax.training import augmentation, sampling
from autofocus_jax.training.sampling import Proposals, TrainChip, TrainChips, in_range

PATIENCE = 64  # rows in a row whose image cannot be read, after which something else must be wrong


class Position(NamedTuple):
    """Epoch and number of the next batch, both from 0."""

    epoch: int = 0
    batch: int = 0


def load_chip(dataset: Dataset, chip: TrainChip, config: Config, generator: np.random.Generator) -> TrainBatch:
    """Return one row of a TrainBatch, without the leading axis, changed at random by training.augmentation.

    A box that the chip cuts trains, cut to the chip, if at least min_visible of its area is left. With less it is
    neither object nor background. FocusPixel labels use the area of the whole box (section 4.1).

    Raises:
        ImageError: the image cannot be read.
    """
    training = config.training
    image, truth = dataset[chip.image]
    ratio = factor(image.shape[0], image.shape[1], config.scales[chip.scale - 1])
    window, zoom = augmentation.zoomed(chip.window, ratio, training.chip, training.augmentation, generator)
    pixels, window, factors = crop(image, window, ratio * zoom)
    pixels = pixels[: training.chip, : training.chip]
    height, width = pixels.shape[:2]
    whole = scale(shift(truth.boxes, -window[0], -window[1]), factors[0], factors[1])
    boxes = clip(whole, height, width)
    visible = area(boxes) / np.maximum(area(whole), 1e-6)
    trainable = in_range(truth, training.ranges[chip.scale - 1], zoom) & (visible >= training.min_visible)
    change = augmentation.draw(training.augmentation, generator)
    pixels = augmentation.change_pixels(pixels, change)
    boxes, whole = (augmentation.change_boxes(b, height, width, change) for b in (boxes, whole))
    height, width = pixels.shape[:2]
    focus = np.full((training.chip // STRIDE, training.chip // STRIDE), IGNORE, np.int8)
    labels = focus_labels(whole, height, width, config.focus_range, ignore=truth.ignore)
    focus[: labels.shape[0], : labels.shape[1]] = labels

    # What the chip does not show goes; past the capacity, trainable boxes stay before the others.
    shown = np.flatnonzero(visible > 0)
    shown = shown[np.argsort(~trainable[shown], kind="stable")][: training.max_boxes]

    def fill(values: np.ndarray) -> np.ndarray:
        padded = np.zeros((training.max_boxes, *values.shape[1:]), values.dtype)
        padded[: len(shown)] = values[shown]
        return padded

    canvas = np.zeros((training.chip, training.chip, 3), np.uint8)
    canvas[:height, :width] = pixels
    chips = ChipBatch(canvas, np.array([height, width], np.int32), np.array(True))
    classes = np.where(truth.ignore, -1, truth.labels).astype(np.int32)
    present = np.ones(len(boxes), bool)
    return TrainBatch(chips, fill(boxes.astype(np.float32)), fill(classes), fill(present), fill(trainable), focus)


def blank(config: Config) -> TrainBatch:
    """Return a row, without the leading axis, that is not valid and trains nothing."""
    side, boxes = config.training.chip, config.training.max_boxes
    chips = ChipBatch(np.zeros((side, side, 3), np.uint8), np.array([side, side], np.int32), np.array(False))
    cells = np.full((side // STRIDE, side // STRIDE), IGNORE, np.int8)
    flags = np.zeros(boxes, bool)
    return TrainBatch(chips, np.zeros((boxes, 4), np.float32), np.zeros(boxes, np.int32), flags, flags, cells)


def chip_list(dataset: Dataset, config: Config, epoch: int, proposals: Proposals | None = None) -> TrainChips:
    """Return the chips of an epoch, in order. They depend on the seed and the epoch's number alone.

    An epoch is one pass over the data. If a pass fills no batch, an epoch has as many passes as one batch takes.

    Args:
        dataset: images and ground truth.
        config: the settings.
        epoch: number of the epoch.
        proposals: proposals for negative chips; None makes no negative chips.

    Raises:
        AutoFocusError: the data set is empty.
    """
    if not len(dataset):
        raise AutoFocusError("the data set has no image to train on; check the config's data")
    generator = np.random.default_rng((config.seed, epoch))
    passes: list[TrainChips] = []
    while sum(map(sampling.count, passes)) < config.training.batch:
        passes.append(sampling.epoch(dataset, config.scales, config.training, generator, proposals))
    return TrainChips(*(np.concatenate(fields) for fields in zip(*passes, strict=True)))


class Batches(Iterator[TrainBatch]):
    """Endless TrainBatches of NumPy arrays, epoch after epoch.

    A batch depends on the seed and its position alone. A resumed run sees the same batches, and no earlier epoch is
    sampled again. The last rows of an epoch that fill no batch are left out. The chips of the next epoch are chosen in
    the background.

    Attributes:
        position: position of the next batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        position: Position = Position(),
        proposals: Proposals | None = None,
        share: tuple[int, int] = (0, 1),
        on_unreadable: Callable[[str], None] = lambda reason: None,
    ):
        """Start with the batch at `position`.

        Args:
            dataset: images and ground truth.
            config: the settings.
            position: of the first batch.
            proposals: proposals for negative chips.
            share: (number, count) of this process. It loads its rows of every batch, config.training.batch / count.
            on_unreadable: called, from several threads, with the reason why an image could not be read. Its row is not
                valid.
        """
        self.position = position
        self._dataset, self._config, self._on_unreadable = dataset, config, on_unreadable
        self._number, count = share
        self._rows = config.training.batch // count
        self._sampler = ThreadPoolExecutor(1, "sampling")
        self._sample = lambda epoch: self._sampler.submit(chip_list, dataset, config, epoch, proposals)
        self._missed, self._reason = 0, ""
        self._this = self._sample(position.epoch)
        self._next: Future[TrainChips] = self._this  # or the epoch after, once a batch was asked for
        self._reading: Any = None  # grain's iterator over the epoch's batches

    def __next__(self) -> TrainBatch:
        """Return the next batch.

        Raises:
            ImageError: one image after the other cannot be read.
        """
        if self._reading is None:
            if self.position.batch >= self._batches():  # it was saved with other settings, of more batches an epoch
                self.position = Position(self.position.epoch + 1, 0)
                self._this = self._sample(self.position.epoch)
            self._reading = self._open(self._this.result(), self.position)
            self._next = self._sample(self.position.epoch + 1)
        batch = next(self._reading)
        self._missed = 0 if batch.chips.valid.any() else self._missed + len(batch.chips.valid)
        if self._missed >= PATIENCE:
            raise ImageError(f"the last {self._missed} images could not be read, {self._reason}; check the data")
        self._advance()
        return batch

    def close(self) -> None:
        """Stop reading ahead."""
        self._sampler.shutdown(wait=False, cancel_futures=True)
        if self._reading is not None:
            self._reading.close()

    def _advance(self) -> None:
        """Move the position on. At the end of an epoch, reading of the next one starts at once."""
        epoch, number = self.position
        if number + 1 < self._batches():
            self.position = Position(epoch, number + 1)
            return
        self.position, self._this = Position(epoch + 1, 0), self._next
        self._reading.close()
        self._reading = self._open(self._this.result(), self.position)
        self._next = self._sample(epoch + 2)

    def _batches(self) -> int:
        """Batches of this epoch."""
        return sampling.count(self._this.result()) // self._config.training.batch

    def _open(self, chips: TrainChips, position: Position) -> Any:
        """Batches of this process's rows of an epoch, read ahead in threads."""
        size, threads = self._config.training.batch, self._config.training.read_threads
        total = sampling.count(chips) // size

        def load(index: int) -> TrainBatch:
            batch, row = divmod(index, self._rows)
            return self._load(chips, position.epoch, batch * size + self._number * self._rows + row)

        rows = grain.MapDataset.range(position.batch * self._rows, total * self._rows).map(load)
        ahead = grain.ReadOptions(threads, prefetch_buffer_size=max(3 * self._rows, threads))
        reading = iter(rows.to_iter_dataset(ahead).batch(self._rows, batch_fn=_stack))
        reading.start_prefetch()
        return reading

    def _load(self, chips: TrainChips, epoch: int, row: int) -> TrainBatch:
        # One more than the row, since zeros at the end of a seed do not count.
        generator = np.random.default_rng((self._config.seed, epoch, row + 1))
        try:
            return load_chip(self._dataset, chips.row(row), self._config, generator)
        except ImageError as error:
            self._reason = str(error)
            self._on_unreadable(self._reason)
            return blank(self._config)


def _stack(rows: Sequence[TrainBatch]) -> TrainBatch:
    chips = ChipBatch(*(np.stack(values) for values in zip(*(row.chips for row in rows), strict=True)))
    return TrainBatch(chips, *(np.stack(values) for values in zip(*(row[1:] for row in rows), strict=True)))
