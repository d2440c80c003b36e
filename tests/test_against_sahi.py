"""benchmarks/sahi_model.py and against_sahi.py: SAHI around a detector that finds white rectangles, drawn by hand."""

import dataclasses
import importlib
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from autofocus_jax.config import StackingConfig
from autofocus_jax.inference.engine import RunResult
from autofocus_jax.structures import (
    AutoFocusError,
    Detections,
    DetectorOutput,
    GroundTruth,
    ImageError,
    ImageInfo,
    ValidRange,
)

pytest.importorskip("sahi", reason="wants SAHI: pip install -e '.[test]' and pip install --no-deps sahi==0.12.8")
ROOT = Path(__file__).parent.parent
CATEGORIES = ("light", "dark")


@pytest.fixture
def modules(monkeypatch):
    """(sahi_model, against_sahi), imported as the program does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("sahi_model"), importlib.import_module("against_sahi")


def find_white(calls):
    """A detector: one box around all white pixels of a chip, class 1, its score by how much of 12x8 px it shows."""

    def detect(chips, placements):
        count, height, width, _ = chips.pixels.shape
        calls.append((count, height, width))
        boxes, scores = np.zeros((count, 1, 4), np.float32), np.zeros((count, 1, 2), np.float32)
        for row, pixels in enumerate(chips.pixels):
            ys, xs = np.nonzero(pixels[..., 0] > 127)
            if len(ys):
                boxes[row, 0] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                scores[row, 0, 1] = min(0.9, 0.2 + len(ys) / 1000)
        assert np.all(chips.valid), "no row is empty"
        return DetectorOutput(boxes, scores, np.ones((count, 1), bool), np.zeros((count, height // 16, width // 16)))

    return detect


def picture(*rectangles, size=(96, 128)):
    image = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in rectangles:
        image[y1:y2, x1:x2] = 255
    return image


def model(sahi_model, slicing, image, calls=None):
    buckets = sahi_model.slicing_buckets([slicing], [image.shape[:2]])
    detect = find_white([] if calls is None else calls)
    return sahi_model.SahiDetector(detect, slicing, buckets, CATEGORIES, StackingConfig())


@pytest.mark.parametrize("overlap", [0.2, 0.5])
@pytest.mark.parametrize("postprocess", ["NMS", "GREEDYNMM"])
def test_an_object_on_the_seam_of_slices_is_found_once_and_whole(modules, overlap, postprocess):
    sahi_model, _ = modules
    slicing = sahi_model.Slicing(64, 128, 64, overlap, postprocess=postprocess, metric="IOS")
    image = picture((58, 30, 70, 38))
    found = sahi_model.predict(image, model(sahi_model, slicing, image))
    assert found.boxes.tolist() == [[58, 30, 70, 38]] and found.labels.tolist() == [1]
    assert found.scores[0] == pytest.approx(0.2 + 4 * 96 / 1000)


def test_nothing_is_found_in_the_dark(modules):
    sahi_model, _ = modules
    image = picture()
    found = sahi_model.predict(image, model(sahi_model, sahi_model.Slicing(64, 128, 64), image))
    assert found.boxes.shape == (0, 4) and found.scores.shape == (0,) and found.labels.shape == (0,)


def test_what_is_larger_than_a_slice_comes_from_the_whole_image(modules):
    """Slices hold parts of it; with valid ranges they are not kept."""
    sahi_model, _ = modules
    image = picture((10, 8, 110, 88))
    free = sahi_model.Slicing(64, 64, 64)
    ranged = dataclasses.replace(free, slices_valid=ValidRange(0, 40), full_valid=ValidRange(50, math.inf))
    found = [sahi_model.predict(image, model(sahi_model, slicing, image)) for slicing in (free, ranged)]
    assert len(found[0].scores) > 1
    assert found[1].boxes.tolist() == [[10, 8, 110, 88]]


def test_cost(modules):
    """64 px slices at 20% start every 52 px: three in 128 px, two in 96 px; the whole image is 48 x 64."""
    sahi_model, _ = modules
    image, calls = picture(), []
    slicing = sahi_model.Slicing(64, 128, 64)
    assert len(slicing.slices(96, 128)) == 6
    detector = model(sahi_model, slicing, image, calls)
    for _ in range(2):
        sahi_model.predict(image, detector)
    spent = detector.spent
    assert spent.images == 2 and spent.chips.tolist() == [2, 12]
    assert spent.pixels.tolist() == spent.padded_pixels.tolist() == [2 * 48 * 64, 12 * 128 * 128]
    assert spent.full_pixels.tolist() == [2 * 48 * 64, 2 * 192 * 256]
    assert sum(count for count, height, _ in calls if height == 128) == 12


def test_batches_have_no_empty_row(modules):
    """Twelve rows go to a call at 128 x 128 px; 25 slices are two such calls and a single one."""
    sahi_model, _ = modules
    image, calls = picture(size=(224, 272)), []
    slicing = sahi_model.Slicing(64, 128, 64)
    detector = model(sahi_model, slicing, image, calls)
    assert len(slicing.slices(224, 272)) == 25
    sahi_model.predict(image, detector)
    assert [count for count, height, _ in calls if height == 128] == [12, 12, 1]


def test_an_image_below_a_slice_is_one_slice(modules):
    sahi_model, _ = modules
    image = picture((20, 10, 32, 18), size=(40, 50))
    detector = model(sahi_model, sahi_model.Slicing(64, 128, 64), image)
    found = sahi_model.predict(image, detector)
    assert found.boxes.tolist() == [[20, 10, 32, 18]]
    assert detector.spent.chips.tolist() == [0, 1]  # SAHI takes the whole image only where there are several slices


class Pictures(NamedTuple):
    """A Dataset of four pictures with the same object; `broken` cannot be read."""

    broken: int | None = None
    categories: tuple = CATEGORIES

    def info(self, index):
        return ImageInfo(index + 1, f"{index}.png", 96, 128)

    def image(self, index):
        if index == self.broken:
            raise ImageError(f"image {index}.png cannot be decoded")
        return picture((58, 30, 70, 38))

    def ground_truth(self, index):
        return GroundTruth(np.array([[58, 30, 70, 38]], np.float32), np.array([1], np.int32), np.zeros(1, bool))


def test_rows_take_turns_and_are_joined(modules):
    sahi_model, against_sahi = modules
    detector = model(sahi_model, sahi_model.Slicing(64, 128, 64), picture())
    asked = []

    def sahi(dataset, indices):
        asked.append(("sahi", list(indices)))
        return against_sahi.sahi_row(detector, dataset, indices)

    def blind(dataset, indices):
        asked.append(("autofocus", list(indices)))
        result = against_sahi.sahi_row(detector, dataset, indices)
        none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
        return result._replace(detections=[none] * len(indices), seconds=2.0)

    measured = against_sahi.measure({"autofocus": blind, "sahi": sahi}, Pictures(), range(4), rounds=2)
    assert asked[2:] == [("autofocus", [0, 1]), ("sahi", [0, 1]), ("sahi", [2, 3]), ("autofocus", [2, 3])]
    assert measured["sahi"].scores.ap == pytest.approx(100) and measured["autofocus"].scores.ap == 0
    assert measured["sahi"].run.indices == [0, 1, 2, 3] and measured["sahi"].run.cost.images == 4
    assert measured["autofocus"].run.seconds == 4.0
    table = against_sahi.table(measured, "a title")
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["AP - ours"] == ["+0.0", "+100.0"] and cells["pixels / ours"] == ["1.00", "1.00"]
    assert cells["chips"] == ["7.0", "7.0"] and cells["images/s"][0] == "1.00"


def test_images_that_cannot_be_read(modules):
    sahi_model, against_sahi = modules
    detector = model(sahi_model, sahi_model.Slicing(64, 128, 64), picture())
    result = against_sahi.sahi_row(detector, Pictures(broken=1), range(3))
    assert isinstance(result, RunResult) and result.indices == [0, 2] and result.cost.images == 2
    assert [skipped.index for skipped in result.skipped] == [1]


def test_the_chosen_setting_is_a_candidate(modules):
    _, against_sahi = modules
    assert against_sahi.CHOSEN in against_sahi.CANDIDATES


@pytest.mark.parametrize("options", [{"rounds": 0}, {"limit": 1}, {"overlaps": (1.0,)}, {"overlaps": ()}])
def test_wrong_options(modules, options):
    _, against_sahi = modules
    with pytest.raises(AutoFocusError, match="want"):
        against_sahi.main(against_sahi.Options(**options), None)


def test_a_wrong_option_is_one_line():
    command = [sys.executable, str(ROOT / "benchmarks" / "against_sahi.py"), "--rounds", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "want" in done.stderr
