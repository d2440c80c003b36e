"""Settings through JSON and back: every config of the repository, older settings, and what is wrong with others."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from autofocus_jax.config import ConfigError, DataSource
from autofocus_jax.config.load import load_config, to_dict
from autofocus_jax.config.stored import StoredSource, from_dict
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.scenes.source import ScenesSource
from autofocus_jax.structures import ValidRange
from autofocus_jax.weights import safetensors

ROOT = Path(__file__).parents[2]
SOURCES = {kind.__name__: kind for kind in (CocoSource, ScenesSource)}
CONFIGS = sorted(set((ROOT / "configs").glob("*.py")) - {ROOT / "configs/onnx.py"})  # which is no Config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_there_and_back(path):
    config = load_config(path)
    kinds = {kind.__name__: kind for kind in (type(config.data), type(config.detector))}
    stored = json.loads(json.dumps(to_dict(config)))
    assert from_dict(stored, {**SOURCES, **kinds}) == config


def test_all_values_that_settings_take():
    config = load_config(ROOT / "configs" / "demo.py")
    config = dataclasses.replace(
        config, shipped=None, stacking=dataclasses.replace(config.stacking, nms_iou=0.5), seed=3,
        training=dataclasses.replace(config.training, drop_at=0.7, ranges=(ValidRange(90, math.inf),) * 3),
    )  # fmt: skip
    assert from_dict(json.loads(json.dumps(to_dict(config))), SOURCES) == config


def test_settings_of_the_shipped_weights_and_what_older_ones_lack():
    _, metadata = safetensors.load(safetensors.shipped("demo.safetensors"))
    config, now = from_dict(metadata["config"], SOURCES), load_config(ROOT / "configs" / "demo.py")
    assert config.detector == now.detector and config.data == now.data
    stored = to_dict(now)
    del stored["stacking"], stored["detector"]["roi_pooling"], stored["detector"]["backbone"]["folded"]
    assert from_dict(stored, SOURCES).detector == now.detector


def test_an_unknown_source_waits_until_it_is_opened():
    stored = to_dict(load_config(ROOT / "configs" / "coco_r101.py"))
    config = from_dict(stored, {})
    settings = "root='~/data/coco', annotations=None, images=None, ignore_categories=[]"
    settings += ", merged=[], field=None, splits=[]"
    assert config.data == StoredSource("CocoSource", settings)
    assert isinstance(config.data, DataSource)
    assert from_dict(to_dict(config), {}) == config
    with pytest.raises(ConfigError, match=r"CocoSource \(root='~/data/coco', .*\) is not known here; give"):
        config.data.open("val")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("name",), 3, "name is '3'; want of type str"),
        (("window",), True, "window is 'True'; want of type int"),
        (("window",), 0, "window must be at least 1"),
        (("window",), 2.5, "window is '2.5'; want of type int"),
        (("focus_range", "b"), "wide", "focus_range.b is 'wide'; want a number"),
        (("focus_range",), [1, 2, 3], "focus_range is '[1, 2, 3]'; want an object"),
        (("scales",), {"a": 1}, "scales is \"{'a': 1}\"; want a list"),
        (("scales", 1, "valid", "low"), None, "scales.1.valid.low is 'None'; want of type float"),
        (("detector", "box_deviations"), [0.1, 0.2], "detector.box_deviations is '[0.1, 0.2]'; want a list of 4"),
        (("detector", "kind"), "ThreeStage", "detector.kind is 'ThreeStage'; want one of"),
        (("detector", "kind"), "CocoSource", "detector.kind is 'CocoSource'; want one of DetectorConfig"),
        (("detector", "wings"), 2, "detector.wings is no setting of this version; update"),
        (("data",), "scenes", "data is 'scenes'; want an object with its kind"),
        (("data", "moon"), 1, "data.moon is no setting"),
    ],
)
def test_what_is_wrong_is_named(path, value, says):
    stored = to_dict(load_config(ROOT / "configs" / "demo.py"))
    node = stored
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        from_dict(stored, SOURCES, "weights x.safetensors")
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["scales", "data"])
def test_what_is_missing_is_named(name):
    stored = to_dict(load_config(ROOT / "configs" / "demo.py"))
    del stored[name]
    with pytest.raises(ConfigError, match=f"x: {name} is missing; give the config file"):
        from_dict(stored, SOURCES, "x")
    with pytest.raises(ConfigError, match="the whole is"):
        from_dict([], SOURCES)
