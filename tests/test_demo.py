"""The demo promises, with its shipped weights, on rendered scenes: thresholds 0 and above 1, oracle, pixels."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from autofocus_jax import boxes as box_ops
from autofocus_jax.config.load import differences, load_config, to_dict
from autofocus_jax.focus.buckets import holding
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.stored import read_weights
from autofocus_jax.metrics import coco
from autofocus_jax.scenes.source import CATEGORIES
from autofocus_jax.structures import Bucket
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.variables import load_variables

pytestmark = pytest.mark.numbers

COUNT = 20


# Few shapes: what is found and what it costs hang on the chips, not on how many programs are compiled for them.
BUCKETS = ((192, 192, 4), (256, 256, 4), (480, 640, 1), (640, 480, 1), (960, 1280, 1), (1280, 960, 1))


@pytest.fixture(scope="module")
def whole_config():
    return load_config(Path(__file__).parent.parent / "configs" / "demo.py")


@pytest.fixture(scope="module")
def config(whole_config):
    return dataclasses.replace(whole_config, buckets=tuple(Bucket(*sizes) for sizes in BUCKETS))


@pytest.fixture(scope="module")
def scenes(config, tmp_path_factory):
    source = dataclasses.replace(config.data, val=COUNT, folder=str(tmp_path_factory.mktemp("scenes")))
    dataset = source.open("val")
    images, truths = zip(*(dataset[index] for index in range(COUNT)))
    return dataset, list(images), list(truths)


@pytest.fixture(scope="module")
def detect(config):
    return compile_detector(config, load_variables(safetensors.shipped(config.shipped), config))


def with_rule(config, **changes):
    """The scales with parts of every chip rule changed."""
    return tuple(
        scale if scale.chips is None else dataclasses.replace(scale, chips=dataclasses.replace(scale.chips, **changes))
        for scale in config.scales
    )


def same(a, b):
    return all(all(np.array_equal(x, y) for x, y in zip(left, right)) for left, right in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def pyramid(config, detect, scenes):
    return cascade(scenes[1], detect, Plan.of(config).pyramid())


@pytest.mark.parametrize("min_size", [1, 100_000])
def test_threshold_0_is_the_pyramid(config, detect, scenes, pyramid, min_size):
    scales = with_rule(config, threshold=0.0, min_size=min_size)
    found, info, _ = cascade(scenes[1], detect, Plan(scales, config.buckets, config.stacking))
    assert sum(len(detections.scores) for detections in found) > COUNT
    assert same(found, pyramid[0])
    np.testing.assert_array_equal(info.pixels, pyramid[1].full_pixels)


def test_threshold_above_1_is_scale_1s_share(config, detect, scenes):
    scales = with_rule(config, threshold=1.01)
    found, info, _ = cascade(scenes[1], detect, Plan(scales, config.buckets, config.stacking))
    alone = (dataclasses.replace(config.scales[0], chips=None),)
    share, cost, _ = cascade(scenes[1], detect, Plan(alone, config.buckets, config.stacking))
    assert same(found, share)
    assert info.pixels.tolist() == [cost.pixels[0], 0, 0] and info.chips.tolist() == [COUNT, 0, 0]


def test_autofocus_finds_what_the_pyramid_finds_with_fewer_pixels(config, detect, scenes, pyramid):
    dataset, images, _ = scenes
    found, info, _ = cascade(images, detect, Plan.of(config))
    scores = [coco.evaluate(dataset, d, range(COUNT)).ap for d in (found, pyramid[0])]
    assert scores[0] > scores[1] - 2  # 20 images only; README has the 200
    assert info.pixels.sum() * 2 < pyramid[1].pixels.sum()


def test_the_oracle_finds_every_object_in_range(config, scenes):
    dataset, images, truths = scenes
    oracle = oracle_detect(truths, config.focus_range, len(dataset.categories))
    found, info, _ = cascade(images, oracle, Plan.of(config))
    missed, total = [], 0
    for truth, detections in zip(truths, found, strict=True):
        kept = ~truth.ignore
        overlap = box_ops.iou(truth.boxes[kept], detections.boxes)
        hit = (overlap > 0.8) & (truth.labels[kept][:, None] == detections.labels)
        missed += [math.sqrt(area) for area in box_ops.area(truth.boxes[kept][~hit.any(axis=1)])]
        total += kept.sum()
    assert total > 3 * COUNT and missed == []
    assert info.pixels.sum() < info.full_pixels.sum() / 2.8  # the upper bound of what the method can save here


@pytest.mark.slow
def test_the_table_of_the_readme(whole_config):
    """The whole of val, some minutes; images/s is for README's table, where the two rows run side by side."""
    config = whole_config
    detect = compile_detector(config, load_variables(safetensors.shipped(config.shipped), config))
    dataset = config.data.open("val")
    measured = {
        name: measure.metrics(measure.measure(dataset, detect, plan))
        for name, plan in measure.rows(Plan.of(config)).items()
    }
    pyramid, autofocus = measured["pyramid"], measured["autofocus"]
    assert pyramid["AP"] >= 40
    assert max(row["AP"] for name, row in measured.items() if name.startswith("scale")) <= pyramid["AP"] - 4
    assert autofocus["AP"] >= pyramid["AP"] - 0.5
    assert autofocus["pixels_per_image"] * 2.8 <= pyramid["pixels_per_image"]


def test_the_shipped_header_holds_the_config(whole_config):
    """`load("demo")` reads its settings from there; settings that came later have their defaults."""
    config, _, categories = read_weights(whole_config.shipped)
    expected = dataclasses.replace(whole_config, buckets=holding(whole_config.buckets, whole_config.scales))
    assert differences(to_dict(config), to_dict(expected)) == []
    assert categories == CATEGORIES
