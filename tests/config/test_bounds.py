"""Settings that no detector needs are refused before anything is allocated; those of the shipped configs are sane."""

import dataclasses
import math
from pathlib import Path

import pytest

from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import load_config

INF, NAN = math.inf, math.nan


def changed(value, path, new):
    """A copy of nested dataclasses and tuples with one leaf replaced."""
    name, _, rest = path.partition(".")
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        items = list(value)
        items[int(name)] = changed(items[int(name)], rest, new) if rest else new
        return tuple(items)
    inner = changed(getattr(value, name), rest, new) if rest else new
    return value._replace(**{name: inner}) if hasattr(value, "_fields") else dataclasses.replace(value, **{name: inner})


@pytest.mark.parametrize("path, value", [
    ("buckets.0.height", 16 * 10**6), ("buckets.0.batch", 10**9),
    ("scales.1.max_side", 10**6), ("detector.proposals", 10**9), ("detector.proposals", -1),
    ("detector.proposals_before_nms", 10**9), ("detector.backbone.units.0", 10**6), ("detector.backbone.units.0", 0),
    ("detector.backbone.channels.1", 10**9), ("detector.num_classes", 10**9), ("detector.roi_size", 10**5),
    ("detector.pixel_deviation.0", 0.0), ("detector.pixel_mean.0", INF), ("detector.box_deviations.0", NAN),
    ("detector.box_deviations.2", -0.1), ("scales.0.chips.threshold", NAN), ("stacking.nms_iou", NAN),
    ("stacking.score_threshold", NAN), ("stacking.border_tolerance", INF), ("stacking.max_detections", 10**12),
    ("window", 10**12), ("focus_range.a", NAN), ("scales.0.valid.high", NAN), ("shrink", NAN),
    ("training.learning_rate", NAN), ("detector.anchors.sizes.0", 0.0),
])  # fmt: skip
def test_one_line_that_names_the_setting(tiny_config, path, value):
    with pytest.raises(ConfigError) as error:
        changed(tiny_config, path, value)
    line = str(error.value)
    assert "\n" not in line and (f": {path} is {value}; want " in line or path.rpartition(".")[0][:5] in line)


def test_too_many_pixels_in_a_batch(tiny_config):
    bucket = dataclasses.replace(tiny_config.buckets[0], height=4096, width=4096, batch=17)
    with pytest.raises(ConfigError, match=r"buckets.0 has batches of 285212672 px; want at most 268435456"):
        dataclasses.replace(tiny_config, buckets=(bucket,))


def test_too_many_entries(tiny_config):
    with pytest.raises(ConfigError, match="buckets has 5000 entries; want at most 4096"):
        dataclasses.replace(tiny_config, buckets=tiny_config.buckets[:1] * 5000)


# The other one holds no Config.
@pytest.mark.parametrize("path", sorted({*Path("configs").glob("*.py")} - {Path("configs/onnx.py")}), ids=str)
def test_shipped_configs_are_within(path):
    load_config(path)


def test_infinity_where_it_has_a_meaning(tiny_config):
    assert changed(tiny_config, "scales.0.valid.high", INF).scales[0].valid.high == INF
