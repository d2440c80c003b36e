"""Settings contradict each other loudly; config files and overrides load or fail in one clear line."""

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofocus_jax.config import (
    BackboneConfig,
    Config,
    ConfigError,
    DataSource,
    DetectorConfig,
    StackingConfig,
    TrainingConfig,
    load,
)
from autofocus_jax.structures import AutoFocusError, Bucket, ChipRule, FocusRange, Scale, ValidRange


@dataclasses.dataclass(frozen=True)
class Folder(DataSource):
    folder: str = "pictures"
    hook: Any = np.sin  # no command line can set this

    def open(self, split):
        raise AutoFocusError(f"no split {split}")


def small(**changes) -> Config:
    settings = {
        "name": "small",
        "data": Folder(),
        "scales": (
            Scale(64, 96, ValidRange(30, math.inf), ChipRule(0.3, 3, 32)),
            Scale(128, 192, ValidRange(0, 40), None),
        ),
        "focus_range": FocusRange(5, 64, 90),
        "buckets": (Bucket(96, 96, 2), Bucket(192, 192, 1)),
        "detector": DetectorConfig(num_classes=3),
        "training": TrainingConfig(steps=10, batch=2, ranges=(ValidRange(20, math.inf), ValidRange(0, 50))),
    }
    return Config(**{**settings, **changes})


