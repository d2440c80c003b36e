"""FocusPixels of drawn objects, counted by hand."""

import json
from pathlib import Path

import pytest

from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config
from autofocus_jax.experiments import focus_stats, paper
from autofocus_jax.structures import FocusRange, Scale, ValidRange

RANGE = FocusRange(2, 20, 30)
ROOT = Path(__file__).parent.parent.parent


def level(side):
    return Scale(side, 2 * side, ValidRange(0, 1000), None)


def test_one_cell_and_its_neighbours(truth):
    found = focus_stats.level_stats((64, 64), truth([[20, 20, 30, 30]], [0]), level(64), RANGE, 3)
    assert found == (64 * 64, 16, 1, 9, 256, 9 * 256)
    assert focus_stats.level_stats((64, 64), truth([[20, 20, 30, 30]], [0]), level(64), RANGE, 1).dilated_cells == 1


def test_sizes_are_those_of_the_level(truth):
    """Twice as large it is 20 px, no longer below b; half as large it is 5 px in the one cell of its corner."""
    objects = truth([[20, 20, 30, 30]], [0])
    assert focus_stats.level_stats((64, 64), objects, level(128), RANGE, 3).focus_cells == 0
    assert focus_stats.level_stats((64, 64), objects, level(32), RANGE, 3)[1:4] == (4, 1, 4)


def test_cells_are_cut_at_the_border(truth):
    """40 px are 16 + 16 + 8."""
    found = focus_stats.level_stats((40, 40), truth([[34, 34, 39, 39]], [0]), level(40), RANGE, 3)
    assert found == (1600, 9, 1, 4, 8 * 8, 24 * 24)


def test_ignore_regions_and_empty_images(truth):
    crowd = truth([[20, 20, 30, 30]], [0], [True])
    for objects in (crowd, truth()):
        assert focus_stats.level_stats((64, 64), objects, level(64), RANGE, 3)[2:] == (0, 0, 0, 0)


def test_the_experiment(tmp_path, coco_file, tiny_config_file):
    annotations = coco_file([(64, 64, [[20, 20, 30, 30]]), (64, 64, [])])
    command = ["focus_stats", "--config", tiny_config_file, "--annotations", annotations, "--output", str(tmp_path)]
    assert main(["experiment", *command]) == 0
    content = json.loads((tmp_path / "focus_stats.json").read_text())
    coarse, fine = content["rows"]
    assert content["pyramid side"] == pytest.approx((64**2 + 128**2) ** 0.5)
    assert (coarse["level side"], fine["level side"]) == (64, 128)
    assert coarse["share of cells"] == 1 / 32 and coarse["dilated share of cells"] == 9 / 32
    assert coarse["side ratio"] == pytest.approx((256 / 2) ** 0.5 / 64) and fine["side ratio"] == 0
    assert content["paper"] is None and coarse["paper side ratio"] is None  # not the paper's scales


def test_even_dilations_are_refused(tiny_config_file, coco_file, capsys):
    command = ["focus_stats", "--config", tiny_config_file, "--annotations", coco_file([(8, 8, [])]), "--output", "x"]
    assert main(["experiment", *command, "--dilation", "2"]) == 1
    assert "odd" in capsys.readouterr().err


def test_the_papers_percentages_are_ratios_of_its_sides():
    for numbers in paper.FOCUS_PIXELS.values():
        assert round(numbers["focus side"] / numbers["level side"], 2) == numbers["side ratio"]


def test_the_papers_numbers_stand_beside_ours_on_coco_alone(tiny_config, memory_dataset):
    coco = memory_dataset([], [], ["person", *map(str, range(78)), "toothbrush"])
    assert paper.is_coco(coco) and not paper.is_coco(memory_dataset([], []))
    levels = load_config(ROOT / "configs" / "coco_r101.py")
    assert paper.same_levels(levels, coco) and not paper.same_levels(tiny_config, coco)
    assert not paper.same_levels(levels, memory_dataset([], []))
