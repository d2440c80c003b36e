"""A plan from the side of a detector's input and the sizes of photographs: those that were measured, and the rest."""

import itertools
import math

import pytest

from autofocus_jax.focus import pyramid
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.proposal import of_scales, proposal
from autofocus_jax.structures import ChipRule, Scale, ValidRange


def detector(side=None):
    return CropDetector(None, None if side is None else (side, side), 32, (114, 114, 114), None)


@pytest.mark.parametrize("side", [None, 416, 320])
def test_photographs_of_4k_have_the_plan_that_was_measured(side):
    """What a run over drone photographs with two detectors was best with: 960 and 3840, ranges 300 and 400, k 64."""
    plan = proposal(detector(side), [(2160, 3840)] * 3).plan
    assert plan.scales == (
        Scale(960, 960, ValidRange(300, math.inf), ChipRule(0.02, 3, 64)),
        Scale(3840, 3840, ValidRange(0, 400), None),
    )
    assert plan.buckets == Loose() and plan.stacking.border_tolerance == 4 and plan.stacking.nms_iou == 0.6


@pytest.mark.parametrize("side", [None, 416])
def test_small_photographs_have_the_plan_that_was_measured(side):
    """On photographs of COCO it was 416 and 832, ranges (80, inf) and (0, 160), k 96, border 3."""
    plan = proposal(detector(side), [(427, 640), (640, 480), (375, 500), (480, 640)]).plan
    assert plan.scales == (
        Scale(416, 416, ValidRange(80, math.inf), ChipRule(0.02, 3, 96)),
        Scale(832, 832, ValidRange(0, 160), None),
    )
    assert plan.stacking.border_tolerance == 3


def test_a_portrait_counts_by_its_longer_side():
    assert proposal(detector(), [(3840, 2160)]).plan == proposal(detector(), [(2160, 3840)]).plan


def test_photographs_no_larger_than_the_input_have_one_scale_and_it_is_said():
    plan, reasons = proposal(detector(640), [(480, 640), (640, 640)])
    assert plan.scales == (Scale(640, 640, ValidRange(0, math.inf), None),)
    assert "one scale: photographs of 640 px are no larger" in reasons[-1]
    assert len(proposal(detector(640), [(480, 700)]).plan.scales) == 2


@pytest.mark.parametrize("longer", [641, 1000, 1920, 2560, 5000, 8192, 12000, 60000])
@pytest.mark.parametrize("side", [320, 416, 640])
def test_every_size_is_some_scale_s_and_steps_are_bounded(longer, side):
    plan = proposal(detector(side), [(longer * 3 // 4, longer)]).plan
    sides = [scale.max_side for scale in plan.scales]
    assert sides[0] >= side and sides[0] <= max(side, 2560)
    assert sides[-1] == max(longer, 2 * side), "nothing is lost, and what is small is enlarged"
    assert all(1 < finer / coarser <= 4.1 for coarser, finer in itertools.pairwise(sides))
    for coarse, fine in itertools.pairwise(plan.scales):
        assert fine.valid.low < coarse.valid.low < fine.valid.high, "ranges overlap"
        factors = [pyramid.factor(longer * 3 // 4, longer, scale) for scale in (coarse, fine)]
        least = coarse.chips.min_size * factors[1] / factors[0]
        assert least <= 256 or coarse.chips.min_size == 16, "in px of the next level"
    assert plan.scales[-1].valid.low == 0 and plan.scales[0].valid.high == math.inf


def test_what_can_be_said_otherwise():
    plan = proposal(detector(), [(2160, 3840)], side=1280).plan
    assert [scale.max_side for scale in plan.scales] == [1280, 3840]
    assert of_scales([1280, 3840], 3840, 0.1).scales[0].chips.threshold == 0.1
    told = detector()._replace(made_for=640)
    assert [scale.max_side for scale in proposal(told, [(480, 700)]).plan.scales] == [640, 1280]
    assert "640 px is seen well (the file says so)" in proposal(told, [(480, 640)]).reasons[0]
    assert "as asked" in proposal(detector(), [(2160, 3840)], side=1280).reasons[0]


def test_what_makes_no_sense():
    with pytest.raises(ForeignError, match="no photograph"):
        proposal(detector(), [])
    with pytest.raises(ForeignError, match="side must be at least 16 px, got 8"):
        proposal(detector(), [(100, 100)], side=8)
