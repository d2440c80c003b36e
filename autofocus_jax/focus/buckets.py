"""Buckets: the few padded shapes that chips are batched in, so that the device compiles once per shape.

Landscape and portrait are separate buckets. Chips are never transposed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from autofocus_jax.errors import BucketError
from autofocus_jax.structures import STRIDE, Bucket, ChipBatch, Scale


@dataclasses.dataclass(frozen=True)
class Multiple:
    """Buckets made on demand: sides are padded to multiples of `side`. For a detector that takes chips of any size.

    A detector that compiles a program for each shape needs a few fixed buckets instead.
    """

    side: int = STRIDE  # px, a multiple of STRIDE, so that a bucket holds whole cells of the focus map
    batch: int = 1  # chips that one call of the detector takes

    def __post_init__(self):
        if self.side < 1 or self.side % STRIDE:
            raise BucketError(f"side must be a positive multiple of {STRIDE} px, got {self.side}")
        if self.batch < 1:
            raise BucketError(f"batch must be at least 1, got {self.batch}")

    def fit(self, sizes: np.ndarray, shrink: float) -> tuple[list[Bucket], np.ndarray]:
        """Return a bucket for each chip, and the sizes [n, 2] that the chips shall have.

        Args:
            sizes: [n, 2] (height, width) of the chips, px.
            shrink: largest share of its sides that a chip may lose.
        """
        sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        sides = -(-np.ceil(sizes * (1 - shrink)).astype(np.int64) // self.side) * self.side
        return [Bucket(height, width, self.batch) for height, width in sides.tolist()], np.minimum(sizes, sides)


@dataclasses.dataclass(frozen=True)
class Loose:
    """No buckets: a detector on the host gets all chips of one image and scale in one call, unpadded.

    Such a detector is a focus.flow.HostDetect. Chips are never made smaller.
    """

    def fit(self, sizes: np.ndarray, shrink: float) -> tuple[list[Bucket], np.ndarray]:
        """Return for each chip a bucket that these chips fill, and the unchanged sizes [n, 2]."""
        sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        return [Bucket(0, 0, len(sizes))] * len(sizes), sizes


Buckets = tuple[Bucket, ...] | Multiple | Loose
Some = TypeVar("Some", tuple[Bucket, ...], Buckets)  # what is given is what comes back


def shapes(buckets: Sequence[Bucket]) -> np.ndarray:
    """Return the (height, width) of each bucket, [k, 2] int64, for `choose_all` and `fit`."""
    return np.array([(bucket.height, bucket.width) for bucket in buckets], np.int64).reshape(-1, 2)


# A program costs about as much CPU time as 10 small images; each bucket more saves the less the more there are.
_FEWEST, _IMAGES_PER_BUCKET = 8, 16


def for_images(buckets: Some, images: int) -> Some:
    """Return the buckets that a run over so many images shall compile: few for a short run, all for a long run.

    The choice depends on `images` alone, so that a resumed run uses the same buckets.
    """
    return fewer(buckets, _FEWEST + images // _IMAGES_PER_BUCKET) if isinstance(buckets, tuple) else buckets


def fewer(buckets: Sequence[Bucket], count: int) -> tuple[Bucket, ...]:
    """Return at most `count` of the buckets, in their order, that hold every size that all of them hold.

    A bucket that no other bucket holds always stays, even above `count`. The rest is added greedily: always the bucket
    that saves the most padding, if each bucket of the list stands for chips of its own size and for equally many
    pixels.
    """
    sides = shapes(buckets)
    holds = (sides[:, None] >= sides).all(axis=2)
    cost = np.where(holds, sides.prod(axis=1)[:, None] / sides.prod(axis=1), np.inf)
    # Of equal shapes the first stays.
    twin = holds & holds.T
    alone = ~(holds & ~twin).any(axis=0) & (twin.argmax(axis=1) == np.arange(len(sides)))
    chosen = np.flatnonzero(alone).tolist()
    while len(chosen) < min(count, len(sides)):
        total = np.minimum(cost, cost[chosen].min(axis=0)).sum(axis=1)
        total[chosen] = np.inf
        chosen.append(int(total.argmin()))
    return tuple(buckets[position] for position in sorted(chosen))


def holding(buckets: Some, scales: Sequence[Scale]) -> Some:
    """Return `buckets` plus one bucket, in both orientations, for each scale whose full level fits no bucket.

    Buckets made on demand hold every level and are returned unchanged.
    """
    if isinstance(buckets, Multiple | Loose):
        return buckets
    result = list(buckets)
    for scale in scales:
        short, long = (-(-side // STRIDE) * STRIDE for side in (scale.min_side, scale.max_side))
        for height, width in ((short, long), (long, short)):
            if not any(bucket.height >= height and bucket.width >= width for bucket in result):
                result.append(Bucket(height, width, 1))
    return tuple(result)


def choose(height: int, width: int, buckets: Sequence[Bucket]) -> int:
    """Return the index of the bucket with the fewest pixels that holds a chip of this size (px).

    Raises:
        BucketError: no bucket holds the chip.
    """
    return int(choose_all(np.array([[height, width]]), shapes(buckets))[0])


def choose_all(sizes: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return `choose` for chips of sizes [n, 2] (height, width, px) and buckets of shapes [k, 2]: indices [n]."""
    fits = np.all(sizes[:, None, :] <= shapes, axis=2)
    misfits = np.flatnonzero(~fits.any(axis=1))
    if len(misfits):
        height, width = sizes[misfits[0]]
        raise BucketError(_too_large(height, width, shapes))
    if not len(sizes):
        return np.zeros(0, np.intp)
    return np.where(fits, shapes.prod(axis=1), np.iinfo(np.int64).max).argmin(axis=1)


