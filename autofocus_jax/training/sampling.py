"""Training chips of SNIPER (Singh, Najibi, Davis 2018): few windows that show every object in range, and negatives.

Windows are chosen per scale in the image frame. The coarsest scale sees the whole image, as in the authors' release,
unless its level is larger than a chip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.boxes import area
from autofocus_jax.config import TrainingConfig
from autofocus_jax.focus.pyramid import factor
from autofocus_jax.structures import Dataset, GroundTruth, Scale, ValidRange
from autofocus_jax.training.cover import cover
from autofocus_jax.training.negatives import negative_windows

EVERY_SIZE = ValidRange(0, math.inf)

Proposals = Callable[[int], np.ndarray]  # index of an image -> [p, 4] float32 image px, in any order


class TrainChip(NamedTuple):
    """The image, scale and window of a training chip."""

    image: int  # index into the data set
    scale: int  # 1-based
    window: np.ndarray  # [4] int32, image frame


class TrainChips(NamedTuple):
    """Many training chips, an array for each field, because an epoch of COCO has 600 000.

    `count` returns their number.
    """

    image: np.ndarray  # [n] int32
    scale: np.ndarray  # [n] int8, 1-based
    window: np.ndarray  # [n, 4] int32, image frame

    def row(self, index: int) -> TrainChip:
        return TrainChip(int(self.image[index]), int(self.scale[index]), self.window[index])


def count(chips: TrainChips) -> int:
    """Return the number of chips; len() of a NamedTuple is the number of its fields."""
    return len(chips.image)


def in_range(ground_truth: GroundTruth, valid: ValidRange, zoom: float = 1.0) -> np.ndarray:
    """Return which objects, without ignore regions, have sqrt(area) in image px, times zoom, in the range: [G] bool."""
    return valid.holds(np.sqrt(area(ground_truth.boxes)) * zoom) & ~ground_truth.ignore


def positive_windows(
    ground_truth: GroundTruth, height: int, width: int, scales: Sequence[Scale], training: TrainingConfig,
    generator: np.random.Generator,
) -> list[np.ndarray]:  # fmt: skip
    """Return the windows of each scale, [n, 4] int32 (image frame), that hold every object in its training range whole.

    An object longer than about chip - chip_stride at a scale is left to coarser scales. If the coarsest level fits in a
    chip, it gives exactly one window, the whole image, also without objects in range: its FocusPixels are learnt there.
    Windows of another scale that only leads hold every object, for the same reason.
    """
    windows: list[np.ndarray] = []
    for scale, valid in zip(scales, training.ranges, strict=True):
        ratio = factor(height, width, scale)
        if not windows and scale.max_side <= training.chip:
            windows.append(np.array([[0, 0, width, height]], np.int32))
            continue
        boxes = ground_truth.boxes[in_range(ground_truth, EVERY_SIZE if scale.leads else valid)]
        side = math.floor(training.chip / ratio)
        found = cover(boxes, height, width, side, training.chip_stride / ratio, generator)
        windows.append(found if windows or len(found) else _anywhere(height, width, side, generator))
    return windows


def _anywhere(height: int, width: int, side: int, generator: np.random.Generator) -> np.ndarray:
    """One window [1, 4] of that side at a random place: an image without objects is background at scale 1."""
    x, y = (int(generator.integers(max(length - side, 0) + 1)) for length in (width, height))
    return np.array([[x, y, min(x + side, width), min(y + side, height)]], np.int32)


def positive_chips(
    ground_truth: GroundTruth, height: int, width: int, scales: Sequence[Scale], training: TrainingConfig,
    generator: np.random.Generator,
) -> list[tuple[int, np.ndarray]]:  # fmt: skip
    """Return (scale, window [4] int32 in the image frame) of the positive chips of one image (see positive_windows)."""
    windows = positive_windows(ground_truth, height, width, scales, training, generator)
    return [(number, window) for number, of_scale in enumerate(windows, 1) for window in of_scale]


def epoch(
    dataset: Dataset, scales: Sequence[Scale], training: TrainingConfig, generator: np.random.Generator,
    proposals: Proposals | None = None,
) -> TrainChips:  # fmt: skip
    """Return the chips of one pass over the data, in random order.

    These are the positive chips of every image and, with proposals, at most training.negative_chips of its negative
    chips. The negative chips are drawn from all scales together (the release draws 2).
    """
    parts: list[np.ndarray] = []  # windows of one image and scale
    owners: list[tuple[int, int, int]] = []  # image, scale and number of windows of each part
    for index in range(len(dataset)):
        info, ground_truth = dataset.info(index), dataset.ground_truth(index)
        size = info.height, info.width
        windows = positive_windows(ground_truth, *size, scales, training, generator)
        owners += [(index, number, len(of_scale)) for number, of_scale in enumerate(windows, 1)]
        parts += windows
        if proposals is None or not training.negative_chips:
            continue
        pool = negative_windows(proposals(index), windows, *size, scales, training, generator)
        numbers = np.repeat(np.arange(1, len(pool) + 1), [len(of_scale) for of_scale in pool])
        if len(numbers):
            drawn = generator.permutation(len(numbers))[: training.negative_chips]
            owners += [(index, int(number), 1) for number in numbers[drawn]]
            parts.append(np.concatenate(pool)[drawn])
    image, scale, lengths = np.array(owners, np.int64).reshape(-1, 3).T
    order = generator.permutation(int(lengths.sum()))
    window = np.concatenate([np.zeros((0, 4), np.int32), *parts])
    return TrainChips(
        np.repeat(image, lengths).astype(np.int32)[order],
        np.repeat(scale, lengths).astype(np.int8)[order],
        window[order],
    )