FILE = """
import math
from autofocus_jax.config import *
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import *

def get_config():
    return Config(
        name="file", data=CocoSource("somewhere"),
        scales=(
            Scale(64, 96, ValidRange(30, math.inf), ChipRule(0.3, 3, 32)),
            Scale(128, 192, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(5, 64, 90), buckets=(Bucket(96, 96, 2), Bucket(192, 192, 1)),
        detector=DetectorConfig(num_classes=3),
        training=TrainingConfig(steps=10, batch=2, ranges=(ValidRange(20, math.inf), ValidRange(0, 50))),
    )
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(FILE)
    return path


def one_line(error) -> str:
    message = str(error.value)
    assert message and "\n" not in message and not set(message) & set("│╭╰─")
    return message


SCALES = small().scales


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": ()}, "scales is empty"),
        ({"scales": SCALES[::-1]}, "no chip rule"),
        ({"scales": (SCALES[0], dataclasses.replace(SCALES[1], min_side=500))}, "scale 2 has sides 500, 192"),
        ({"scales": (SCALES[0], dataclasses.replace(SCALES[0], chips=None))}, "coarse to fine"),
        ({"scales": (dataclasses.replace(SCALES[0], chips=ChipRule(0.1, 2, 8)), SCALES[1])}, "dilation 2"),
        ({"scales": (dataclasses.replace(SCALES[0], chips=ChipRule(0.1, 3, 0)), SCALES[1])}, "min_size 0"),
        ({"scales": (dataclasses.replace(SCALES[0], valid=ValidRange(9, 9)), SCALES[1])}, "valid range"),
        ({"focus_range": FocusRange(64, 5, 90)}, "focus_range"),
        ({"buckets": ()}, "buckets is empty"),
        ({"buckets": (Bucket(100, 96, 1),)}, "multiples of 16"),
        ({"buckets": (Bucket(96, 96, 0),)}, "batch"),
        ({"buckets": (Bucket(0, 96, 1),)}, "must have sides"),
        ({"stacking": StackingConfig(max_detections=0)}, "stacking.max_detections"),
        ({"stacking": StackingConfig(soft_nms_sigma=0)}, "stacking.soft_nms_sigma"),
        ({"training": TrainingConfig(steps=1, batch=1)}, "training.ranges has 0 entries for 2 scales"),
        ({"window": 0}, "window"),
        ({"seed": -1}, "seed -1"),
        ({"detector": DetectorConfig(num_classes=0)}, "num_classes 0"),
        *[
            ({"training": dataclasses.replace(small().training, **{name: 0})}, f"training.{name} 0")
            for name in ("steps", "batch", "chip", "chip_stride", "max_boxes", "log_every", "checkpoint_every")
        ],
        ({"detector": DetectorConfig(backbone=BackboneConfig(deformable_groups=-1))}, "deformable_groups -1"),
        ({"detector": DetectorConfig(backbone=BackboneConfig(deformable_groups=5))}, "must divide stage 4's 512"),
        ({"detector": DetectorConfig(roi_pooling="max")}, "roi_pooling 'max'"),
        ({"detector": DetectorConfig(compute_dtype="float16")}, "one of float32, bfloat16"),
        ({"detector": DetectorConfig(proposal_least_side=-1)}, "proposal_least_side -1"),
    ],
)
def test_contradictions(changes, words):
    with pytest.raises(ConfigError) as error:
        small(**changes)
    assert words in one_line(error)


def test_load_a_file(file):
    config = load.load_config(file)
    assert config.name == "file" and config.scales[0].chips == ChipRule(0.3, 3, 32)


def test_overrides(file):
    words = "--training.steps 7 --scales.0.chips.threshold 0.5 --data.root there --buckets.1.batch 4 --window=3"
    words += " --training.ranges.1.high inf --stacking.nms-iou 0.5 --detector.anchors.sizes 8 16 32"
    config = load.load_config(file, words.split())
    assert config.training.steps == 7 and config.window == 3 and config.data.root == "there"
    assert config.scales[0].chips == ChipRule(0.5, 3, 32)
    assert config.buckets == (Bucket(96, 96, 2), Bucket(192, 192, 4))
    assert config.training.ranges[1].high == math.inf
    assert config.stacking.nms_iou == 0.5 and config.detector.anchors.sizes == (8, 16, 32)
    changed = [line.split(":")[0] for line in load.differences(load.load_config(file), config)]
    assert changed == [
        "buckets.1.batch",
        "data.root",
        "detector.anchors.sizes",
        "scales.0.chips.threshold",
        "stacking.nms_iou",
        "training.ranges.1.high",
        "training.steps",
        "window",
    ]


def test_a_setting_that_no_command_line_can_give_is_left_alone():
    config = load.parse(Config, ["--data.folder", "x"], default=small())
    assert config.data == Folder("x", np.sin)
    with pytest.raises(ConfigError) as error:
        load.parse(Config, ["--data.hook", "x"], default=small())
    assert "--data.hook" in one_line(error)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--training.stepz 3", "--training.stepz, 3; did you mean --training.steps?"),
        ("--scales.2.min-side 3", "--scales.2.min-side"),
        ("--training.steps x", "--training.steps"),
        ("--training.steps", "--training.steps"),
        ("--scales.1.chips.threshold 0.1", "--scales.1.chips.threshold"),
        ("--window 0", "window must be at least 1"),
        ("--scales.0.min-side 500", "scale 1 has sides 500, 96"),
        ("stray", "stray"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bad_overrides_are_one_line(file, words, says, encoding, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    with pytest.raises(ConfigError) as error:
        load.load_config(file, words.split())
    assert says in one_line(error) and "--- " not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def get_config(:\n    pass", "line 1"),
        ("x = 1", "defines no get_config()"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def get_config():\n    return 1 / 0", "line 2: ZeroDivisionError"),
        ("def get_config():\n    return 3", "returned int"),
        ("import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
        (FILE.replace("Bucket(96, 96, 2)", "Bucket(95, 96, 2)"), "multiples of 16"),
        (FILE.replace("batch=2", "batchez=2"), "batchez"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, says):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load.load_config(path)
    assert says in one_line(error)


def test_missing_file(tmp_path):
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(ConfigError) as error:
            load.load_config(path)
        assert str(path) in one_line(error)


@dataclasses.dataclass(frozen=True)
class Options:
    config: str
    """config file"""
    limit: int | None = None
    """how many"""


def test_command_line(file, capsys):
    def parse(*words):
        return load.command_line(Options, words, "program", "Does something.")

    own, config = parse("--config", str(file), "--window", "5", "--limit", "2")
    assert own == Options(str(file), 2) and config == load.load_config(file, ["--window", "5"])
    assert parse(f"--config={file}")[1] == load.load_config(file)
    for words, says in (((), "--config"), (("--limit", "3"), "--config"), (("--config",), "--config")):
        with pytest.raises(ConfigError) as error:
            parse(*words)
        assert says in one_line(error)
    with pytest.raises(ConfigError) as error:
        parse("--config", str(file), "--limit", "many")
    assert "--limit" in one_line(error)
    for words, expected in ((["--help"], "--limit"), (["--config", str(file), "--help"], "--scales.0.chips.threshold")):
        with pytest.raises(SystemExit) as stop:
            parse(*words)
        assert stop.value.code == 0 and expected in capsys.readouterr().out


def test_to_dict_is_json_and_differences_name_the_key():
    config = small()
    stored = json.loads(json.dumps(load.to_dict(config), allow_nan=False))
    assert stored["scales"][0]["valid"] == {"low": 30, "high": "inf"} and stored["data"]["kind"] == "Folder"
    assert load.differences(stored, config) == []
    changed = dataclasses.replace(config, window=3, scales=(dataclasses.replace(SCALES[0], max_side=97), SCALES[1]))
    assert load.differences(stored, changed) == ["scales.0.max_side: 96 -> 97", "window: 32 -> 3"]
    shorter = dataclasses.replace(config, buckets=config.buckets[:1])
    assert "buckets.1.batch: 1 -> nothing" in load.differences(config, shorter)


def test_help_lists_one_bucket_of_many(capsys):
    """The demo has 80, which were 300 lines; the others have their options all the same."""
    path = str(Path(__file__).parents[2] / "configs" / "demo.py")
    with pytest.raises(SystemExit):
        load.command_line(OfAConfig, ["--config", path, "--help"], "train.py", "Trains.")
    text = capsys.readouterr().out
    assert "--buckets.0.batch" in text and "--buckets.1.height" not in text and "--buckets.79.batch" in text
    words = ["--config", path, "--buckets.79.batch", "2"]
    assert load.command_line(OfAConfig, words, "train.py", "")[1].buckets[79].batch == 2


@dataclasses.dataclass(frozen=True)
class OfAConfig:
    config: str
