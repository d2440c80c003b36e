"""load, Model and Result: every kind of image gives the same answer, threads share one compilation."""

import dataclasses
import sys
import threading
import types

import cv2
import numpy as np
import pytest
from PIL import Image

import autofocus_jax
from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import to_dict
from autofocus_jax.focus.area import area_of
from autofocus_jax.focus.buckets import holding
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.plan import PlanError
from autofocus_jax.inference.model import Model, read_weights
from autofocus_jax.inference.result import Result
from autofocus_jax.inference.settings import with_sides, with_thresholds
from autofocus_jax.scenes.source import CATEGORIES
from autofocus_jax.structures import AutoFocusError, Bucket, ImageError
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.safetensors import WeightsError

PICTURE = np.random.default_rng(3).integers(0, 255, (60, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model


def same(a, b):
    return np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores) and a.size == b.size


def test_one_image_is_what_the_cascade_finds(model):
    result = model(PICTURE, score=0.0, stages=True)
    (found,), info, (stages,) = cascade([PICTURE], model.detect, model.plan)
    assert len(result) == len(found.scores) > 0 and result.size == (60, 90) and result.name is None
    np.testing.assert_array_equal(result.boxes, found.boxes)
    np.testing.assert_array_equal(result.labels, found.labels)
    assert (result.pixels, result.pyramid_pixels) == (info.pixels.sum(), info.full_pixels.sum())
    assert len(result.stages) == len(stages) == 2
    assert set(result.names) <= {"ape", "bee", "cat"} == set(model.categories)
    high = model(PICTURE, score=float(np.median(found.scores)))
    assert 0 < len(high) < len(result) and high.scores.min() >= np.median(found.scores)


def test_kinds_of_images(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE[..., ::-1])
    expected = model(PICTURE, score=0.0)
    path = tmp_path / "a.png"
    for image in (path, str(path), Image.open(path), Image.fromarray(PICTURE), PICTURE[::-1][::-1]):
        assert same(model(image, score=0.0), expected)
    opaque = np.dstack([PICTURE, np.full((60, 90), 255, np.uint8)])
    assert same(model(opaque, score=0.0), expected)
    assert same(model(Image.fromarray(opaque), score=0.0), expected)
    assert model(path, score=0.0).name == str(path)


def test_a_list_is_each_image(model, tmp_path):
    others = [PICTURE, PICTURE[:40, :50], PICTURE[:1, :1]]
    results = model(others, score=0.0)
    assert [result.size for result in results] == [(60, 90), (40, 50), (1, 1)]
    for image, result in zip(others, results):
        alone = model(image, score=0.0)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(result.boxes, alone.boxes, atol=1e-3)
    assert model([]) == [] and model(()) == []
    with pytest.raises(ImageError, match=r"image 1 of the list: image .*none\.png cannot be read"):
        model([PICTURE, tmp_path / "none.png"])


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (PICTURE / 255.0, "array of float64"),
        (PICTURE[..., :2], r"shape \[60, 90, 2\]"),
        (PICTURE[:0], r"shape \[0, 90, 3\]"),
        (PICTURE[None], r"shape \[1, 60, 90, 3\]"),
        (3, "int is no image"),
        (None, "NoneType is no image"),
        ("nowhere.jpg", "nowhere.jpg cannot be read"),
    ],
)
def test_what_is_no_image(model, image, says):
    with pytest.raises(ImageError, match=says):
        model(image)


def test_threads_share_one_compilation(tiny_weights):
    model = autofocus_jax.load(tiny_weights)
    results, start = [None] * 6, threading.Barrier(6)

    def work(number):
        start.wait()
        results[number] = model(PICTURE, score=0.0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(result, results[0]) for result in results)
    assert model.detect.traces == model.detect.compilations <= len(model.config.buckets)
    before = model.detect.traces
    model(PICTURE)
    assert model.detect.traces == before


def test_changed_settings_share_programs(model):
    whole = model.changed(lambda config: with_thresholds(config, [0.0]))
    result = whole(PICTURE)
    assert result.pixels == result.pyramid_pixels and whole.detect is model.detect
    assert model.config.scales[0].chips.threshold == 0.3
    larger = model.changed(lambda config: with_sides(config, [(48, 64), (100, 130)]))
    assert [(b.height, b.width) for b in larger.config.buckets[-2:]] == [(112, 144), (144, 112)]
    assert larger(PICTURE).pyramid_pixels == 43 * 64 + 87 * 130
    with pytest.raises(ConfigError, match="change the detector"):
        model.changed(lambda config: dataclasses.replace(
            config, detector=dataclasses.replace(config.detector, proposals=4)))  # fmt: skip
    with pytest.raises(PlanError, match="3 pairs of sides for 2 scales"):
        with_sides(model.config, [(48, 64)] * 3)
    alone = model.changed(lambda config: with_sides(config, [(100, 130)]))
    assert [(scale.min_side, scale.max_side) for scale in alone.plan.scales] == [(100, 130)]
    assert alone.config.training.ranges == (alone.plan.scales[0].valid,)
    with pytest.raises(PlanError, match="2 thresholds for 1 chip rules"):
        with_thresholds(model.config, [0.1, 0.2])


@pytest.mark.parametrize("short", [1, 31, 64])
@pytest.mark.parametrize("long", [64, 65, 200])
def test_buckets_hold_every_level(model, short, long):
    scale = dataclasses.replace(model.config.scales[1], min_side=short, max_side=long)
    buckets = holding((Bucket(32, 32, 4),), [scale])
    assert any(b.height >= short and b.width >= long for b in buckets)
    assert any(b.height >= long and b.width >= short for b in buckets)


