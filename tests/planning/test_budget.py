import math

import pytest

from autofocus_jax.planning.budget import BudgetError, Reached, for_drop, for_pixels, shifted
from autofocus_jax.structures import ChipRule, Scale, ValidRange

EVERY = ValidRange(0, 1e9)
SCALES = (
    Scale(10, 20, EVERY, ChipRule(0.02, 3, 16)),
    Scale(20, 40, EVERY, ChipRule(0.2, 1, 8)),
    Scale(40, 80, EVERY, None),
)


def logit(p):
    return math.log(p / (1 - p))


def thresholds(scales):
    return [scale.chips.threshold for scale in scales if scale.chips]


def measure(scales):
    """Pixels fall from 900 to 100 with the thresholds, AP from 50 to 40."""
    share = sum(1 / (1 + math.exp(logit(t))) for t in thresholds(scales)) / 2
    return Reached(40 + 10 * share, 100 + 800 * share)


@pytest.mark.parametrize("shift", [-3.0, 0.0, 2.5])
def test_thresholds_move_together_and_nothing_else_does(shift):
    moved = shifted(SCALES, shift)
    for before, after in zip(thresholds(SCALES), thresholds(moved)):
        assert logit(after) == pytest.approx(logit(before) + shift)
    assert [scale.chips and (scale.chips.dilation, scale.chips.min_size) for scale in moved] == [(3, 16), (1, 8), None]
    assert all(0 < t < 1 for far in (-99, 99) for t in thresholds(shifted(SCALES, far)))
    assert 0 < thresholds(shifted((Scale(1, 1, EVERY, ChipRule(0.0, 1, 1)), SCALES[-1]), 1.0))[0] < 1


@pytest.mark.parametrize("pixels", [150, 400, 700])
def test_the_budget_is_used_and_not_passed(pixels):
    choice = for_pixels(SCALES, measure, pixels)
    assert pixels * 0.95 <= choice.cost.pixels <= pixels and measure(choice.scales) == choice.cost


@pytest.mark.parametrize("least", [41.0, 45.0, 49.0])
def test_the_cheapest_thresholds_that_keep_the_ap(least):
    choice = for_drop(SCALES, measure, least)
    assert least <= choice.cost.ap <= least + 0.3


def test_ends_of_the_search():
    assert for_pixels(SCALES, measure, 5000).cost.pixels == pytest.approx(900, abs=1)
    assert for_drop(SCALES, measure, 10).cost.pixels == pytest.approx(100, abs=1)
    with pytest.raises(BudgetError, match=r"cost 10 px of side an image, and 9 are wanted"):
        for_pixels(SCALES, measure, 81)
    with pytest.raises(BudgetError, match=r"50\.0 AP, and 60\.0 is wanted; allow a larger drop"):
        for_drop(SCALES, measure, 60)
