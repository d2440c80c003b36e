"""What an evaluation says of ranges without objects and of the saving, on images whose bound is counted by hand."""

import dataclasses
import math

import numpy as np
import pytest

from autofocus_jax.command import outlook
from autofocus_jax.structures import LEADS, ChipRule, FocusRange, Scale, ValidRange

ROWS = {"pyramid": {"pixels_per_image": 640.0}, "autofocus": {"pixels_per_image": 100.0}}


@pytest.fixture
def setting(tiny_config, memory_dataset, truth, monkeypatch):
    """Levels of 64 and 128 px; one object in one cell of the first, so that chips of 32 px show it at the second."""
    scales = (Scale(64, 64, ValidRange(30, 50), ChipRule(0.5, 1, 32)), Scale(128, 128, ValidRange(0, 40), None))
    training = dataclasses.replace(tiny_config.training, ranges=(ValidRange(30, 50), ValidRange(0, 40)))
    config = dataclasses.replace(tiny_config, scales=scales, focus_range=FocusRange(2, 20, 30), training=training)
    dataset = memory_dataset([np.zeros((64, 64, 3), np.uint8)], [truth([[20, 20, 30, 30]], [0])])
    monkeypatch.setattr(outlook, "open_split", lambda config, split: dataset)
    return config, dataset


def test_saving_bound_and_forecast(setting):
    config, dataset = setting
    bound = (64**2 + 128**2) / (64**2 + 64**2)
    warning, line = outlook.lines(dataset, [0], config, ROWS)
    assert f"AutoFocus saves 6.4 of the {bound:.1f} times that are possible on these images" in line
    assert line.endswith(f"{bound:.1f} times on the training images (the forecast)")
    assert "scale 1 answers for objects of 30 px to 50, and no object of these images has that size" in warning


def test_a_scale_that_leads_is_no_empty_range(setting):
    config, dataset = setting
    scales = (dataclasses.replace(config.scales[0], valid=LEADS), config.scales[1])
    training = dataclasses.replace(config.training, ranges=(LEADS, ValidRange(0, math.inf)))
    config = dataclasses.replace(config, scales=scales, training=training)
    assert [line.split()[0] for line in outlook.lines(dataset, [0], config, ROWS)] == ["AutoFocus"]
    assert not list(outlook.lines(dataset, [0], config, {"autofocus": ROWS["autofocus"]}))  # --rows autofocus
