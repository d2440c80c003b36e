"""Values that cross stages: NamedTuples of arrays, and the few settings that several stages read.

docs/architecture.md defines frames and units. *Image frame*: pixels of the original image. *Level frame*: pixels of the
image resized for a scale. *Chip frame*: pixels inside one crop of a level. Boxes are `xyxy`, float32, half-open. K is
the number of foreground classes, numbered 0..K-1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from autofocus_jax.errors import AutoFocusError as AutoFocusError  # these come from here, too
from autofocus_jax.errors import DetectorError as DetectorError
from autofocus_jax.errors import ImageError as ImageError
from autofocus_jax.errors import RuleError as RuleError

if TYPE_CHECKING:
    import jax

    Array: TypeAlias = np.ndarray | jax.Array  # NumPy's on the host, JAX's on the device
else:
    Array = np.ndarray  # the host goes without JAX

FOCUS, BACKGROUND, IGNORE = 1, 0, -1  # labels of a FocusPixel cell
STRIDE = 16  # pixels per cell of a feature map and of a focus map


@dataclasses.dataclass(frozen=True)
class ValidRange:
    """Interval of sqrt(box area) in IMAGE pixels that a scale answers for (SNIP, section 4).

    Both ends are included. The paper excludes both; the two differ only for boxes of exactly that size. ValidRange(0,
    0) is empty.
    """

    low: float
    high: float

    def holds(self, sides: np.ndarray) -> np.ndarray:
        """Return which sides [n] (sqrt of area, image px) lie in the range, [n] bool."""
        return (self.low <= sides) & (sides <= self.high) & (self.high > 0)


LEADS = ValidRange(0.0, 0.0)  # of a scale that makes focus maps and answers for nothing


@dataclasses.dataclass(frozen=True)
class ChipRule:
    """Settings of Algorithm 1, which turns a focus map into FocusChips.

    Attributes:
        threshold: least probability of a cell that takes part; 0 takes the whole level.
        dilation: side of the dilating square, cells; 1 dilates nothing.
        min_size: least side of a chip, px of the level that predicted the map.
    """

    threshold: float
    dilation: int
    min_size: int

    @classmethod
    def of_context(cls, threshold: float, dilation: int, context: float, step: float) -> ChipRule:
        """Return the rule whose chips show the detector at least `context` px, rounded to a level px.

        Args:
            threshold: as in the rule.
            dilation: as in the rule.
            context: least side of a chip, px of the NEXT level, which the detector sees.
            step: how many times larger the next level is.
        """
        return cls(threshold, dilation, max(STRIDE, round(context / step)))


@dataclasses.dataclass(frozen=True)
class Scale:
    """One level of the pyramid. Scales are numbered from 1, coarse to fine.

    The image is resized so that its shorter side is min_side, or its longer side max_side if that is smaller.

    Attributes:
        min_side: shorter side of the level, px.
        max_side: longest longer side of the level, px.
        valid: sizes that this scale answers for at inference. ValidRange(0, 0) marks a scale that only leads: it makes
            focus maps and gives no detections.
        chips: rule that selects the chips of the NEXT scale; None at the finest scale.
    """

    min_side: int
    max_side: int
    valid: ValidRange
    chips: ChipRule | None

    @property
    def leads(self) -> bool:
        """Return True if the scale only leads: it makes focus maps and gives no detections."""
        return self.valid == LEADS


@dataclasses.dataclass(frozen=True)
class FocusRange:
    """Focus range (a, b, c) of section 4.1, on sqrt(box area) in CHIP pixels.

    FOCUS is in (a, b), IGNORE is up to a and in [b, c].
    """

    a: float
    b: float
    c: float


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A padded chip shape: sides in pixels (multiples of STRIDE), and the chips of one device call."""

    height: int
    width: int
    batch: int


class GroundTruth(NamedTuple):
    """Objects of one image."""

    boxes: np.ndarray  # [G, 4] float32, image frame
    labels: np.ndarray  # [G] int32, 0..K-1
    ignore: np.ndarray  # [G] bool: crowd or ignore region, neither object nor background


class ImageInfo(NamedTuple):
    """Facts of an image that are known before it is decoded."""

    image_id: int
    file_name: str
    height: int
    width: int


class Dataset(Protocol):
    """One split of a source of images and boxes. `dataset[i]` is (image, GroundTruth).

    Your own data set inherits from this class. Methods with a default may stay as they are.

    Attributes:
        categories: [K] names; label k means categories[k].
        files: [N] paths of the images; empty if images are no files.
        noticed: remarks of the reader that are no errors: (kind of data/findings, example) for each.
        dropped: number of boxes that were left out.
        oriented: True if images are turned as their orientation tags say.
    """

    categories: tuple[str, ...]
    files: Sequence[Path] = ()
    noticed: Sequence[tuple[str, str]] = ()
    dropped: int = 0
    oriented: bool = False

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, GroundTruth]:
        return self.image(index), self.ground_truth(index)

    def image(self, index: int) -> np.ndarray:
        """Return an image as uint8 RGB [h, w, 3].

        Raises:
            ImageError: the image is missing or corrupt.
        """

    def ground_truth(self, index: int) -> GroundTruth: ...

    def info(self, index: int) -> ImageInfo: ...

    def encoded(self, index: int) -> bytes | None:
        """Return the bytes of the image file, or None if there is no file."""
        return None


