"""Suggested settings: close to the paper's on COCO, honest where the method cannot help, valid for any sizes."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax import suggestion
from autofocus_jax.command.config_text import config_text, paper_detector, small_detector
from autofocus_jax.config import ConfigError
from autofocus_jax.config_file import load_config
from autofocus_jax.data.coco import CocoDataset, CocoSource
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.buckets import choose
from autofocus_jax.structures import ChipRule, Dataset, FocusRange, GroundTruth, ImageInfo, ValidRange

SHARED = Path(__file__).parents[2] / "shared" / "data"


class Boxes(Dataset):
    """A Dataset of sizes and boxes alone; its images must never be opened."""

    categories = ("a", "b")

    def __init__(self, sizes, boxes):
        self.sizes, self.boxes = sizes, boxes

    def __len__(self):
        return len(self.sizes)

    def info(self, index):
        return ImageInfo(index + 1, f"{index}.jpg", *self.sizes[index])

    def ground_truth(self, index):
        boxes = np.asarray(self.boxes[index], np.float32).reshape(-1, 4)
        return GroundTruth(boxes, np.zeros(len(boxes), np.int32), np.zeros(len(boxes), bool))


def squares(corners, side):
    return [[x, y, x + side, y + side] for x, y in corners]


GRID = [(x, y) for x in range(0, 640, 40) for y in range(0, 480, 40)]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real annotations are not at {SHARED}")
def test_close_to_the_paper_on_coco():
    data = CocoDataset("nowhere", SHARED / "coco_val2017_boxes" / "instances_val2017_boxes.json.gz")
    made = suggestion.suggest(data, sample=100)
    assert made.helps and made.saving.factor > 3
    paper = [((480, 512), 75, math.inf), ((800, 1280), 32, 180), ((1400, 2000), 0, 75)]
    assert len(made.scales) == 3
    for scale, (sides, low, high) in zip(made.scales, paper):
        np.testing.assert_allclose((scale.min_side, scale.max_side), sides, rtol=0.1)
        np.testing.assert_allclose((scale.valid.low, scale.valid.high), (low, high), rtol=0.1)
    assert made.scales[0].chips == ChipRule(0.05, 3, 256) and made.scales[1].chips == ChipRule(0.2, 3, 320)
    assert made.focus_range == FocusRange(5, 64, 90)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real annotations are not at {SHARED}")
def test_small_objects_everywhere():
    data = CocoDataset("nowhere", SHARED / "visdrone_boxes" / "instances_val.json.gz")
    made = suggestion.suggest(data, sample=40)
    assert not made.helps and made.saving.factor < 2
    assert made.verdict.startswith("The method saves little here") and "1.6 times fewer pixels" in made.verdict


def test_no_small_object():
    made = suggestion.suggest(Boxes([(480, 640)] * 3, [squares([(100, 100)], 200)] * 3))
    assert not made.helps and "nine of ten objects have 200 px or more" in made.verdict
    (scale,) = made.scales
    assert (scale.max_side, scale.valid, scale.chips) == (512, ValidRange(0, math.inf), None)


def test_a_few_small_objects_in_one_place():
    boxes = [squares([(300, 200), (330, 210)], 12), squares([(50, 60)], 300), squares([(10, 10)], 15), []]
    made = suggestion.suggest(Boxes([(480, 640)] * 4, boxes))
    assert made.helps and made.saving.without_chips == 0.5  # the image of the large object, and the empty one
    levels = [math.prod(pyramid.level_size(480, 640, scale)) for scale in made.scales]
    np.testing.assert_array_equal(made.saving.full_pixels, levels)
    assert made.saving.pixels[0] == levels[0] and (made.saving.pixels[1:] < np.array(levels[1:]) / 2).all()


def test_small_objects_in_a_grid_save_nothing():
    made = suggestion.suggest(Boxes([(480, 640)] * 2, [squares(GRID, 14)] * 2))
    assert not made.helps and made.saving.factor == pytest.approx(1.0) and "nearly everywhere" in made.verdict


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="none of 2 images has an object"):
        suggestion.suggest(Boxes([(480, 640)] * 2, [[], []]))
    objects = Boxes([(480, 640)], [squares([(3, 4)], 14)])
    for chip in (500, 0, -16):
        with pytest.raises(ConfigError, match=f"chip of {chip} px; want a multiple of 16"):
            suggestion.suggest(objects, chip=chip)
    with pytest.raises(ConfigError, match="finest level of 300 px is smaller than a chip of 512"):
        suggestion.suggest(objects, longest=300)


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=5),
    st.lists(st.floats(0.5, 2000), min_size=1, max_size=30), st.sampled_from([64, 256, 512]),
)  # fmt: skip
@settings(max_examples=150)
def test_scales_for_any_sizes(images, objects, chip):
    given = suggestion.Sizes(np.array(images), np.array(objects))
    scales, reasons = suggestion.choose_scales(given, chip)
    assert scales[0].max_side == chip and scales[-1].chips is None and scales[-1].valid.low == 0
    assert scales[0].valid.high == math.inf and all(scale.chips is not None for scale in scales[:-1])
    for coarse, fine in itertools.pairwise(scales):
        assert coarse.min_side < fine.min_side and coarse.valid.low < fine.valid.high  # ranges leave no gap
        assert fine.valid.low < fine.valid.high
    assert all(0 < scale.min_side <= scale.max_side for scale in scales) and all(reasons)


@pytest.mark.parametrize("network", [small_detector, paper_detector])
@pytest.mark.parametrize("side", [12, 300])
def test_the_config_file_loads(tmp_path, network, side):
    data = Boxes([(480, 640), (640, 480)], [squares([(100, 100)], side)] * 2)
    made = suggestion.suggest(data, chip=256)
    path = tmp_path / "mine.py"
    source = CocoSource(str(tmp_path / "it's a \"folder\""))
    path.write_text(config_text(made, "mine", source, network(2, 256), 2, 130), encoding="utf-8")
    config = load_config(path)
    assert config.scales == made.scales and config.buckets == made.buckets and config.data == source
    assert config.focus_range == made.focus_range and config.training.ranges == made.training_ranges
    assert config.detector == network(2, 256) and config.training.chip == 256 and config.training.max_boxes == 140
    for scale in config.scales:
        for size in ((480, 640), (640, 480), (100, 1000)):
            choose(*pyramid.level_size(*size, scale), config.buckets)  # BucketError when none holds it
    assert max(map(len, path.read_text().split('"""')[1].splitlines())) <= 120
