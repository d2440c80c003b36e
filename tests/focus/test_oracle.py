import numpy as np
import pytest

from autofocus_jax import boxes as box_ops
from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.chips import focus_chips, whole_level
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import (
    FOCUS,
    AutoFocusError,
    Bucket,
    ChipBatch,
    ChipRule,
    FocusRange,
    GroundTruth,
    Placement,
    Scale,
    ValidRange,
)

# Factors are 1, 2 and 4. Every object between 4 and 256 px has a scale that answers for it, and is FOCUS before it.
RANGE = FocusRange(4, 64, 90)
RULE = ChipRule(0.5, 3, 48)
SCALES = (
    Scale(256, 320, ValidRange(56, np.inf), RULE),
    Scale(512, 640, ValidRange(28, 60), RULE),
    Scale(1024, 1280, ValidRange(0, 30), None),
)
BUCKETS = (Bucket(320, 320, 2), Bucket(640, 640, 2), Bucket(1280, 1280, 1))
STACKING = StackingConfig(border_tolerance=4.0)


def scenes(count):
    generator = np.random.default_rng(7)
    images, truths = [], []
    for _ in range(count):
        objects = int(generator.integers(0, 9))
        side = np.exp(generator.uniform(np.log(5), np.log(160), (objects, 1)))
        sides = side * np.exp(generator.uniform(-0.3, 0.3, (objects, 1))) ** np.array([1, -1])
        corner = generator.uniform(0, 1, (objects, 2)) * (np.array([320, 256]) - sides)
        boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
        truths.append(GroundTruth(boxes, generator.integers(0, 5, objects).astype(np.int32), np.zeros(objects, bool)))
        images.append(np.zeros((256, 320, 3), np.uint8))
    return images, truths


def recall(results, truths):
    found = [
        [((box_ops.iou(box[None], result.boxes)[0] > 0.99) & (result.labels == label)).any()
         for box, label in zip(truth.boxes, truth.labels)]
        for result, truth in zip(results, truths)
    ]  # fmt: skip
    return np.mean(np.concatenate(found))


def test_recall_is_one_for_objects_in_range_at_a_fraction_of_the_pixels():
    images, truths = scenes(25)
    results, info, _ = cascade(images, oracle_detect(truths, RANGE, 5), Plan(SCALES, BUCKETS, STACKING))
    assert recall(results, truths) == 1
    assert (info.pixels[1:] < 0.75 * info.full_pixels[1:]).all() and info.pixels[2] > 0
    pyramid = Plan(SCALES, BUCKETS, STACKING, [whole_level] * 2)
    everything, full, _ = cascade(images, oracle_detect(truths, RANGE, 5), pyramid)
    assert recall(everything, truths) == 1
    np.testing.assert_array_equal(full.pixels, full.full_pixels)


def test_its_pixels_are_those_of_perfect_focus_maps():
    images, truths = scenes(10)
    _, info, stages = cascade(images, oracle_detect(truths, RANGE, 5), Plan(SCALES, BUCKETS, STACKING))
    expected = 0
    for truth, image_stages in zip(truths, stages):
        labels = focus_labels(truth.boxes, 256, 320, RANGE)
        np.testing.assert_array_equal(image_stages[0].focus[0], labels == FOCUS)
        chips = focus_chips((labels == FOCUS).astype(float), (256, 320), RULE)
        expected += 4 * box_ops.area(chips).sum()
        np.testing.assert_array_equal(image_stages[1].chips, chips)
    assert info.pixels[1] == expected


def answer(truth, box, size, factor=2.0):
    place = Placement(0, 1, np.array(box, np.float32), np.array([factor, factor], np.float32))
    chips = ChipBatch(np.zeros((2, 64, 96, 3), np.uint8), np.array([size, (0, 0)]), np.array([True, False]))
    return oracle_detect([truth], RANGE, 3)(chips, [place])


def test_cut_objects_keep_the_size_of_the_whole():
    truth = GroundTruth(np.array([[0, 0, 44, 44], [40, 5, 50, 15]], np.float32), np.array([2, 0]), np.zeros(2, bool))
    output = answer(truth, [30, 10, 70, 40], (60, 80))
    np.testing.assert_allclose(output.boxes[0], [[0, 0, 28, 60], [20, 0, 40, 10]])
    np.testing.assert_array_equal(output.scores[0], [[0, 0, 1], [1, 0, 0]])
    assert output.valid[0].all() and not output.valid[1].any() and not output.focus[1].any()
    expected = np.zeros((4, 6))
    expected[0, 1:3] = 1  # only the second: the first is 88 px, cut to 41
    np.testing.assert_array_equal(output.focus[0], expected)


@pytest.mark.parametrize("crowd", [False, True])
def test_objects_outside_the_chip_and_crowds_are_not_found(crowd):
    boxes = np.array([[0, 0, 10, 10], [32, 12, 44, 24]], np.float32)
    truth = GroundTruth(boxes, np.array([1, 1]), np.array([False, crowd]))
    output = answer(truth, [30, 10, 70, 40], (60, 80))
    np.testing.assert_array_equal(output.valid[0], [False, not crowd])
    assert output.focus[0].any() != crowd


def test_no_objects():
    truth = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    output = answer(truth, [30, 10, 70, 40], (60, 80))
    assert not output.valid.any() and not output.focus.any()


def test_ground_truth_is_found_by_key():
    """In any order and for any part of the images, as a run that goes on or is shared processes them."""
    images, truths = scenes(6)
    plan = Plan(SCALES, BUCKETS, STACKING)
    expected, _, _ = cascade(images, oracle_detect(truths, RANGE, 5), plan)
    detect = oracle_detect({f"image {number}": truth for number, truth in enumerate(truths)}, RANGE, 5)
    for chosen in ([4, 1], [5], [3, 2, 0]):
        keys = [f"image {number}" for number in chosen]
        found, _, _ = cascade([images[number] for number in chosen], detect, plan, keys)
        for ours, number in zip(found, chosen, strict=True):
            np.testing.assert_array_equal(ours.boxes, expected[number].boxes)
    with pytest.raises(AutoFocusError, match="no ground truth of image 'other'"):
        cascade(images[:1], detect, plan, ["other"])
