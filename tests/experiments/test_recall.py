"""Recalls on drawn maps: one small object, one that only the detector misses, one that is too large to be small."""

import dataclasses

import numpy as np
import pytest

from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config
from autofocus_jax.experiments import detector, figure, recall
from autofocus_jax.experiments.result import silent
from autofocus_jax.structures import ChipRule, Detections, DetectorOutput, FocusRange, Scale, ValidRange

SCALE = Scale(64, 128, ValidRange(0, 1000), ChipRule(0.5, 1, 16))


@pytest.fixture
def drawn():
    """A level of 64x128 px with a map of 4x8 cells; objects of 12, 10 and 60 px; the second one is not found."""
    boxes = np.array([[2, 2, 14, 14], [99, 35, 109, 45], [40, 2, 100, 62]], np.float32)
    focus = np.zeros((4, 8), np.float32)
    focus[0, 0], focus[2, 6], focus[3, 0] = 0.9, 0.6, 0.7
    return [focus], [recall.LevelTruth(boxes, np.array([True, False, True]))], [(64, 128)]


def test_focus_pixels(drawn):
    curves = recall.focus_pixels(*drawn, FocusRange(2, 40, 50), [0.05, 0.65, 0.8, 0.95])
    np.testing.assert_allclose(curves[recall.ALL].area, np.array([3, 2, 1, 0]) / 32)
    np.testing.assert_allclose(curves[recall.ALL].recall, [1, 0.5, 0.5, 0])  # 2 cells: the second object fills one
    np.testing.assert_allclose(curves[recall.CONFIDENT].area, np.array([3, 2, 1, 0]) / 32)
    np.testing.assert_allclose(curves[recall.CONFIDENT].recall, [1, 1, 1, 0])


def test_focus_chips(drawn):
    curves = recall.focus_chips_curves(*drawn, SCALE, FocusRange(2, 40, 50), [0.05, 0.65, 0.95])
    np.testing.assert_allclose(curves[recall.ALL].area, np.array([3, 2, 0]) * 16**2 / (64 * 128))
    np.testing.assert_allclose(curves[recall.ALL].recall, [1, 0.5, 0])
    np.testing.assert_allclose(curves[recall.CONFIDENT].recall, [1, 1, 0])
    dilated = dataclasses.replace(SCALE, chips=ChipRule(0.5, 3, 16))
    wide = recall.focus_chips_curves(*drawn, dilated, FocusRange(2, 40, 50), [0.8])
    np.testing.assert_allclose(wide[recall.ALL].area, 32**2 / (64 * 128))


def test_nothing_to_find(drawn):
    maps, _, levels = drawn
    empty = [recall.LevelTruth(np.zeros((0, 4), np.float32), np.zeros(0, bool))]
    curves = recall.focus_chips_curves(maps, empty, levels, SCALE, FocusRange(2, 40, 50), [0.5])
    assert np.isnan(curves[recall.ALL].recall).all() and np.isnan(curves[recall.CONFIDENT].recall).all()


def test_confident(truth):
    objects = truth([[0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 10], [70, 0, 80, 10]], [0, 1, 1, 0])
    found = Detections(
        np.array([[0, 0, 10, 8], [20, 20, 40, 40], [50, 0, 60, 4], [70, 0, 80, 10]], np.float32),
        np.array([0.9, 0.8, 0.7, 0.5], np.float32),
        np.array([0, 0, 1, 0], np.int32),
    )
    # Found; of another class; too little overlap; score not above 0.5.
    assert recall.confident(objects, found, 0.5, 0.5).tolist() == [True, False, False, False]
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    assert not recall.confident(objects, none, 0.5, 0.5).any()


def test_run(tmp_path, monkeypatch, tiny_config_file, memory_dataset, truth):
    """The whole experiment: the map has a chip on one of two small objects, and both are detected."""
    config = load_config(tiny_config_file)
    objects = truth([[4, 4, 12, 12], [80, 40, 88, 48]], [0, 0])
    dataset = memory_dataset([np.zeros((64, 128, 3), np.uint8)], [objects], categories=("a",))

    def detect(chips, placements):
        (place,) = placements
        focus = np.zeros((1, chips.pixels.shape[1] // 16, chips.pixels.shape[2] // 16), np.float32)
        focus[0, 0, 0] = 0.9
        boxes = (objects.boxes * np.tile(place.factor, 2))[None]
        return DetectorOutput(boxes, np.array([[[0.9], [0.4]]], np.float32), np.ones((1, 2), bool), focus)

    monkeypatch.setattr(recall, "open_images", lambda *_: dataset)
    monkeypatch.setattr(recall, "load_detector", lambda *_: detector.Trained(detect, "x"))
    arguments = recall.Arguments(config=tiny_config_file, output=str(tmp_path), thresholds=(0.1, 0.95))
    result = recall.run(arguments, config, silent)
    assert (result.summary["objects"], result.summary["confidently found"]) == (2, 1)
    by_key = {(row["what"], row["of"], row["t"]): (row["area"], row["recall"]) for row in result.rows}
    assert by_key["FocusPixels, scale 1", recall.ALL, 0.1] == pytest.approx((1 / 32, 0.5))
    assert by_key["FocusPixels, scale 1", recall.CONFIDENT, 0.1] == pytest.approx((1 / 32, 1))
    assert by_key["FocusChips, scale 1", recall.CONFIDENT, 0.5] == pytest.approx((32**2 / (64 * 128), 1))
    assert by_key["FocusChips, scale 1", recall.ALL, 0.95] == (0, 0)
    assert {path.suffix for path in figure.save(result.draw, tmp_path / "recall")} == {".svg", ".png"}


def test_bad_thresholds_are_one_line(tmp_path, capsys, tiny_config_file):
    words = ["recall", "--config", tiny_config_file, "--output", str(tmp_path), "--thresholds", "0", "0.5"]
    assert main(["experiment", *words]) == 1
    assert "--thresholds (0.0, 0.5); want some, each above 0 and below 1" in capsys.readouterr().err
