"""Plans: what fits, what does not, and the plans that are made of one."""

import dataclasses
import math

import numpy as np
import pytest

from autofocus_jax.focus.buckets import Loose, Multiple
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.plan import Plan, PlanError
from autofocus_jax.structures import Bucket, ChipRule, Scale, ValidRange

SCALES = (
    Scale(48, 64, ValidRange(20, math.inf), ChipRule(0.6, 1, 16)),
    Scale(96, 128, ValidRange(10, 30), ChipRule(0.3, 3, 24)),
    Scale(192, 256, ValidRange(0, 15), None),
)


def test_of_a_config(tiny_config):
    plan = Plan.of(dataclasses.replace(tiny_config, shrink=0.1, window=7))
    assert (plan.scales, plan.buckets, plan.stacking) == (tiny_config.scales, tiny_config.buckets, tiny_config.stacking)
    assert (plan.shrink, plan.window, plan.rules) == (0.1, 7, None)
    assert Plan.of(tiny_config, [whole_level]).functions == (whole_level,)


def test_rules_are_algorithm_1_of_each_scale_unless_given():
    rules = [function.keywords["rule"] for function in Plan(SCALES).functions]
    assert rules == [ChipRule(0.6, 1, 16), ChipRule(0.3, 3, 24)]
    other = dataclasses.replace(SCALES[0], chips=ChipRule(0.9, 1, 1))
    changed = dataclasses.replace(Plan(SCALES), scales=(other, *SCALES[1:]))
    assert changed.functions[0].keywords["rule"] == ChipRule(0.9, 1, 1)  # no rule of the plan that it was made of
    assert Plan(SCALES[:1]).functions == ()


def test_the_pyramid_and_a_scale_alone():
    plan = Plan(SCALES, shrink=0.1, window=3)
    assert plan.pyramid().functions == (whole_level,) * 2 and plan.pyramid().scales == SCALES
    alone = plan.alone(2)
    assert alone.scales == (Scale(96, 128, ValidRange(0, math.inf), None),) and alone.functions == ()
    assert (alone.shrink, alone.window) == (0.1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, "no scales"),
        ({"rules": [whole_level]}, "1 rules for 3 scales; give one for each scale but the last"),
        ({"scales": (SCALES[0], dataclasses.replace(SCALES[1], chips=None), SCALES[2])}, "scale 2 has no chip rule"),
        ({"scales": SCALES[::-1], "rules": [whole_level] * 2}, "scale 2 has min_side 96, less than the 192 of scale 1"),
        ({"shrink": 1.0}, r"shrink must be in \[0, 1\), got 1.0"),
        ({"window": 0}, "window must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit(settings, message):
    with pytest.raises(PlanError, match=message) as error:
        Plan(**{"scales": SCALES, **settings})
    assert "\n" not in str(error.value)


def test_other_sides_need_no_config():
    plan = Plan(SCALES, Loose(), window=3)
    larger = plan.with_sides([(48, 64), (100, 130), (200, 300)])
    assert [(scale.min_side, scale.max_side) for scale in larger.scales] == [(48, 64), (100, 130), (200, 300)]
    assert [scale.valid for scale in larger.scales] == [scale.valid for scale in SCALES]
    assert larger.buckets == Loose() and Plan(SCALES).with_sides([(1, 2)] * 3).buckets == Multiple()
    fixed = Plan(SCALES[:1], [Bucket(48, 64, 4)]).with_sides([(60, 90)])
    assert fixed.buckets == (Bucket(48, 64, 4), Bucket(64, 96, 1), Bucket(96, 64, 1))
    with pytest.raises(PlanError, match="2 pairs of sides for 3 scales"):
        plan.with_sides([(1, 2), (3, 4)])
    alone = plan.with_sides([(100, 130)])
    assert alone.scales == (Scale(100, 130, ValidRange(0, math.inf), None),) and alone.functions == ()


def test_sizes_that_fit_buckets():
    plan = Plan(SCALES, [Bucket(64, 64, 3), Bucket(96, 64, 2)], shrink=0.05)
    buckets, sizes = plan.fit(np.array([[30, 40], [66, 60], [90, 64]]))
    assert buckets == [Bucket(64, 64, 3), Bucket(64, 64, 3), Bucket(96, 64, 2)]
    np.testing.assert_array_equal(sizes, [[30, 40], [64, 60], [90, 64]])
    assert Plan(SCALES).buckets == Multiple()


@pytest.mark.parametrize("bucket", [Bucket(330, 320, 1), Bucket(320, 8, 1), Bucket(0, 16, 1), Bucket(64, 64, 0)])
def test_buckets_that_no_detector_takes(bucket):
    with pytest.raises(PlanError, match=r"wants sides that are multiples of 16 px and a batch of at least 1"):
        Plan([Scale(64, 64, ValidRange(0, 9), None)], [bucket])


def test_no_buckets():
    with pytest.raises(PlanError, match="the plan has no buckets"):
        Plan([Scale(64, 64, ValidRange(0, 9), None)], [])


def test_other_thresholds():
    rule, every = ChipRule(0.5, 3, 64), ValidRange(0, 9)
    plan = Plan([Scale(64, 64, every, rule), Scale(128, 128, every, rule), Scale(256, 256, every, None)])
    found = plan.with_thresholds(0.1)
    assert [scale.chips and scale.chips.threshold for scale in found.scales] == [0.1, 0.1, None]
    assert [scale.chips.threshold for scale in plan.with_thresholds(0.1, 0.2).scales[:-1]] == [0.1, 0.2]
    assert found.scales[0].chips.min_size == 64 and plan.scales[0].chips.threshold == 0.5
    with pytest.raises(PlanError, match="3 thresholds for 2 chip rules; give one, or 2"):
        plan.with_thresholds(0.1, 0.2, 0.3)
    with pytest.raises(PlanError, match="rules of its own, which have no threshold"):
        plan.pyramid().with_thresholds(0.1)
