"""load(detector=...): detectors that are not ours, of whatever kind, with a plan that is proposed or given."""

import cv2
import numpy as np
import pytest

from autofocus_jax import load
from autofocus_jax.config import ConfigError
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.proposal import proposal
from autofocus_jax.structures import ChipRule, Detections, DetectorError, ImageError, Scale, ValidRange
from autofocus_jax.where.combine import empty_map

COARSE = Scale(160, 240, ValidRange(100, np.inf), ChipRule(0.02, 3, 16))
PLAN = Plan((COARSE, Scale(640, 960, ValidRange(0, 200), None)), Loose())


def bright(image):
    """One box around all bright pixels: weak where it is short, none where there are none."""
    if image.max() == 13:
        raise ValueError("no good")
    ys, xs = np.nonzero(image[..., 0] > 128)
    if not len(ys):
        return np.zeros((0, 4)), np.zeros(0), np.zeros(0)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    return np.array([box]), np.array([0.05 if box[2] - box[0] < 20 else 0.9]), np.array([0])


def picture(height=640, width=960):
    image = np.zeros((height, width, 3), np.uint8)
    image[304:320, 512:536] = 255
    return image


def test_a_function_with_a_plan_that_is_given():
    model = load(detector=bright, categories=["spot"], plan=PLAN)
    assert model.plan is PLAN and model.config is None and model.proposed([(9, 9)]) is model
    result = model(picture())
    np.testing.assert_allclose(result.boxes, [[512, 304, 536, 320]])
    assert result.names == ["spot"] and result.pixels < 0.2 * result.pyramid_pixels


def test_without_a_plan_one_is_proposed_for_the_images_of_the_call(tmp_path):
    model = load(detector=bright, categories=["spot"])
    assert model.plan is None
    with pytest.raises(ConfigError, match=r"no plan yet; use model\.proposed\(sizes\)"):
        model.stream([])
    wanted = proposal(model.detect.detector, [(640, 960)]).plan
    assert model.proposed([(640, 960)]).plan == wanted and model.plan is None
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    result = model(tmp_path / "a.png", stages=True)
    assert len(result.stages) == len(wanted.scales) == 2 and result.pyramid_pixels == 640 * 960 + 277 * 416
    mixed = model([picture(), picture(640, 3000), picture(640, 3000)])
    assert mixed[0].pyramid_pixels > 3000 * 2000, "one plan for all, of the median"
    assert model([]) == []
    with pytest.raises(ImageError, match=r"image 1 of the list: .*none\.png cannot be read"):
        model([picture(), "none.png"])


def test_focus_is_weak_a_function_or_none():
    def nowhere(crops, places, found):
        return [empty_map(crop) for crop in crops]

    kinds = (nowhere, "weak", None)
    pixels = [load(detector=bright, categories=["a"], focus=focus)(picture()).pixels for focus in kinds]
    whole = load(detector=bright, categories=["a"])(picture()).pyramid_pixels
    assert pixels[0] < pixels[1] < pixels[2] == whole
    with pytest.raises(ConfigError, match="a function or None, got 'strong'"):
        load(detector=bright, categories=["a"], focus="strong")


def test_other_kinds_of_detectors():
    crops = CropDetector(lambda crops: [], None, 32, (7, 7, 7), ("a", "b"))
    assert load(detector=crops).categories == ("a", "b")
    assert load(detector=crops, categories="xy").categories == ("x", "y")
    detect = ForeignDetect(crops)
    assert load(detector=detect).detect is detect
    with pytest.raises(ConfigError, match="3 names of categories for a detector of 2"):
        load(detector=crops, categories="xyz")
    with pytest.raises(ConfigError, match="does not say the names of its classes; give categories"):
        load(detector=bright)
    with pytest.raises(ForeignError, match=r"model none\.onnx does not exist"):
        load(detector="none.onnx")
    with pytest.raises(ForeignError, match="a int is no detector that is known"):
        load(detector=3)


def test_options_that_do_not_go_together():
    for options, says in (
        ({}, "either weights or a detector"),
        ({"weights": "demo", "detector": bright}, "either weights or a detector"),
        ({"weights": "demo", "plan": PLAN}, "plan goes with detector"),
        ({"detector": bright, "rules": []}, "config and rules go with weights"),
        ({"detector": bright, "plan": Plan(PLAN.scales)}, "needs loose chips"),
    ):
        with pytest.raises(ConfigError, match=says):
            load(**options)


def test_an_image_that_the_detector_cannot_bear_is_left_out():
    bad = np.full((640, 960, 3), 13, np.uint8)
    model = load(detector=bright, categories=["a"], plan=PLAN)
    outcomes = list(model.stream((name, lambda image=image: image) for name, image in (
        ("good", picture()), ("bad", bad), ("other", picture()))))  # fmt: skip
    assert [outcome.key for outcome in outcomes] == ["good", "bad", "other"]
    assert outcomes[0].error is outcomes[2].error is None and len(outcomes[2].detections.scores) == 1
    says = "the callback raised ValueError on a crop of 160x240 px: no good"
    assert outcomes[1].error == says
    with pytest.raises(ImageError, match="the callback raised ValueError"):
        model(bad)


def test_a_detector_that_never_works_ends_the_run():
    model = load(detector=bright, categories=["a"], plan=PLAN)
    bad = [(number, lambda: np.full((640, 960, 3), 13, np.uint8)) for number in range(20)]
    with pytest.raises(DetectorError, match="failed on each of the first 8 images, at last: the callback raised"):
        list(model.stream(bad))
    crops = CropDetector(lambda crops: [Detections(np.ones((1, 4)), np.ones(1), np.array([2]))] * len(crops), None, 32,
                         (7, 7, 7), None)  # fmt: skip
    with pytest.raises(ImageError, match="answers label 2 where 1 names are known; give the names of all"):
        load(detector=crops, categories=["a"])(picture())
