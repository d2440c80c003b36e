"""What a user adds, counted: a chip rule is one file, a data source is one file and one line, and none of ours."""

import json

import numpy as np
import pytest

from autofocus_jax.command.main import main
from autofocus_jax.structures import DetectorOutput

# The user's one file: a rule, and a config that is measured with it. SETTINGS is the one line of each case.
MINE = """
import dataclasses
import numpy as np
from autofocus_jax import Bucket, ChipRule, Config, DataSource, FocusRange, Scale, ValidRange
from autofocus_jax import DetectorConfig, Dataset, GroundTruth, ImageInfo, StackingConfig, TrainingConfig

def left_half(focus, level_size):
    height, width = level_size
    return np.array([[0, 0, width // 2, height]], np.int32)

class Squares(Dataset):
    categories = ("square",)
    def __len__(self):
        return 3
    def __getitem__(self, index):
        return self.image(index), self.ground_truth(index)
    def image(self, index):
        return np.full((64, 128, 3), 40 * index, np.uint8)
    def ground_truth(self, index):
        return GroundTruth(np.array([[8, 8, 24, 24]], np.float32), np.zeros(1, np.int32), np.zeros(1, bool))
    def info(self, index):
        return ImageInfo(index + 1, f"{index}", 64, 128)

@dataclasses.dataclass(frozen=True)
class SquaresSource(DataSource):
    def open(self, split):
        return Squares()

def get_config():
    ranges = ValidRange(0, 1000), ValidRange(0, 1000)
    return Config(
        "mine", SquaresSource(), (Scale(64, 128, ranges[0], RULE), Scale(128, 256, ranges[1], None)),
        FocusRange(5, 64, 90), (Bucket(128, 256, 1),), DetectorConfig(num_classes=1),
        TrainingConfig(steps=1, batch=1, ranges=ranges), StackingConfig(border_tolerance=0.0), SETTINGS
    )
"""


class Blank:
    """A detector that sees nothing and would look again nowhere."""

    compilations = 0

    def __init__(self, config, variables, devices):
        pass

    def warm_up(self, progress=None):
        pass

    def __call__(self, chips, placements):
        batch, height, width = chips.pixels.shape[:3]
        focus = np.zeros((batch, height // 16, width // 16), np.float32)
        return DetectorOutput(np.zeros((batch, 1, 4)), np.zeros((batch, 1, 1)), np.zeros((batch, 1), bool), focus)


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """measured(rule, settings) -> rows of metrics.json of `autofocus evaluate` with the user's file, and stderr."""
    monkeypatch.setattr("autofocus_jax.inference.compiled.compile_detector", Blank)
    monkeypatch.setattr("autofocus_jax.weights.variables.load_variables", lambda path, config: {})
    monkeypatch.setattr("autofocus_jax.inference.stored.metadata", lambda path: {"categories": None})

    def run(rule, settings, *words):
        (tmp_path / "mine.py").write_text(MINE.replace("RULE", rule).replace("SETTINGS", settings))
        out = tmp_path / "out"
        given = ["--config", tmp_path / "mine.py", "--weights", "none", "--output", out, "--panels", "0", *words]
        code = main(["evaluate", *map(str, given)])
        rows = json.loads((out / "metrics.json").read_text()) if code == 0 else None
        return rows, capsys.readouterr().err

    return run


def test_a_chip_rule_is_one_file_of_the_users(measured):
    rows, _ = measured("None", "rules=(left_half,)")
    assert list(rows) == ["scale1", "scale2", "pyramid", "autofocus"]
    assert rows["autofocus"]["pixels_per_image"] == 64 * 128 + 128 * 128  # the left half, twice as large
    assert rows["pyramid"]["pixels_per_image"] == 64 * 128 + 128 * 256
    other, _ = measured("ChipRule(0.5, 1, 16)", "")
    assert other["autofocus"]["pixels_per_image"] == 64 * 128  # Algorithm 1 finds no cell


def test_a_data_source_is_one_file_and_one_line(measured):
    rows, _ = measured("ChipRule(0.5, 1, 16)", "", "--metric", "voc", "--limit", "2")
    assert rows["autofocus"]["AP50"] == 0 and "AP70" in rows["pyramid"]


def test_a_rule_that_changed_is_no_longer_the_same_run(measured, tmp_path):
    measured("None", "rules=(left_half,)")
    rows, error = measured("None", "rules=(left_half,)", "--resume")
    assert rows is not None and error == ""
    changed = MINE.replace("width // 2, height]", "width // 4, height]")
    (tmp_path / "mine.py").write_text(changed.replace("RULE", "None").replace("SETTINGS", "rules=(left_half,)"))
    words = ["--config", tmp_path / "mine.py", "--weights", "none", "--output", tmp_path / "out", "--resume"]
    assert main(["evaluate", *map(str, words)]) == 1


def test_rules_want_to_be_as_many_as_scales_less_one(measured):
    rows, error = measured("None", "rules=()")
    assert rows is None and "rules has 0 entries; want 1, one for each scale but the last" in error