class Placement(NamedTuple):
    """The place of a chip in its image. Placements stay on the host."""

    key: Hashable  # the caller's own name of the image, as it came with the reader
    scale: int  # 1-based
    box: np.ndarray  # [4] float32, image frame
    factor: np.ndarray  # [2] float32, chip pixels per image pixel along (x, y)


class ChipBatch(NamedTuple):
    """Chips padded with zeros (below and to the right) to one bucket."""

    pixels: Array  # [B, H, W, 3] uint8 RGB
    size: Array  # [B, 2] int32, true (height, width)
    valid: Array  # [B] bool, False for rows that only fill the batch


class DetectorOutput(NamedTuple):
    """Answer of a detector for a ChipBatch."""

    boxes: Array  # [B, N, 4] float32, chip frame
    scores: Array  # [B, N, K] float32, probability of each foreground class
    valid: Array  # [B, N] bool, False for rows that hold no proposal
    focus: Array  # [B, H/16, W/16] float32, FocusPixel probability, 0 outside the true size


class HostAnswer(NamedTuple):
    """Answer of a detector on the host for the chips of one image and scale (`focus.buckets.Loose`)."""

    found: Sequence[Detections]  # of each chip, its boxes in chip px
    focus: Sequence[np.ndarray] | None  # of each chip: [ceil(h / STRIDE), ceil(w / STRIDE)] float32; None for none
    runs: int  # inputs that the detector ran on
    pixels: int  # of these inputs, padding included


class Detections(NamedTuple):
    """Detections of one image, best first; or of one chip or crop, in its frame and in any order."""

    boxes: np.ndarray  # [n, 4] float32, image frame
    scores: np.ndarray  # [n] float32
    labels: np.ndarray  # [n] int32

    @classmethod
    def none(cls) -> Detections:
        """Return no detection."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


# A function that says where to look: the chips of one image and scale (uint8 RGB [h, w, 3] each), where each of them
# comes from, and what the detector found in each (chip px), None if it did not run -> a focus map for each chip,
# [ceil(h / 16), ceil(w / 16)] float32 in 0..1.
Where = Callable[[Sequence[np.ndarray], Sequence[Placement], Sequence[Detections] | None], list[np.ndarray]]


class TrainBatch(NamedTuple):
    """Training chips with their targets. G is the fixed capacity of boxes a chip.

    A present box out of its scale's valid range is not trainable. Such a box trains nothing. Anchors and RoIs on it are
    ignored and are not background. The box still labels FocusPixels.
    """

    chips: ChipBatch
    boxes: Array  # [B, G, 4] float32, chip frame
    labels: Array  # [B, G] int32
    present: Array  # [B, G] bool, not padding
    trainable: Array  # [B, G] bool, inside the valid range and not an ignore region
    focus: Array  # [B, H/16, W/16] int8 of FOCUS, BACKGROUND, IGNORE


class TrainState(NamedTuple):
    """Everything a training step reads and writes."""

    step: Array  # [] int32
    params: Any  # pytree of float32
    batch_stats: Any  # pytree of float32
    opt_state: Any
    key: Array  # PRNG key
    ema: Any = None  # moving average of params, of their shapes; None without TrainingConfig.ema


# What Cost.seconds counts: reading and decoding, crops and resizing, time in which the device had work, making chips,
# focus stacking, and standing still because the device's answer was not there yet.
STAGES = ("read", "resize", "device", "chips", "stacking", "waiting")


class Cost(NamedTuple):
    """Cost of a cascade per scale (index 0 is scale 1), summed over images. Costs are added with `+`."""

    images: int
    pixels: np.ndarray  # [S] int64, level pixels really asked for, without padding
    full_pixels: np.ndarray  # [S] int64, pixels of the whole levels
    chips: np.ndarray  # [S] int64, chips processed
    padded_pixels: np.ndarray  # [S] int64, pixels the device processed; a batch's empty rows go to its last chip
    runs: np.ndarray  # [S] int64, inputs the detector ran on: rows of batches, empty ones too, or canvases
    seconds: np.ndarray  # [len(STAGES)] float64; stages overlap, so they do not add up to the wall time

    @classmethod
    def none(cls, scales: int) -> Cost:
        """Return the cost of no image over that many scales."""
        return cls.of(0, [np.zeros(scales)] * 5, np.zeros(len(STAGES)))

    @classmethod
    def of(cls, images: int, per_scale: Iterable[ArrayLike], seconds: np.ndarray) -> Cost:
        """Return a cost from the values of each scale, in the order of the fields."""
        pixels, full, chips, padded, runs = (np.array(values, np.int64) for values in per_scale)
        return cls(images, pixels, full, chips, padded, runs, seconds)

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]  # no tuple that grows
        """Return the sum of two costs over the same scales."""
        sums = [one + two for one, two in zip(self[1:-1], other[1:-1])]
        return Cost.of(self.images + other.images, sums, self.seconds + other.seconds)


def sum_costs(costs: Iterable[Cost]) -> Cost | None:
    """Return the sum of costs over the same scales, or None without any cost."""
    listed = list(costs)
    return sum(listed[1:], listed[0]) if listed else None
