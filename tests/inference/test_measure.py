"""Scores and cost of an oracle, whose answers are known, by rows with names and by both metrics."""

import numpy as np
import pytest

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference.measure import (
    HEADLINES,
    details,
    headline,
    measure,
    metrics,
    points,
    rows,
    score,
    table,
)
from autofocus_jax.structures import AutoFocusError, Bucket, ChipRule, FocusRange, Scale, ValidRange

PLAN = Plan(
    (Scale(64, 128, ValidRange(20, 1000), ChipRule(0.5, 1, 16)), Scale(128, 256, ValidRange(0, 30), None)),
    (Bucket(64, 128, 2), Bucket(128, 256, 1)), StackingConfig(border_tolerance=0.5), window=2,
)  # fmt: skip
RANGE = FocusRange(2, 32, 40)


@pytest.fixture
def scene(memory_dataset, truth):
    """Four images of 64x128 px with a small and a large object each; number 2 is corrupt. And the oracle's detector."""
    truths = [truth([[52, 36, 60, 44], [70, 5, 120, 60]], [0, 1]) for _ in range(4)]
    images = [None if number == 2 else np.zeros((64, 128, 3), np.uint8) for number in range(4)]
    return memory_dataset(images, truths, categories=("a", "b")), oracle_detect(truths, RANGE, 2)


@pytest.mark.parametrize("metric", ["coco", "voc"])
def test_rows_have_names_and_scores_of_the_metric(scene, metric):
    dataset, detect = scene
    found = {name: metrics(measure(dataset, detect, plan, metric=metric)) for name, plan in rows(PLAN).items()}
    assert list(found) == ["scale1", "scale2", "pyramid", "autofocus"]
    level1, level2, chip = 64 * 128, 128 * 256, 32**2  # the small object lies in one cell
    pixels = {"scale1": level1, "scale2": level2, "pyramid": level1 + level2, "autofocus": level1 + chip}
    assert {name: row["pixels_per_image"] for name, row in found.items()} == pixels
    for row in found.values():
        assert headline(row) == HEADLINES[metric][0]
        assert [row[key] for key in HEADLINES[metric]] == pytest.approx([100, 100])
    assert [column.header for column in table(found).columns][2] == HEADLINES[metric][0]


def test_what_was_found_cost_and_skipped(scene):
    dataset, detect = scene
    steps = []
    measured = measure(dataset, detect, PLAN, indices=[3, 2, 0], progress=steps.append)
    assert measured.run.indices == [3, 0] and measured.cost.images == 2 and sum(steps) == 3
    assert measured.cost.chips.tolist() == [2, 2] and measured.sizes == {(64, 128): 2, (32, 32): 2}
    assert measured.compilations == 0
    more = details(measured)
    assert more["AP_per_category"] == pytest.approx({"a": 100, "b": 100})
    assert [skipped["file_name"] for skipped in more["skipped"]] == ["2.png"]


def test_a_rule_of_ones_own_against_algorithm_1(scene):
    """All that a study of another rule needs: a plan with it."""
    dataset, detect = scene
    ours = Plan(PLAN.scales, PLAN.buckets, PLAN.stacking, [whole_level])
    one, other = (metrics(measure(dataset, detect, plan)) for plan in (ours, PLAN))
    assert one["AP"] == other["AP"] == pytest.approx(100) and one["pixels_per_image"] > 4 * other["pixels_per_image"]


def test_compilations_are_the_detectors_own(scene):
    dataset, oracle = scene

    def detect(chips, placements):
        detect.compilations += 1
        return oracle(chips, placements)

    detect.compilations = 5
    measured = measure(dataset, detect, PLAN, indices=[0])
    assert metrics(measured)["compilations"] == detect.compilations - 5 > 0


@pytest.mark.parametrize("metric", ["coco", "voc"])
def test_without_objects_scores_are_none(memory_dataset, truth, metric):
    dataset = memory_dataset([np.zeros((64, 128, 3), np.uint8)], [truth()], categories=("a",))
    measured = measure(dataset, oracle_detect([truth()], RANGE, 1), PLAN, metric=metric)
    assert set(points(measured.scores).values()) == {None}
    again = score(metric, dataset, measured.run.detections, measured.run.indices)
    assert set(points(again).values()) == {None}


def test_nothing_to_measure(scene):
    dataset, detect = scene
    with pytest.raises(AutoFocusError, match="none of 1 images could be processed; the first: image 2"):
        measure(dataset, detect, PLAN, indices=[2])
    with pytest.raises(AutoFocusError, match="metric must be one of coco, voc, got 'lvis'"):
        measure(dataset, detect, PLAN, metric="lvis")
