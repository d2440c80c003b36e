"""Levels that are kept, and the cascade that is replayed from them, with the oracle as detector.

The oracle answers for a chip exactly as for its part of the level, but where cells or borders cut, so on drawn cases
the replay must equal the cascade itself.
"""

import dataclasses
import math

import numpy as np
import pytest

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.experiments import levels
from autofocus_jax.experiments.detector import DetectorInputs, Trained
from autofocus_jax.experiments.replay import replay
from autofocus_jax.experiments.result import silent
from autofocus_jax.focus.cascade import cascade, stream
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.planning.rule_search import chip_functions
from autofocus_jax.structures import AutoFocusError, Bucket, ChipRule, FocusRange, Scale, ValidRange

RULES = [
    (None, None),
    (ChipRule(0.5, 1, 16), None),
    (None, ChipRule(0.5, 1, 16)),
    (ChipRule(0.5, 3, 32), ChipRule(0.5, 1, 32)),
    (ChipRule(2.0, 1, 16), None),  # finds nothing
]


@pytest.fixture
def config():
    return Config(
        name="three-scales",
        data=CocoSource(root="unused"),
        scales=(
            Scale(64, 96, ValidRange(100, math.inf), ChipRule(0.5, 1, 16)),
            Scale(128, 192, ValidRange(50, 120), ChipRule(0.5, 1, 16)),
            Scale(256, 384, ValidRange(0, 60), None),
        ),
        focus_range=FocusRange(1, 30, 40),
        buckets=(Bucket(64, 96, 2), Bucket(128, 192, 2), Bucket(256, 384, 1)),
        detector=DetectorConfig(num_classes=2, backbone=BackboneConfig(), anchors=AnchorConfig()),
        training=TrainingConfig(steps=1, batch=1, chip=96, ranges=(ValidRange(0, math.inf),) * 3),
        stacking=StackingConfig(border_tolerance=1),
        window=2,
    )


@pytest.fixture
def scene(memory_dataset, truth):
    """Three images of 256x384 px: a small, a middle and a large object; nothing; a small one at the border."""
    truths = [
        truth([[42, 40, 58, 60], [150, 60, 230, 120], [250, 100, 380, 230]], [0, 1, 0]),
        truth(),
        truth([[370, 240, 384, 256], [100, 100, 120, 116]], [1, 1], [False, True]),
    ]
    images = [np.full((256, 384, 3), 10 * n, np.uint8) for n in range(3)]
    return memory_dataset(images, truths, categories=("a", "b"))


def detector(config, dataset, positions=None):
    truths = {index: dataset.ground_truth(index) for index in (positions or range(len(dataset)))}
    return oracle_detect(truths, config.focus_range, config.detector.num_classes)


def detect_levels(config, detect, images):
    readers = ((number, lambda image=image: image) for number, image in enumerate(images))
    outcomes = stream(readers, detect, levels.whole_levels(config), keep_stages=True)
    return [levels.levels_of(outcome) for outcome in outcomes]


@pytest.mark.parametrize("rules", RULES)
def test_replay_is_the_cascade(config, scene, rules):
    images, functions = scene.images, chip_functions(rules)
    wanted, wanted_cost, _ = cascade(images, detector(config, scene), Plan.of(config, functions))
    kept = detect_levels(config, detector(config, scene), images)
    found, cost = replay(kept, config, Plan.of(config, functions))
    for ours, theirs in zip(found, wanted, strict=True):
        order, other = (np.lexsort(part.boxes.T) for part in (ours, theirs))
        np.testing.assert_allclose(ours.boxes[order], theirs.boxes[other], atol=1e-3)
        np.testing.assert_array_equal(ours.labels[order], theirs.labels[other])
    assert cost.images == 3
    np.testing.assert_array_equal(cost.pixels, wanted_cost.pixels)
    np.testing.assert_array_equal(cost.chips, wanted_cost.chips)


def test_replay_leaves_out_what_no_chip_holds(config, scene):
    """A map of one cell gives one chip, and of the detections only those inside it stay."""
    (whole, *_) = detect_levels(config, detector(config, scene), scene.images[:1])
    map1 = np.zeros((4, 6), np.float32)
    map1[0, 0] = 1  # image px 0 to 64 along both axes
    plan = Plan.of(config, chip_functions((RULES[1][0], None)))
    found, cost = replay([whole._replace(focus=(map1, whole.focus[1]))], config, plan)
    np.testing.assert_allclose(
        found[0].boxes[np.argsort(found[0].boxes[:, 0])], [[42, 40, 58, 60], [250, 100, 380, 230]]
    )
    assert cost.pixels.tolist() == [64 * 96, 32 * 32, 64 * 64]


def test_merged_levels_are_the_pyramid(config, scene):
    kept = detect_levels(config, detector(config, scene), scene.images)
    functions = chip_functions((None, None))
    wanted, _, _ = cascade(scene.images, detector(config, scene), Plan.of(config, functions))
    for one, other in zip(kept, wanted, strict=True):
        merged = levels.merge_levels(one, config.scales, config)
        np.testing.assert_array_equal(merged.boxes, other.boxes)
        np.testing.assert_array_equal(merged.scores, other.scores)


