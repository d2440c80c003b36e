"""What a detector finds at which magnification, with a detector whose sight is known, and the plan that follows."""

import math

import numpy as np
import pytest

from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.magnification import Trial, candidate_sides, find_at, suggest_plan, trial
from autofocus_jax.structures import Detections


def found(*rows):
    """Rows of (x, y, side, score), all of class 0."""
    boxes = np.array([[x, y, x + side, y + side] for x, y, side, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([row[3] for row in rows], np.float32), np.zeros(len(rows), np.int32))


@pytest.mark.parametrize(("own", "longer", "sides"), [
    (416, 640, (416, 832)), (416, 3840, (480, 960, 1920, 3840)), (320, 320, (320, 640)), (640, 1920, (960, 1920)),
])  # fmt: skip
def test_sides_that_are_tried(own, longer, sides):
    assert candidate_sides(own, longer) == sides


def test_boxes_come_back_from_a_level():
    def white(crops):
        (crop,) = crops
        ys, xs = np.nonzero(crop[..., 0] > 127)
        box = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
        return [Detections(np.array(box, np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))]

    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 100:140] = 255
    for side in (100, 200, 400):
        at = find_at(CropDetector(white, None, 32, (0, 0, 0), None), image, side)
        assert at.boxes[0] == pytest.approx([100, 40, 140, 60], abs=2)


def test_objects_are_matched_across_magnifications():
    coarse = found(
        (0, 0, 100, 0.9),  # a large one, found at both
        (205, 200, 30, 0.03),  # touches a small one that is sure at the finer one
        (400, 0, 200, 0.7),  # a large one that the finer level does not know: no object
    )  # fmt: skip
    fine = found((2, 0, 100, 0.3), (200, 200, 30, 0.8), (300, 300, 30, 0.9), (600, 300, 100, 0.6))
    measured = trial((500, 1000), [(500, 1000)], [[coarse, fine]])
    # The large one at 600 is seen 50 px large at the coarser level, and not even suspected there: no object either.
    assert sorted(measured.sizes.tolist()) == [30, 30, 100] and measured.longer == 1000
    order = np.argsort(measured.sizes, kind="stable")
    assert measured.found[:, order].tolist() == [[False, False, True], [True, True, True]]
    assert sorted(measured.suspicion[0, order[:2]].tolist()) == pytest.approx([0, 0.03]), "one of the small ones"
    assert measured.suspicion[1, order[2]] == 0, "a large detection is no reason to look again"


def sight(sizes, sides, longer, seen, noticed, score=0.03):
    """A Trial of a detector that finds what has `seen` (from, to) px on a level and suspects from `noticed` px on."""
    levels = np.array(sides)[:, None] / longer * sizes
    found = (levels >= seen[0]) & (levels < seen[1])
    return Trial(sides, longer, sizes, np.where(found, 0.7, 0.0), np.where(levels >= noticed, score, 0.0))


def test_the_plan_that_follows():
    sizes = np.geomspace(20, 120, 60)
    sides = (480, 960, 1920, 3840)
    plan, reasons = suggest_plan(sight(sizes, sides, 3840, (20, math.inf), 4))
    assert [scale.max_side for scale in plan.scales] == [960, 3840], "480 shows 20 px too small, 960 does not"
    assert (plan.scales[0].valid.low, plan.scales[1].valid.high) == (300, 400), "as proposed without a trial"
    assert plan.scales[0].chips.threshold == 0.02 and len(reasons) == 4
    plan, _ = suggest_plan(sight(sizes, sides, 3840, (20, math.inf), 2))
    assert plan.scales[0].max_side == 480, "a detector that suspects smaller things needs less"
    plan, _ = suggest_plan(sight(sizes, sides, 3840, (40, math.inf), 4))
    assert plan.scales[-1].max_side == 3840
    plan, reasons = suggest_plan(sight(np.geomspace(20, 1000, 60), sides, 3840, (20, 200), 4))
    assert plan.scales[-1].valid.high == pytest.approx(200 * 1.15, rel=0.1), "the finer level sees no larger ones"
    assert plan.scales[0].valid.low == pytest.approx(200 / 1.15, rel=0.1) and "sizes up to" in reasons[-1]


@pytest.mark.parametrize(("score", "threshold"), [(0.15, 0.1), (0.6, 0.2), (0.03, 0.02), (0.02, 0.02)])
def test_it_is_looked_again_from_a_score_that_most_missed_objects_have(score, threshold):
    measured = sight(np.geomspace(20, 120, 60), (960, 3840), 3840, (20, math.inf), 4, score)
    plan, reasons = suggest_plan(measured)
    assert plan.scales[0].chips.threshold == threshold and f"from a score of {threshold:g} on" in reasons[2]
    few = measured._replace(sizes=measured.sizes + 100, scores=np.full_like(measured.scores, 0.7))
    few.scores[0, :5] = 0
    few.scores[1] = 0.9
    assert suggest_plan(few)[0].scales[0].chips.threshold == 0.02, "five missed objects say nothing"


def test_a_detector_that_suspects_little_is_asked_for_its_weakest():
    measured = sight(np.geomspace(20, 120, 60), (960, 3840), 3840, (20, math.inf), 20)
    plan, reasons = suggest_plan(measured)
    assert plan.scales[0].chips.threshold == 0.01 and "so 0% of what scale 1 misses" in reasons[2]


def test_a_finer_scale_that_is_surer_is_worth_it():
    """All objects are found at 1920 already, but with lower scores."""
    measured = sight(np.geomspace(20, 120, 60), (960, 1920, 3840), 3840, (10, math.inf), 4)
    assert suggest_plan(measured)[0].scales[-1].max_side == 1920
    measured.scores[2] = 0.8
    plan, reasons = suggest_plan(measured)
    assert plan.scales[-1].max_side == 3840 and "a score of 0.80 on average" in reasons[0]


def test_one_scale_where_larger_ones_find_nothing_more():
    plan, reasons = suggest_plan(sight(np.geomspace(100, 300, 20), (416, 832), 640, (20, math.inf), 10))
    assert [scale.max_side for scale in plan.scales] == [416] and plan.scales[0].valid.high == math.inf
    assert "one scale" in reasons[-1]


def test_too_little_to_go_by():
    with pytest.raises(ForeignError, match=r"9 objects are found surely .* too little to go by"):
        suggest_plan(sight(np.full(9, 50.0), (416, 832), 640, (20, math.inf), 10))
