"""Panels of a drawn case that the oracle solves: what they count is known, and their colours are where they belong."""

import dataclasses

import numpy as np
import pytest

from autofocus_jax.config import Config, DetectorConfig, StackingConfig, TrainingConfig
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.experiments import figure, panels
from autofocus_jax.experiments.detector import Trained
from autofocus_jax.experiments.result import silent, write
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.focus.labels import level_labels
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.structures import (
    FOCUS,
    Bucket,
    ChipRule,
    Detections,
    FocusRange,
    ImageError,
    Scale,
    ValidRange,
)

GREY = np.full((64, 64, 3), 100, np.uint8)
SMALL, LARGE = [20, 20, 30, 30], [0, 0, 60, 60]  # in one cell of the first level, which is the image itself


@pytest.fixture
def config():
    return Config(
        name="two-scales",
        data=CocoSource(root="unused"),
        scales=(
            Scale(64, 64, ValidRange(30, 1000), ChipRule(0.5, 1, 32)),
            Scale(128, 128, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(2, 16, 24),
        buckets=(Bucket(128, 128, 1),),
        detector=DetectorConfig(num_classes=1),
        training=TrainingConfig(steps=1, batch=1, ranges=(ValidRange(0, 1000), ValidRange(0, 1000))),
        stacking=StackingConfig(border_tolerance=0.5),
    )


@pytest.fixture
def parts(config, memory_dataset, truth):
    dataset = memory_dataset([GREY], [truth([SMALL, LARGE], [0, 0])], ("a",))
    found, skipped = panels.samples(config, oracle_detect(dataset.truths, config.focus_range, 1), dataset, [0])
    assert skipped == ()
    return found


def detections(boxes=(), scores=()):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.asarray(scores, np.float32), np.zeros(len(boxes), np.int32))


def tile(drawn, number):
    """The pixels [h, w, 3] of the `number`-th picture of a figure, without titles and legend."""
    drawn.canvas.draw()
    picture = np.asarray(drawn.canvas.buffer_rgba())[..., :3].astype(int)
    box = drawn.axes[number].get_window_extent()
    return picture[round(len(picture) - box.y1) : round(len(picture) - box.y0), round(box.x0) : round(box.x1)]


def extent(picture, color, tolerance=40):
    """(x1, y1, x2, y2) of what has about this colour, as shares of the picture; None without such a pixel."""
    y, x = np.nonzero((np.abs(picture - np.asarray(color)) < tolerance).all(axis=-1))
    height, width = picture.shape[:2]
    return [x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height] if len(x) else None


def rgb(color):
    return [int(color[start : start + 2], 16) for start in (1, 3, 5)]


def test_rows(parts, config):
    first, second = panels.report_rows(parts, config.scales, 0.5)
    # Of the two objects, scale 1 answers for the large and scale 2, in a chip of 32 image px, for the small one.
    assert first == {
        "image": "0.png", "scale": 1, "chips": 1, "pixels": 64**2, "of level": 1, "FocusPixels": 1, "kept": 1,
        "cut": 0, "result": 2,
    }  # fmt: skip
    assert second["chips"] == 1 and second["pixels"] == 64**2 and second["of level"] == 0.25
    assert (second["FocusPixels"], second["kept"], second["result"]) == (0, 1, 2)  # 20 px there: IGNORE
    assert panels.report_rows(parts, config.scales, 1.5)[1]["result"] == 0


def test_labels_are_those_of_whole_levels(truth, config):
    objects = truth([SMALL], [0])
    coarse, fine = (level_labels((64, 64), objects, scale, config.focus_range) for scale in config.scales)
    assert np.argwhere(coarse == FOCUS).tolist() == [[1, 1]] and coarse.shape == (4, 4) and fine.shape == (8, 8)


def test_choose_spreads_over_images_with_objects(memory_dataset, truth):
    crowd = truth([SMALL], [0], [True])
    truths = [truth(), truth([SMALL], [0]), crowd, truth([SMALL], [0]), truth([SMALL], [0])]
    data = memory_dataset([GREY] * 5, truths)
    assert panels.choose(data, range(5), 2) == [1, 4] and panels.choose(data, range(5), 9) == [1, 3, 4]
    assert panels.choose(data, range(1), 3) == []


def test_the_chip_that_cuts_most_is_shown(parts):
    chips = np.array([[0, 0, 32, 32], [32, 32, 64, 64]], np.float32)
    whole = parts[0].stages[0]
    kept, cut = detections([[1, 1, 9, 9], [2, 2, 9, 9]], [0.9, 0.9]), detections([[40, 40, 64, 64]], [0.9])
    two = parts[0]._replace(stages=[whole, Stage(chips, (), kept, cut)])
    assert panels.chip_to_show(two, 0.5)[0] == 2 and panels.chip_to_show(two, 0.5)[1].tolist() == [32, 32, 64, 64]
    none_cut = parts[0]._replace(stages=[whole, Stage(chips, (), kept, detections())])
    assert panels.chip_to_show(none_cut, 0.5)[1].tolist() == [0, 0, 32, 32]
    empty = parts[0]._replace(stages=[whole, Stage(chips[:0], (), detections(), detections())])
    assert panels.chip_to_show(empty, 0.5) == (1, pytest.approx([0, 0, 64, 64]))


def test_colours(parts, config):
    """Boxes, chips and cells lie where their coordinates say; tiles show the whole image."""
    chip = parts[0].stages[1].chips[0] / 64
    pipeline = panels.draw_pipeline(parts, config.scales, 0.5)
    fine = tile(pipeline, 1)
    assert extent(fine, rgb(figure.YELLOW)) == pytest.approx(list(chip), abs=0.03)
    assert extent(fine, rgb(figure.GREEN)) == pytest.approx([20 / 64, 20 / 64, 30 / 64, 30 / 64], abs=0.03)
    assert extent(tile(pipeline, 2), rgb(figure.GREEN)) == pytest.approx([0, 0, 60 / 64, 60 / 64], abs=0.03)
    labels = panels.draw_labels(parts, config.scales)
    tint = 0.75 * np.array(rgb(figure.VERMILION)) + 0.25 * 60  # FOCUS over the darkened grey
    assert extent(tile(labels, 1), tint, 8) == pytest.approx([0.25, 0.25, 0.5, 0.5], abs=0.02)
    assert extent(tile(labels, 2), tint, 8) is None
    after = tile(panels.draw_stacking(parts, 0.5), 2)
    assert extent(after, rgb(figure.YELLOW)) is not None and extent(after, rgb(figure.GREEN)) is not None
    assert extent(after, rgb(figure.PURPLE)) is None


def test_the_experiment(monkeypatch, tmp_path, config, memory_dataset, truth):
    data = memory_dataset([GREY, None], [truth([SMALL], [0]), truth([SMALL], [0])], ("a",))
    monkeypatch.setattr(panels, "open_images", lambda *_: data)
    detect = oracle_detect(data.truths, config.focus_range, 1)
    monkeypatch.setattr(panels, "load_detector", lambda *_: Trained(detect, ""))
    result = panels.run(panels.Arguments("unused", str(tmp_path)), config, silent)
    assert len(result.rows) == 2 and len(result.notes) == 1 and "1.png" in result.notes[0]
    names = {path.name for path in write(result, tmp_path, "panels")}
    assert names == {"panels.json", "panels.csv"} | {
        f"panels{part}.{kind}" for part in ("", "_labels", "_stacking") for kind in ("svg", "png")
    }
    with pytest.raises(ImageError, match=r"1\.png"):
        panels.run(panels.Arguments("unused", str(tmp_path)), config, lambda items, *_: list(items)[1:])
    with pytest.raises(panels.ConfigError, match="--count 0"):
        panels.run(dataclasses.replace(panels.Arguments("unused", "unused"), count=0), config, silent)
