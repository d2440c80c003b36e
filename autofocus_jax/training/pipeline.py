"""From training chips to TrainBatches: decode, crop, resize, flip, label, pad; ahead of the device, in threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grain
import numpy as np

from autofocus_jax.boxes import area, clip, scale, shift
from autofocus_jax.config import Config
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.focus.pyramid import crop, factor
from autofocus_jax.structures import IGNORE, STRIDE, AutoFocusError, ChipBatch, Dataset, TrainBatch
from autofocus_jax.training.sampling import TrainChip, epoch, in_range


def load_chip(dataset: Dataset, chip: TrainChip, config: Config, generator: np.random.Generator) -> TrainBatch:
    """One row of a TrainBatch, without the leading axis; flipped from left to right half of the time.

    A box that the chip cuts trains when at least min_visible of its area is left, cut to the chip; with less it is
    neither object nor background. FocusPixel labels go by the area of the whole box (section 4.1). Raises ImageError
    when the image cannot be read.
    """
    training = config.training
    image, truth = dataset[chip.image]
    ratio = factor(*image.shape[:2], config.scales[chip.scale - 1])
    pixels, window, factors = crop(image, chip.window, ratio)
    pixels = pixels[: training.chip, : training.chip]
    height, width = pixels.shape[:2]
    whole = scale(shift(truth.boxes, -window[0], -window[1]), factors[0], factors[1])
    boxes = clip(whole, height, width)
    visible = area(boxes) / np.maximum(area(whole), 1e-6)
    trainable = in_range(truth, training.ranges[chip.scale - 1]) & (visible >= training.min_visible)
    if generator.random() < 0.5:
        pixels = pixels[:, ::-1]
        boxes, whole = (np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], axis=1) for b in (boxes, whole))
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
    chips = ChipBatch(canvas, np.array([height, width], np.int32), np.bool_(True))
    classes = np.where(truth.ignore, -1, truth.labels).astype(np.int32)
    present = np.ones(len(boxes), bool)
    return TrainBatch(chips, fill(boxes.astype(np.float32)), fill(classes), fill(present), fill(trainable), focus)


def chip_list(dataset: Dataset, config: Config, count: int) -> list[TrainChip]:
    """At least `count` chips: as many epochs as that takes, each with windows and an order of its own.

    Raises AutoFocusError when the data set is empty.
    """
    if not len(dataset):
        raise AutoFocusError("the data set has no image to train on; check the config's data")
    generator = np.random.default_rng(config.seed)
    chips: list[TrainChip] = []
    while len(chips) < count:
        more = epoch(dataset, config.scales, config.training, generator)
        chips += map(more.row, range(len(more.image)))
    return chips


def batches(dataset: Dataset, chips: Sequence[TrainChip], config: Config, start: int = 0) -> Iterator[TrainBatch]:
    """TrainBatches of NumPy arrays in the order of `chips`, from batch number `start` on.

    What batch n holds depends on the seed and on n alone: a run that goes on from step n sees what it would have seen.
    """
    stacked = (
        grain.MapDataset.source(chips)
        .seed(config.seed)
        .random_map(lambda chip, generator: load_chip(dataset, chip, config, generator))
        .batch(config.training.batch, drop_remainder=True, batch_fn=_stack)
    )
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(stacked[start:].to_iter_dataset(reading))


def _stack(rows: Sequence[TrainBatch]) -> TrainBatch:
    chips = ChipBatch(*(np.stack(values) for values in zip(*(row.chips for row in rows), strict=True)))
    return TrainBatch(chips, *(np.stack(values) for values in zip(*(row[1:] for row in rows), strict=True)))