@pytest.fixture
def keep(config, tmp_path):
    """keep(dataset, indices, detect, fingerprint, **settings) -> Kept, in one folder of results."""

    def keep(dataset, indices, detect, fingerprint="a", **settings):
        inputs = DetectorInputs(config="c", output=str(tmp_path), split="tune")
        changed = dataclasses.replace(config, **settings)
        return levels.keep_levels(inputs, changed, Trained(detect, fingerprint), dataset, indices, silent)

    return keep


def never(chips, placements):
    raise AssertionError("the detector ran")


def test_what_is_kept_is_not_computed_again(config, scene, keep):
    first = keep(scene, [0, 1], detector(config, scene))
    again = keep(scene, [0, 1], never)
    more = keep(scene, [0, 1, 2], detector(config, scene, [2]))  # goes on with what is missing
    for kept in (again.levels, more.levels[:2]):
        for one, other in zip(first.levels, kept, strict=True):
            assert one.size == other.size == (256, 384)
            for part, same in zip(one.found, other.found, strict=True):
                for values, expected in zip(part, same, strict=True):
                    np.testing.assert_array_equal(values, expected)
            for values, expected in zip(one.focus, other.focus, strict=True):
                np.testing.assert_array_equal(values, expected)
    assert [found.labels.tolist() for found in more.levels[2].found] == [[1]] * 3  # not the ignore region


def test_levels_of_another_detector_are_refused(config, scene, keep):
    keep(scene, [0], detector(config, scene))
    with pytest.raises(AutoFocusError, match=r"weights: a -> b.*use another --output"):
        keep(scene, [0], never, fingerprint="b")
    with pytest.raises(AutoFocusError, match="sides"):
        keep(scene, [0], never, scales=(dataclasses.replace(config.scales[0], max_side=95), *config.scales[1:]))
    keep(scene, [0], never, scales=(dataclasses.replace(config.scales[0], chips=ChipRule(0, 1, 1)), *config.scales[1:]))


def test_levels_of_another_shrink_or_of_other_images_are_refused(config, scene, keep, memory_dataset):
    keep(scene, [0], detector(config, scene))
    with pytest.raises(AutoFocusError, match=r"shrink: 0.0 -> 0.2.*use another --output"):
        keep(scene, [0], never, shrink=0.2)
    with pytest.raises(AutoFocusError, match=r"data.images: 3 -> 2"):
        keep(memory_dataset(scene.images[:2], scene.truths[:2], scene.categories), [0], never)


def test_levels_of_an_older_version_are_one_line(config, scene, keep, tmp_path):
    keep(scene, [0], detector(config, scene))
    (tmp_path / "levels" / "tune" / "origin.json").write_text('{"version": 1, "weights": "a"}')
    with pytest.raises(AutoFocusError, match=r"tune was made by an older version .*remove the folder, or use another"):
        keep(scene, [0], never)


def test_damaged_and_unreadable_files(config, scene, keep, tmp_path):
    scene.images[1] = None
    kept = keep(scene, [0, 1, 2], detector(config, scene, [0, 2]))
    assert kept.indices == [0, 2] and kept.skipped == ["image 1.png cannot be decoded"]
    with pytest.raises(AutoFocusError, match=r"none of 1 images could be read; the first: image 1.png"):
        keep(scene, [1], never)
    (tmp_path / "levels" / "tune" / "000002.npz").write_bytes(b"PK damaged")
    with pytest.raises(AutoFocusError, match=r"000002.npz cannot be read"):
        keep(scene, [2], never)


@pytest.fixture
def config_that_shrinks(config):
    """The same with buckets that make the levels of the finer scales a little narrower."""
    buckets = (Bucket(64, 96, 2), Bucket(128, 176, 2), Bucket(256, 368, 1))
    return dataclasses.replace(config, buckets=buckets, shrink=0.1)


def test_levels_shrink_as_those_of_the_cascade(config_that_shrinks, scene):
    """What is kept is of the sizes that the pyramid really processes, and merges to what it finds."""
    config, scene_detector = config_that_shrinks, detector(config_that_shrinks, scene)
    plan = Plan.of(config).pyramid()
    assert levels.level_sizes((256, 384), plan) == [(64, 96), (128, 176), (256, 368)]
    kept = detect_levels(config, scene_detector, scene.images)
    assert kept[0].focus[1].shape == (8, 11)
    wanted, cost, _ = cascade(scene.images, scene_detector, plan)
    found, replayed = replay(kept, config, plan)
    np.testing.assert_array_equal(replayed.pixels, cost.pixels)
    for one, other, again in zip(kept, wanted, found, strict=True):
        merged = levels.merge_levels(one, config.scales, config)
        np.testing.assert_array_equal(merged.boxes, other.boxes)
        np.testing.assert_allclose(again.boxes, other.boxes, atol=1e-3)


def test_levels_of_another_shrink_are_not_taken(scene, keep, config):
    keep(scene, [0], detector(config, scene))
    with pytest.raises(AutoFocusError, match="shrink"):
        keep(scene, [0], never, shrink=0.1)
