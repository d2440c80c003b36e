"""Positive chips of SNIPER (Singh, Najibi, Davis 2018): few windows that together hold every object in range.

Windows are chosen per scale in the image frame; the coarsest scale sees the whole image (the authors' release).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.boxes import area
from autofocus_jax.config import TrainingConfig
from autofocus_jax.focus.pyramid import factor
from autofocus_jax.structures import Dataset, GroundTruth, Scale, ValidRange


class TrainChip(NamedTuple):
    """What a training chip shows."""

    image: int  # index into the data set
    scale: int  # 1-based
    window: np.ndarray  # [4] int32, image frame


def in_range(ground_truth: GroundTruth, valid: ValidRange) -> np.ndarray:
    """[G] bool: objects, not ignore regions, whose sqrt(area) in image px lies in the range."""
    side = np.sqrt(area(ground_truth.boxes))
    return (side >= valid.low) & (side <= valid.high) & ~ground_truth.ignore


def cover(
    boxes: np.ndarray, height: int, width: int, side: int, step: float, generator: np.random.Generator
) -> np.ndarray:
    """Greedy cover: again and again the window that holds most boxes, not held before, whole.

    Candidate windows lie on a grid of `step` that starts at a random offset, and at the image's edges. A box that no
    window holds (one longer than about side - step) is left to coarser scales.

    Args:
      boxes: [G, 4]. height, width: of the image. side: of the window. step: of the grid. All in the same frame, px.
      generator: draws the offset of the grid and breaks ties.

    Returns: [n, 4] int32 windows, cut at the image, in order of choice; ties are broken at random.
    """
    x, y = (_starts(length, side, step, generator) for length in (width, height))
    holds_x = (x[:, None] <= boxes[:, 0]) & (boxes[:, 2] <= x[:, None] + side)
    holds_y = (y[:, None] <= boxes[:, 1]) & (boxes[:, 3] <= y[:, None] + side)
    waiting, windows = np.ones(len(boxes)), []
    tie = generator.random((len(y), len(x))) / 2
    while True:
        count = (holds_y * waiting) @ holds_x.T.astype(np.float64)
        row, column = np.unravel_index(np.argmax(np.where(count > 0, count + tie, 0)), count.shape)
        if count[row, column] < 0.5:
            break
        windows.append((x[column], y[row], min(x[column] + side, width), min(y[row] + side, height)))
        waiting[holds_y[row] & holds_x[column]] = 0
    return np.asarray(windows, np.int32).reshape(-1, 4)


def positive_chips(
    ground_truth: GroundTruth, height: int, width: int, scales: Sequence[Scale], training: TrainingConfig,
    generator: np.random.Generator,
) -> list[tuple[int, np.ndarray]]:  # fmt: skip
    """(scale, window [4] int32 in the image frame) of the chips of one image.

    The coarsest scale always gives its one chip, the whole image, also where nothing is in range: its FocusPixels are
    learnt there.
    """
    chosen = [(1, np.array([0, 0, width, height], np.int32))]
    for number, (scale, valid) in enumerate(zip(scales, training.ranges, strict=True), 1):
        if number == 1:
            continue
        ratio = factor(height, width, scale)
        boxes = ground_truth.boxes[in_range(ground_truth, valid)]
        side = math.floor(training.chip / ratio)
        windows = cover(boxes, height, width, side, training.chip_stride / ratio, generator)
        chosen += [(number, window) for window in windows]
    return chosen


def epoch(
    dataset: Dataset, scales: Sequence[Scale], training: TrainingConfig, generator: np.random.Generator
) -> list[TrainChip]:
    """The chips of one pass over the data, in random order."""
    chips = []
    for index in range(len(dataset)):
        info, ground_truth = dataset.info(index), dataset.ground_truth(index)
        found = positive_chips(ground_truth, info.height, info.width, scales, training, generator)
        chips += [TrainChip(index, scale, window) for scale, window in found]
    return [chips[i] for i in generator.permutation(len(chips))]


def _starts(length: int, side: int, step: float, generator: np.random.Generator) -> np.ndarray:
    """Left ends of the candidate windows along one axis."""
    last = max(length - side, 0)
    grid = np.arange(generator.random() * step, last, step)
    return np.unique(np.concatenate([[0], grid, [last]]).astype(np.int32))
