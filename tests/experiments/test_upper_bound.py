"""Chips of a perfect focus map whose pixels are counted by hand: levels of 64 and 128 px, an object in one cell."""

import json

import pytest

from autofocus_jax.command.main import main
from autofocus_jax.experiments.upper_bound import NEXT, PREDICTING, Setting, image_cost
from autofocus_jax.structures import FocusRange, Scale, ValidRange

SCALES = (Scale(64, 128, ValidRange(0, 1000), None), Scale(128, 256, ValidRange(0, 1000), None))
PYRAMID = 64**2 + 128**2


@pytest.mark.parametrize(
    ("setting", "chip"),
    [
        (Setting(16, 1, PREDICTING), 16),
        (Setting(32, 1, PREDICTING), 32),
        (Setting(16, 3, PREDICTING), 48),
        (Setting(32, 1, NEXT), 16),
        (Setting(1000, 1, PREDICTING), 64),
    ],
)
def test_one_object(truth, setting, chip):
    cost = image_cost((64, 64), truth([[20, 20, 30, 30]], [0]), SCALES, FocusRange(2, 20, 30), setting)
    assert cost.images == 1 and cost.chips.tolist() == [1, 1]
    assert cost.full_pixels.tolist() == [64**2, 128**2]
    assert cost.pixels.tolist() == [64**2, (2 * chip) ** 2]


def test_nothing_to_focus_on(truth):
    for objects in (truth(), truth([[0, 0, 60, 60]], [0]), truth([[20, 20, 30, 30]], [0], [True])):
        cost = image_cost((64, 64), objects, SCALES, FocusRange(2, 20, 30), Setting(16, 3, PREDICTING))
        assert cost.pixels.tolist() == [64**2, 0] and cost.chips.tolist() == [1, 0]


def bounds(tmp_path, tiny_config_file, annotations, *options):
    command = ["upper_bound", "--config", tiny_config_file, "--annotations", annotations, "--output", str(tmp_path)]
    assert main(["experiment", *command, "--min-sizes", "16", "32", "--dilations", "1", *options]) == 0
    return json.loads((tmp_path / "upper_bound.json").read_text())


def test_the_experiment(tmp_path, tiny_config_file, coco_file):
    annotations = coco_file([(64, 64, [[20, 20, 30, 30]]), (64, 64, [])])
    content = bounds(tmp_path, tiny_config_file, annotations, "--processes", "1")
    found = {(row["k"], row["d"], row["k in px of"]): row["speed-up"] for row in content["rows"]}
    costs = {chip: 2 * 64**2 + (2 * chip) ** 2 for chip in (8, 16, 32)}
    assert found == {
        (16, 1, PREDICTING): pytest.approx(2 * PYRAMID / costs[16]),
        (32, 1, PREDICTING): pytest.approx(2 * PYRAMID / costs[32]),
        (16, 1, NEXT): pytest.approx(2 * PYRAMID / costs[16]),  # a cell is larger than its 8 px
        (32, 1, NEXT): pytest.approx(2 * PYRAMID / costs[16]),
    }
    assert content["rows"][0]["level 1"] == 1 and content["rows"][0]["chips 2"] == 0.5


def test_processes_share_the_images(tmp_path, tiny_config_file, coco_file):
    annotations = coco_file([(64, 64, [[20, 20, 30, 30]]), (96, 64, [])] * 80)  # two chunks
    one, two = (bounds(tmp_path, tiny_config_file, annotations, "--processes", count) for count in "12")
    assert one == two


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--min-sizes", "0"), "at least 1 px"), (("--dilations", "2"), "odd"),
        (("--processes", "-1"), "--processes -1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(options, complaint, tiny_config_file, coco_file, capsys):
    command = ["upper_bound", "--config", tiny_config_file, "--annotations", coco_file([(8, 8, [])]), "--output", "x"]
    assert main(["experiment", *command, *options]) == 1
    assert complaint in capsys.readouterr().err
