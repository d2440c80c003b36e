"""The pyramid of fewest pixels that meets a detector's needs, from a data set's boxes alone.

Every candidate (planning.candidates) is tried on the boxes with perfect focus maps (planning.forecast). The cheapest
candidate that loses few objects at chip borders is taken.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from autofocus_jax.config import ConfigError
from autofocus_jax.planning.bucket_choice import choose_shapes, count_sizes, padding_by_count, with_batches
from autofocus_jax.planning.candidates import (
    OVERLAP,
    STEP,
    Candidate,
    Needs,
    Sizes,
    candidates,
    finest_factor,
    nice,
    sizes,
    usual,
)
from autofocus_jax.planning.forecast import Forecast, forecast
from autofocus_jax.structures import LEADS, Bucket, Dataset, ValidRange

TRIED = 60  # images that candidates are compared on
REACHED = 0.95  # of the objects that a plan must show uncut, or 0.01 less than the plan that shows most
EQUAL = 1.02  # a plan of so many times the fewest pixels is as cheap; of those the one with fewest scales is taken
SEEN = (0.5, 0.7, 1.0, 1.4, 2.0)  # times the wanted `seen`: the frontier
PADDED, BUCKETS = 0.15, 40  # buckets are added until padding is below this share of the chips' pixels; at most so many

Progress = Callable[[int, int], None]


class Choice(NamedTuple):
    """The best pyramid for one need, on the images that candidates are compared on."""

    needs: Needs
    candidate: Candidate
    forecast: Forecast


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Settings for a data set, with reasons. `verdict` says in numbers whether the method helps."""

    needs: Needs
    candidate: Candidate
    training_ranges: tuple[ValidRange, ...]
    buckets: tuple[Bucket, ...]
    padding: float  # pixels that padding adds, over the chips' own
    forecast: Forecast
    helps: bool
    verdict: str
    reasons: tuple[str, ...]

    @property
    def scales(self):
        return self.candidate.plan.scales


def spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` of `count` indices, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def checked_sizes(dataset: Dataset) -> Sizes:
    """Return the sizes of a data set.

    Raises:
        ConfigError: the data set has no object.
    """
    given = sizes(dataset)
    if not len(given.objects):
        raise ConfigError(f"none of {len(given.images)} images has an object; there are no sizes to go by")
    return given


def best(dataset: Dataset, given: Sizes, needs: Needs, progress: Progress | None = None) -> Choice:
    """Return the cheapest pyramid that meets the needs.

    Args:
        dataset: boxes and sizes of images.
        given: its sizes.
        needs: what the detector needs.
        progress: called with (done, all) after each candidate.
    """
    indices, made = spread(len(dataset), TRIED), list(candidates(given, needs))
    found = []
    for number, candidate in enumerate(made, 1):
        found.append(Choice(needs, candidate, forecast(dataset, indices, candidate.plan, candidate.focus_range)))
        if progress is not None:
            progress(number, len(made))
    enough = min(REACHED, max(choice.forecast.reached for choice in found) - 0.01)
    good = [choice for choice in found if choice.forecast.reached >= enough]
    least = EQUAL * min(choice.forecast.pixels.sum() for choice in good)
    cheap = [choice for choice in good if choice.forecast.pixels.sum() <= least]
    return min(cheap, key=lambda choice: (len(choice.candidate.factors), choice.forecast.pixels.sum()))


def tried(dataset: Dataset, needs: Needs, progress: Progress | None = None) -> list[Choice]:
    """Return the best pyramid for each of several sizes from which objects are seen well.

    One size is that of the needs.
    """
    given = checked_sizes(dataset)
    choices = []
    for number, times in enumerate(SEEN, 1):
        seen = needs.seen if times == 1 else min(float(needs.chip), nice(needs.seen * times))
        choices.append(best(dataset, given, dataclasses.replace(needs, seen=seen)))
        if progress is not None:
            progress(number, len(SEEN))
    return choices


def frontier(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices, fewest pixels first, without those that show objects no larger than a cheaper choice does."""
    enough = min(REACHED, max(choice.forecast.reached for choice in choices) - 0.01)
    choices = [choice for choice in choices if choice.forecast.reached >= enough]
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: choice.forecast.pixels.sum()):
        if not kept or choice.candidate.factors[-1] > kept[-1].candidate.factors[-1] * 1.01:
            kept.append(choice)
    return kept


def within(choices: Sequence[Choice], side: float) -> Choice:
    """Return the choice of at most `side` squared pixels an image that shows objects largest.

    Raises:
        ConfigError: no choice is so cheap.
    """
    good = [choice for choice in choices if choice.forecast.side <= side]
    if not good:
        cheapest = min(choice.forecast.side for choice in choices)
        raise ConfigError(f"the cheapest plan takes {cheapest:.0f} px on a side, and {side:g} are allowed; allow "
                          "more, or need less context")  # fmt: skip
    return max(good, key=lambda choice: choice.candidate.factors[-1])


def suggest(
    dataset: Dataset, needs: Needs = Needs(), sample: int = 2000, progress: Progress | None = None
) -> Suggestion:
    """Return settings for a data set.

    Args:
        dataset: boxes and sizes of images; no image is opened.
        needs: needs of the detector.
        sample: number of images, spread over the data set, whose chips are computed at the end.
        progress: called with (done, all) of the candidates, then of the images.

    Raises:
        ConfigError: the data set has no object.
    """
    given = checked_sizes(dataset)
    return finished(dataset, given, best(dataset, given, needs, progress), sample, progress)


def finished(
    dataset: Dataset, given: Sizes, choice: Choice, sample: int = 2000, progress: Progress | None = None
) -> Suggestion:
    """Return a choice with training ranges, buckets, a verdict and reasons; the arguments are those of `suggest`."""
    candidate, needs = choice.candidate, choice.needs
    plan = candidate.plan
    found = forecast(dataset, spread(len(dataset), sample), plan, candidate.focus_range, progress)
    chips = count_sizes(found.sizes)
    counts = padding_by_count(chips, plan.scales, BUCKETS)
    count = next((count for count, added in counts.items() if added <= PADDED), max(counts))
    shapes = choose_shapes(chips, plan.scales, count)
    buckets = with_batches(shapes.shapes, 4 * needs.chip**2)
    ranges = tuple(
        LEADS if scale.leads else ValidRange(nice(scale.valid.low / 1.2), nice(scale.valid.high * 1.2))
        for scale in plan.scales
    )
    helps, verdict = _verdict(given, candidate, found)
    reasons = (*_reasons(given, choice), f"{len(buckets)} buckets pad the chips of {found.images} images by "
               f"{shapes.padding:.0%}")  # fmt: skip
    return Suggestion(needs, candidate, ranges, buckets, shapes.padding, found, helps, verdict, reasons)


def _reasons(given: Sizes, choice: Choice) -> list[str]:
    needs, factors, scales = choice.needs, choice.candidate.factors, choice.candidate.plan.scales
    _, long = usual(given)
    smallest, leading = given.smallest, choice.candidate.leading
    reasons = [
        f"scale 1: the longer side becomes {scales[0].max_side} px, so an image of {long:.0f} px is seen "
        f"{factors[0]:.2g} times as large and the smallest tenth of the objects has up to {smallest * factors[0]:.2g} "
        "px"
    ]
    if len(factors) == 1:
        reasons.append(f"no other scale: a tenth of the objects is below {smallest:.0f} px, and scale 1 shows these "
                       f"{smallest * factors[0]:.0f} px large already")  # fmt: skip
        return reasons
    wanted, possible = finest_factor(given, needs)
    limit = "" if possible == wanted else (
        f"; {possible:.2g} times is the most that a longer side of {needs.longest} px and enlarging allow"
    )  # fmt: skip
    reasons.append(f"scale {len(factors)}: a tenth of the objects is below {smallest:.0f} px and should have "
                   f"{wanted * smallest:.0f} px, {wanted:.2g} times as large as in the image{limit}")  # fmt: skip
    reasons.append(f"{len(factors)} scales, at most {STEP:g} times from one to the next: the fewest pixels of all "
                   "pyramids that were tried")  # fmt: skip
    for number, factor in enumerate(factors[:leading], 1):
        low = needs.seen / factor
        reasons.append(f"scale {number} only leads, it answers for nothing: {(given.objects >= low).mean():.1%} of the "
                       f"objects have the {low:.0f} px that it would see well")  # fmt: skip
    if leading < len(factors) - 1:
        reasons.append(f"valid ranges: from {needs.seen:g} px as a scale shows it, up to {OVERLAP:g} times the lower "
                       "end of the coarser scale's range")  # fmt: skip
    least = " and ".join(str(scale.chips.min_size) for scale in scales[:-1] if scale.chips)
    reasons.append(f"chips of at least {least} level px, so that the next scale sees {needs.context} px of context; "
                   "thresholds are the paper's kind, to be chosen on `tune` after training "
                   "(autofocus experiment chip_rules)")  # fmt: skip
    reach = choice.candidate.focus_range
    reasons.append("focus range: all objects are looked at closer, because the finest scale answers for all sizes"
                   if math.isinf(reach.b) else f"focus range {reach.a:g}, {reach.b:g}, {reach.c:g} chip px: the "
                   f"paper's, for training chips of {needs.chip} px")  # fmt: skip
    return reasons


def _verdict(given: Sizes, candidate: Candidate, found: Forecast) -> tuple[bool, str]:
    scales, factors = candidate.plan.scales, candidate.factors
    if len(scales) == 1:
        return False, (
            f"The method does not help here: nine of ten objects have {given.smallest:.0f} px or more and are seen "
            f"well at one scale of {scales[0].max_side} px; there is nothing to zoom into."
        )
    shares = found.pixels[1:] / found.full_pixels[1:]
    shown = ", ".join(f"{share:.0%} of scale {number}" for number, share in enumerate(shares, 2))
    facts = (
        f"Perfect focus maps would look at {shown}, and at {found.factor:.2g} times fewer pixels in all than the "
        f"whole pyramid ({found.side:.0f} instead of {math.sqrt(found.full_pixels.sum()):.0f} on a side); "
        f"{found.without_chips:.0%} of the images need scale 1 alone, and {found.reached:.0%} of the objects are shown "
        f"uncut, the smallest tenth up to {given.smallest * factors[-1]:.0f} px large."
    )
    if found.factor < 2:
        return False, f"The method saves little here, since small objects are nearly everywhere: {facts}"
    return True, f"The method helps here: {facts} A trained detector reaches a part of that."


def given_up(choices: Sequence[Choice]) -> list[str]:
    """Return a sentence for each step of the frontier: what the cheaper choice of a pair gives up."""
    lines = []
    for less, more in itertools.pairwise(choices):
        saved = 1 - less.forecast.pixels.sum() / more.forecast.pixels.sum()
        zoom = less.candidate.factors[-1] / more.candidate.factors[-1]
        lines.append(f"objects seen with {less.needs.seen:g} px instead of {more.needs.seen:g} save {saved:.0%} of the "
                     f"pixels, and the smallest are shown {1 - zoom:.0%} smaller")  # fmt: skip
    return lines