def test_weights_with_their_settings(tiny_weights, tiny_config, tiny_variables, tmp_path):
    assert autofocus_jax.load(tiny_weights, categories=["x", "y", "z"]).categories == ("x", "y", "z")
    with pytest.raises(ConfigError, match="2 names of categories for a detector of 3"):
        autofocus_jax.load(tiny_weights, categories=["x", "y"])
    plain = tmp_path / "plain.safetensors"
    safetensors.save(plain, tiny_variables, to_dict(tiny_config))
    assert autofocus_jax.load(plain, tiny_config).categories == ("class 0", "class 1", "class 2")
    for wrong in ("none.safetensors", tmp_path / "none", "demon"):
        with pytest.raises(WeightsError, match="do not exist"):
            autofocus_jax.load(wrong)
    with pytest.raises(AutoFocusError, match=r"holds no config\.json"):
        autofocus_jax.load(tmp_path)


def test_the_demo_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = autofocus_jax.load("demo")
    assert model.categories == CATEGORIES and model.config.name == "demo"


RESULT = Result(np.array([[10, 20, 30, 60], [0.5, 0, 1, 2]], np.float32), np.array([0.75, 0.5], np.float32),
                np.array([1, 0], np.int32), ("a", "b"), (100, 200), 50, 200)  # fmt: skip


def test_result_forms():
    assert RESULT.names == ["b", "a"] and len(RESULT) == 2 and RESULT.above(0.6).names == ["b"]
    rows = RESULT.to_numpy()
    assert rows["x2"].tolist() == [30, 1] and rows["label"].tolist() == [1, 0] and rows[0]["score"] == 0.75
    first, second = RESULT.to_coco(7, [3, 9])
    assert first == {"image_id": 7, "category_id": 9, "bbox": [10, 20, 20, 40], "score": 0.75}
    assert second["category_id"] == 3 and RESULT.to_coco(7)[0]["category_id"] == 2
    with pytest.raises(AutoFocusError, match="1 category ids for 2"):
        RESULT.to_coco(7, [3])
    empty = RESULT.above(1.1)
    assert len(empty) == 0 and empty.to_coco(1) == [] and empty.to_numpy().shape == (0,) and empty.names == []


def test_supervision(monkeypatch):
    """With a stand-in that has the constructor of supervision.Detections; the package itself is optional."""
    stand_in = types.ModuleType("supervision")
    stand_in.Detections = dataclasses.make_dataclass("Detections", ["xyxy", "confidence", "class_id", "data"])
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    found = RESULT.to_supervision()
    np.testing.assert_array_equal(found.xyxy, RESULT.boxes)
    assert found.class_id.tolist() == [1, 0] and found.data["class_name"].tolist() == ["b", "a"]
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        RESULT.to_supervision()


def test_rules_of_ones_own(tiny_weights, model):
    """They stay when the settings change, and the detector is the same."""
    ours = autofocus_jax.load(tiny_weights, rules=[whole_level])
    result = ours(PICTURE)
    assert result.pixels == result.pyramid_pixels
    assert ours.changed(lambda config: with_thresholds(config, [1.0]))(PICTURE).pixels == result.pixels
    pyramid = model.planned(model.plan.pyramid())
    assert pyramid.detect is model.detect and pyramid(PICTURE).pixels == result.pixels


def test_any_callable_is_a_detector(model):
    """Without a config and without weights."""
    calls = []

    def detect(chips, placements):
        calls.append([place.key for place in placements])
        return model.detect(chips, placements)

    foreign = Model(detect, model.plan, ["x", "y", "z"])
    result = foreign([PICTURE, PICTURE[:40, :50]], score=0.0)
    assert same(result[0], model(PICTURE, score=0.0)) and set(result[0].names) <= {"x", "y", "z"}
    assert {key for keys in calls for key in keys} == {0, 1}
    foreign.warm_up()
    assert foreign.renamed("abc").categories == ("a", "b", "c")
    with pytest.raises(ConfigError, match="2 names of categories for a detector of 3"):
        foreign.renamed("ab")
    with pytest.raises(ConfigError, match=r"no config to change; use Model\.planned"):
        foreign.changed(lambda config: config)


def test_the_compiled_detector_bears_three_calls(model):
    assert model.detect.concurrency == 3


def test_the_name_of_shipped_weights_is_not_shadowed(tmp_path, monkeypatch):
    """By what happens to lie in the working directory; with ./ that is meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert read_weights("demo")[0].name == "demo"
    with pytest.raises(AutoFocusError, match="holds no"):
        read_weights("./demo")


def test_an_area_of_a_call(model):
    """It limits what is found, the call alone has it, and other settings keep a plan's."""
    image = np.random.default_rng(3).integers(0, 255, (96, 128, 3), np.uint8)
    mask = np.zeros((96, 128), bool)
    mask[:, :64] = True
    everything, left = (model(image, score=0.0, area=area) for area in (None, area_of(mask)))
    centres = (left.boxes[:, 0] + left.boxes[:, 2]) / 2
    assert 0 < len(left) < len(everything) and (centres < 64).all() and left.pixels <= everything.pixels
    assert len(model(image, score=0.0)) == len(everything)
    given = model.planned(dataclasses.replace(model.plan, area=area_of(mask)))
    assert given.changed(lambda config: dataclasses.replace(config, window=3)).plan.area is given.plan.area
