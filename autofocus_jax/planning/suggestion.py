"""Scales, valid ranges, chips and what they save, from the sizes of a data set's images and objects alone.

Everything follows from one length: an object is seen well from about 60 px of a 512 px training chip (four cells of
16 px). With other chips every length in chip px changes in proportion. Where a rule has a constant, it is the one that
gives the paper's settings on COCO.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import ConfigError
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.oracle_chips import oracle_chips
from autofocus_jax.focus.plan import Plan
from autofocus_jax.planning.bucket_choice import choose_shapes, count_sizes, with_batches
from autofocus_jax.structures import Bucket, ChipRule, Dataset, FocusRange, Scale, ValidRange

CHIP = 512  # px, the chip that the lengths below are for
SEEN = 60.0  # chip px from which an object is seen well
SMALLEST = 45.0  # chip px that the smallest tenth of the objects should have at the finest scale
STEP = 3.0  # at most so many times from one scale to the next
OVERLAP = 2.35  # how far a valid range reaches into the coarser scale's
ENLARGED = 3.5  # at most so many level px an image px: more pixels show no more
FOCUS = (5.0, 64.0, 90.0)  # the paper's a, b, c in chip px
DILATION, THRESHOLDS = 3, (0.05, 0.2)  # cells; the first of all thresholds, and the others


class Sizes(NamedTuple):
    """What a suggestion is made of. N images, G objects that are no ignore regions."""

    images: np.ndarray  # [N, 2] (height, width), px
    objects: np.ndarray  # [G] sqrt(box area), image px


class Saving(NamedTuple):
    """What perfect focus maps would cost; the paper's upper bound (section 5.1)."""

    images: int
    pixels: np.ndarray  # [S] per image
    full_pixels: np.ndarray  # [S] per image, whole levels
    without_chips: float  # share of the images in which nothing is looked at after scale 1

    @property
    def factor(self) -> float:
        """How many times fewer pixels than the whole pyramid."""
        return float(self.full_pixels.sum() / self.pixels.sum())


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Settings for a data set, with the reasons for them; `verdict` says whether the method helps, in numbers."""

    scales: tuple[Scale, ...]
    training_ranges: tuple[ValidRange, ...]
    focus_range: FocusRange
    chip: int
    buckets: tuple[Bucket, ...]
    saving: Saving
    helps: bool
    verdict: str
    reasons: tuple[str, ...]


def sizes(dataset: Dataset) -> Sizes:
    """Sizes of all images and objects of a data set; no image is opened."""
    infos = [dataset.info(index) for index in range(len(dataset))]
    truths = (dataset.ground_truth(index) for index in range(len(dataset)))
    sides = [np.sqrt(box_ops.area(truth.boxes[~truth.ignore])) for truth in truths]
    shapes = np.array([(info.height, info.width) for info in infos], np.int64).reshape(-1, 2)
    return Sizes(shapes, np.concatenate([np.zeros(0, np.float32), *sides]))


def suggest(
    dataset: Dataset,
    chip: int = CHIP,
    longest: int = 2560,
    sample: int = 2000,
    bucket_count: int = 14,
    progress: Callable[[int, int], None] | None = None,
) -> Suggestion:
    """Settings for a data set.

    chip: side of a training chip, px. longest: of the finest level's longer side, px. sample: images, spread over the
    data set, whose chips are worked out; progress(done, all) is called after each. Raises ConfigError when there is no
    object to learn the sizes from.
    """
    given = sizes(dataset)
    if not len(given.objects):
        raise ConfigError(f"none of {len(given.images)} images has an object; there are no sizes to go by")
    scales, reasons = choose_scales(given, chip, longest)
    unit = chip / CHIP
    focus_range = FocusRange(*(round(side * unit, 2) for side in FOCUS))
    reasons.append(
        f"focus range {focus_range.a:g}, {focus_range.b:g}, {focus_range.c:g} chip px: an object below "
        f"{focus_range.b:g} px is better seen at the next scale; the paper's, for chips of {chip} px"
    )
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(sample, len(dataset))).round().astype(int))
    saving, chip_sizes = _saving(dataset, chosen, scales, focus_range, progress)
    shapes = choose_shapes(count_sizes(chip_sizes), scales, bucket_count).shapes
    buckets = with_batches(shapes, max(4 * chip * chip, int(shapes.prod(axis=1).max())))
    reasons.append(f"{len(buckets)} buckets: the padded shapes that waste least on the chips of {saving.images} images")
    helps, verdict = _verdict(given, scales, saving)
    ranges = tuple(ValidRange(_nice(s.valid.low / 1.2), _nice(s.valid.high * 1.2)) for s in scales)
    return Suggestion(scales, ranges, focus_range, chip, buckets, saving, helps, verdict, tuple(reasons))


def choose_scales(given: Sizes, chip: int = CHIP, longest: int = 2560) -> tuple[tuple[Scale, ...], list[str]]:
    """The scales for images and objects of these sizes, and the reasons; `suggest` explains the arguments.

    Raises ConfigError when `longest` is below `chip`.
    """
    if chip % 16 or chip < 64:
        raise ConfigError(f"a training chip of {chip} px; want a multiple of 16, at least 64")
    if longest < chip:
        raise ConfigError(f"a finest level of {longest} px is smaller than a chip of {chip} px; want at least that")
    unit = chip / CHIP
    short, long = (float(np.median(side)) for side in (given.images.min(axis=1), given.images.max(axis=1)))
    oblong = float(np.percentile(given.images.max(axis=1) / given.images.min(axis=1), 75))
    coarse = chip / long
    limits = [ENLARGED, longest / (short * oblong)]
    smallest = float(np.percentile(given.objects, 10))
    wanted = SMALLEST * unit / smallest
    finest = min([wanted, *limits])
    reasons = [
        f"scale 1: the longer side becomes {chip} px, a training chip, so an image of {long:.0f} px is seen "
        f"{coarse:.2g} times as large and objects from {SEEN * unit / coarse:.0f} image px are seen well (they have "
        f"{SEEN * unit:.0f} px there)"
    ]
    if finest <= 1.3 * coarse:
        reasons.append(f"no other scale: a tenth of the objects is below {smallest:.0f} px, and scale 1 shows these "
                       f"{smallest * coarse:.0f} px large already")  # fmt: skip
        (sides,) = _with_sides([coarse], short, oblong, chip, longest)
        return (Scale(*sides, ValidRange(0.0, math.inf), None),), reasons
    count = 1 + max(1, math.ceil(round(math.log(finest / coarse) / math.log(STEP), 6)))
    why = "" if finest == wanted else (
        f"; {finest:.2g} times is all that a longer side of {longest} px allows" if finest < ENLARGED
        else f"; {ENLARGED:g} times is the most that shows more"
    )  # fmt: skip
    reasons.append(f"scale {count}: a tenth of the objects is below {smallest:.0f} px and should have "
                   f"{SMALLEST * unit:.0f} px, {wanted:.2g} times as large as in the image{why}")  # fmt: skip
    factors = _factors(given, coarse, finest, count, unit)
    if count > 2:
        between = ", ".join(f"{factor:.2g}" for factor in factors[1:-1])
        reasons.append(f"between them, {between} times: each scale takes an equal share of the objects that scale 1 "
                       f"does not see well, and is at most {STEP:g} times the one before")  # fmt: skip
    lows = [*(_nice(SEEN * unit / factor) for factor in factors[:-1]), 0.0]
    highs = [math.inf, *(_nice(OVERLAP * low) for low in lows[:-1])]
    highs[-1] = _nice(min(highs[-1], OVERLAP * lows[-2]))
    reasons.append(f"valid ranges: from {SEEN * unit:.0f} px as a scale shows it, up to {OVERLAP:g} times the lower "
                   "end of the coarser scale's range")  # fmt: skip
    scales = []
    sides = _with_sides(factors, short, oblong, chip, longest)
    for number, (factor, pair, low, high) in enumerate(zip(factors, sides, lows, highs), 1):
        rule = None if number == count else _rule(number, factor, short, chip)
        scales.append(Scale(*pair, ValidRange(low, high), rule))
    least = " and ".join(str(scale.chips.min_size) for scale in scales[:-1])
    reasons.append(f"chips of at least {least} level px: half a training chip, so the context that the detector "
                   "learnt with is there; thresholds are the paper's kind, to be chosen on `tune` after training "
                   "(autofocus experiment chip_rules)")  # fmt: skip
    return tuple(scales), reasons


def _factors(given: Sizes, coarse: float, finest: float, count: int, unit: float) -> list[float]:
    """Level px per image px of each scale, for an image of the usual size."""
    small = given.objects[given.objects < SEEN * unit / coarse]
    factors = [coarse]
    for number in range(1, count - 1):
        low = float(np.percentile(small, 100 * (1 - number / (count - 1)))) if len(small) else 0.0
        wanted = SEEN * unit / low if low > 0 else finest
        steps = count - 1 - number  # that are still to come
        least, most = max(1.25 * factors[-1], finest / STEP**steps), min(STEP * factors[-1], finest / 1.25**steps)
        factors.append(min(max(wanted, least), most))
    return [*factors, finest]


def _with_sides(
    factors: Sequence[float], short: float, oblong: float, chip: int, longest: int
) -> list[tuple[int, int]]:
    """(min side, max side) of each scale, rising, for images of a usual shorter side and a usual longer one to it."""
    sides = []
    for factor in factors[1:]:
        side = _round_side(factor * short)
        side = max(side, sides[-1][0] + 1) if sides else max(side, 2)
        sides.append((side, max(side, min(longest, _round_side(side * oblong)))))
    coarse = max(1, min([round(chip * 15 / 16), *(min(round(0.9 * side), side - 1) for side, _ in sides)]))
    return [(coarse, chip), *sides]


def _rule(number: int, factor: float, short: float, chip: int) -> ChipRule:
    """Half a training chip, a quarter more after scale 1 as in the paper; at most half of the level's shorter side."""
    wanted = chip / 2 if number == 1 else chip * 5 / 8
    level = min(factor * short, chip) if number == 1 else factor * short
    side = max(16, int(min(wanted, 0.75 * level)) // 16 * 16)
    return ChipRule(THRESHOLDS[min(number, len(THRESHOLDS)) - 1], DILATION, side)


def _saving(
    dataset: Dataset,
    chosen: Sequence[int],
    scales: Sequence[Scale],
    focus_range: FocusRange,
    progress: Callable[[int, int], None] | None,
) -> tuple[Saving, np.ndarray]:
    """What perfect focus maps cost on some images, and the sizes [c, 2] of all chips."""
    pixels, full = np.zeros(len(scales)), np.zeros(len(scales))
    chip_sizes, without = [], 0
    for done, index in enumerate(chosen, 1):
        info, truth = dataset.info(int(index)), dataset.ground_truth(int(index))
        stages = oracle_chips((info.height, info.width), truth, Plan(scales), focus_range)
        pixels += [stage.sizes.prod(axis=1).sum() for stage in stages]
        full += [math.prod(pyramid.level_size(info.height, info.width, scale)) for scale in scales]
        without += all(not len(stage.boxes) for stage in stages[1:])
        chip_sizes += [stage.sizes for stage in stages]
        if progress is not None:
            progress(done, len(chosen))
    count = len(chosen)
    return Saving(count, pixels / count, full / count, without / count), np.concatenate(chip_sizes)


def _verdict(given: Sizes, scales: Sequence[Scale], saving: Saving) -> tuple[bool, str]:
    if len(scales) == 1:
        smallest = float(np.percentile(given.objects, 10))
        return False, (
            f"The method does not help here: nine of ten objects have {smallest:.0f} px or more and are seen well at "
            f"one scale of {scales[0].max_side} px; there is nothing to zoom into."
        )
    small = float((given.objects < scales[0].valid.low).mean())
    shares = saving.pixels[1:] / saving.full_pixels[1:]
    shown = ", ".join(f"{share:.0%} of scale {number}" for number, share in enumerate(shares, 2))
    own, whole = (math.sqrt(pixels.sum()) for pixels in (saving.pixels, saving.full_pixels))
    facts = (
        f"{small:.0%} of the objects are below {scales[0].valid.low:g} px and need a finer scale than the first. "
        f"Perfect focus maps would look at {shown}, and at {saving.factor:.2g} times fewer pixels in all than the "
        f"whole pyramid ({own:.0f} instead of {whole:.0f} on a side); "
        f"{saving.without_chips:.0%} of the images need scale 1 alone."
    )
    if saving.factor < 2:
        return False, f"The method saves little here, since small objects are nearly everywhere: {facts}"
    return True, f"The method helps here: {facts} A trained detector reaches a part of that."


def _nice(side: float) -> float:
    """Rounded to what one would write: whole px, from 50 on multiples of 5."""
    if not math.isfinite(side):
        return side
    return float(round(side)) if side < 50 else 5.0 * round(side / 5)


def _round_side(side: float) -> int:
    step = 50 if side >= 1000 else 20 if side >= 200 else 1
    return max(1, step * round(side / step))

