"""Where pixels go, for an image whose chips are counted by hand: levels of 64 and 128 px, an object in one cell."""

import dataclasses

import numpy as np
import pytest

from autofocus_jax.config.load import load_config
from autofocus_jax.experiments import detector, losses
from autofocus_jax.experiments.result import silent
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.structures import ChipRule, DetectorOutput, FocusRange, Scale, ValidRange

FIRST = 64**2


@pytest.fixture
def config(tiny_config_file):
    config = load_config(tiny_config_file)
    scales = (Scale(64, 64, ValidRange(20, 1000), ChipRule(0.5, 3, 48)), Scale(128, 128, ValidRange(0, 40), None))
    return dataclasses.replace(config, scales=scales, focus_range=FocusRange(2, 20, 30))


def result(config, monkeypatch, memory_dataset, truths, detect, tmp_path):
    dataset = memory_dataset([np.zeros((64, 64, 3), np.uint8)], truths, categories=("a",))
    monkeypatch.setattr(losses, "open_images", lambda *_: dataset)
    monkeypatch.setattr(losses, "load_detector", lambda *_: detector.Trained(detect, "oracle"))
    return losses.run(losses.Arguments(config="", output=str(tmp_path)), config, silent)


def test_a_perfect_map_loses_nothing_to_the_map(config, monkeypatch, memory_dataset, truth, tmp_path):
    truths = [truth([[20, 20, 30, 30]], [0])]  # inside one cell: with dilation 3 x 3 cells, which are k already
    detect = oracle_detect(truths, config.focus_range, 1)
    found = result(config, monkeypatch, memory_dataset, truths, detect, tmp_path)
    pixels = [round(row["side"] ** 2) for row in found.rows]
    assert pixels[:5] == [FIRST + 32**2, FIRST + 96**2, FIRST + 96**2, FIRST + 96**2, FIRST + 96**2]
    assert pixels[5] >= pixels[4] and found.rows[4]["of the bound"] == 1
    assert (found.summary["small objects"], found.summary["missed"]) == (1, 0)


def test_a_map_that_sees_things_costs_chips_without_one(config, monkeypatch, memory_dataset, truth, tmp_path):
    """The object is missed, and a corner where nothing is is looked at: 48 px, 96 at scale 2."""
    truths = [truth([[52, 52, 62, 62]], [0])]
    oracle = oracle_detect(truths, config.focus_range, 1)

    def detect(chips, placements):
        output = oracle(chips, placements)
        focus = np.zeros_like(output.focus)
        focus[:, 0, 0] = 1
        return DetectorOutput(output.boxes, output.scores, output.valid, focus)

    found = result(config, monkeypatch, memory_dataset, truths, detect, tmp_path)
    pixels = [round(row["side"] ** 2) for row in found.rows]
    assert pixels[3:5] == [FIRST, FIRST + 96**2]  # the cell's dilated corner has 2 x 2 cells, and k is 48 px
    assert (found.summary["small objects"], found.summary["missed"]) == (1, 1)