def fit(sizes: np.ndarray, shapes: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """Choose a bucket for each chip, which may be resized a little smaller.

    A chip takes the bucket of fewest pixels whose sides are at least (1 - shrink) times its own. If that bucket is
    smaller than the chip, the chip is resized to fit. With shrink 0 this is `choose_all`.

    Args:
        sizes: [n, 2] (height, width) of the chips, px.
        shapes: [k, 2] (height, width) of the buckets, px.
        shrink: largest share of its sides that a chip may lose.

    Returns:
        Indices [n] of the buckets, and the sizes [n, 2] that the chips shall have.

    Raises:
        BucketError: a chip fits no bucket.
    """
    sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
    chosen = choose_all(np.ceil(sizes * (1 - shrink)).astype(np.int64), shapes)
    return chosen, np.minimum(sizes, shapes[chosen])


def group(sizes: np.ndarray, buckets: Sequence[Bucket]) -> list[tuple[int, np.ndarray]]:
    """Return batches for chips: pairs of a bucket's index and rows of `sizes`, at most the bucket's batch.

    Every row is in exactly one batch. Rows of a bucket keep their order, and only its last batch may be partial.

    Args:
        sizes: [n, 2] (height, width) of the chips, px.
        buckets: the shapes.

    Raises:
        BucketError: a chip fits no bucket.
    """
    chosen = choose_all(np.asarray(sizes).reshape(-1, 2), shapes(buckets))
    batches = []
    for index in np.unique(chosen):
        rows = np.flatnonzero(chosen == index)
        batch = buckets[index].batch
        batches += [(int(index), rows[start : start + batch]) for start in range(0, len(rows), batch)]
    return batches


def pad(chips: Sequence[np.ndarray], bucket: Bucket) -> ChipBatch:
    """Return a ChipBatch of the bucket's shape, with zeros below and to the right of the chips and in empty rows.

    Empty rows have size (0, 0) and valid False. No chip is repeated.

    Args:
        chips: uint8 [h, w, 3] each.
        bucket: the shape.

    Raises:
        BucketError: a chip, or the number of chips, is too large.
    """
    if len(chips) > bucket.batch:
        raise BucketError(f"{len(chips)} chips for a batch of {bucket.batch}; split them with buckets.group")
    pixels = np.zeros((bucket.batch, bucket.height, bucket.width, 3), np.uint8)
    size = np.zeros((bucket.batch, 2), np.int32)
    for row, chip in enumerate(chips):
        height, width = chip.shape[:2]
        if height > bucket.height or width > bucket.width:
            raise BucketError(_too_large(height, width, shapes([bucket])))
        pixels[row, :height, :width] = chip
        size[row] = height, width
    return ChipBatch(pixels, size, np.arange(bucket.batch) < len(chips))


def _too_large(height: int, width: int, shapes: np.ndarray) -> str:
    chip = f"chip {height}x{width} px fits no bucket"
    if not len(shapes):
        return f"{chip}; there are none; add one to Config.buckets"
    rows, columns = shapes[shapes.prod(axis=1).argmax()]
    return f"{chip}; the largest is {rows}x{columns}; add one to Config.buckets"
