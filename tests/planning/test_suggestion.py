"""Suggested settings: close to the paper's on COCO, honest where the method cannot help, valid for any sizes."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofocus_jax.command.config_text import config_text, paper_detector, small_detector
from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import load_config
from autofocus_jax.data.coco import CocoDataset, CocoSource
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.buckets import choose
from autofocus_jax.planning.candidates import Needs, Sizes, candidates, sizes
from autofocus_jax.planning.suggestion import REACHED, best, frontier, suggest, tried, within
from autofocus_jax.structures import LEADS, Dataset, FocusRange, GroundTruth, ImageInfo, ValidRange

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


SMALL = Needs(256, 30.0, 160)  # what `autofocus suggest` asks for its small network


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real annotations are not at {SHARED}")
def test_close_to_the_paper_on_coco():
    data = CocoDataset("nowhere", SHARED / "coco_val2017_boxes" / "instances_val2017_boxes.json.gz")
    made = suggest(data, sample=100)
    assert made.helps and made.forecast.factor > 3 and made.forecast.reached > REACHED
    paper = [((480, 512), 75, math.inf), ((800, 1280), 32, 180), ((1400, 2000), 0, 75)]
    assert len(made.scales) == 3
    for scale, (sides, low, high) in zip(made.scales, paper):
        np.testing.assert_allclose((scale.min_side, scale.max_side), sides, rtol=0.15)
        np.testing.assert_allclose((scale.valid.low, scale.valid.high), (low, high), rtol=0.15)
    rules = [scale.chips for scale in made.scales[:-1]]
    assert [rule.dilation for rule in rules] == [3, 3]  # as in the paper, by what objects lose at borders otherwise
    np.testing.assert_allclose([rule.min_size for rule in rules], (256, 320), rtol=0.25)
    assert made.candidate.focus_range == FocusRange(5, 64, 90)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real annotations are not at {SHARED}")
@pytest.mark.parametrize(
    "file, saves",
    [
        ("aerial_cars/annotations/instances.json", 3.0),
        ("uav_people/instances_a.json", 10.0),
        ("uav_people/instances_b.json", 10.0),
    ],
)
def test_photographs_from_above_are_worth_it(file, saves):
    path = SHARED / file if (SHARED / file).exists() else next((SHARED / "uav_people").rglob(Path(file).name))
    made = suggest(CocoDataset("nowhere", path), SMALL)
    assert made.forecast.factor > saves and made.forecast.reached >= REACHED and made.helps
    assert made.scales[0].leads and made.training_ranges[0] == LEADS  # it would have no object of its own
    assert made.padding < 0.15
    share = SMALL.context / made.candidate.plan.scales[0].chips.min_size
    assert share == pytest.approx(made.candidate.factors[1] / made.candidate.factors[0], rel=0.03)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real annotations are not at {SHARED}")
def test_small_objects_everywhere():
    data = CocoDataset("nowhere", SHARED / "visdrone_boxes" / "instances_val.json.gz")
    made = suggest(data, sample=40)
    assert not made.helps and made.forecast.factor < 2
    assert made.verdict.startswith("The method saves little here") and "times fewer pixels" in made.verdict


def test_no_small_object():
    made = suggest(Boxes([(480, 640)] * 3, [squares([(100, 100)], 200)] * 3))
    assert not made.helps and "nine of ten objects have 200 px or more" in made.verdict
    (scale,) = made.scales
    assert (scale.max_side, scale.valid, scale.chips) == (512, ValidRange(0, math.inf), None)


def test_a_few_small_objects_in_one_place():
    boxes = [squares([(300, 200), (330, 210)], 12), squares([(50, 60)], 300), squares([(10, 10)], 15), []]
    made = suggest(Boxes([(480, 640)] * 4, boxes))
    assert made.helps and made.forecast.without_chips == 0.5  # the image of the large object, and the empty one
    levels = [math.prod(pyramid.level_size(480, 640, scale)) for scale in made.scales]
    np.testing.assert_array_equal(made.forecast.full_pixels, levels)
    assert made.forecast.pixels[0] == levels[0] and (made.forecast.pixels[1:] < np.array(levels[1:]) / 2).all()
    assert not made.scales[0].leads  # a quarter of the objects is its own


def test_small_objects_in_a_grid_save_nothing():
    made = suggest(Boxes([(480, 640)] * 2, [squares(GRID, 14)] * 2))
    assert not made.helps and "nearly everywhere" in made.verdict
    assert made.forecast.factor == pytest.approx(1.0, abs=0.05)


def test_a_scale_that_answers_for_nothing_leads_and_all_objects_are_looked_at():
    boxes = [squares([(300, 200), (330, 210)], 20), squares([(50, 60)], 24)]
    made = suggest(Boxes([(1080, 1920)] * 2, boxes), SMALL)
    assert [scale.leads for scale in made.scales] == [True] * (len(made.scales) - 1) + [False]
    assert made.scales[-1].valid == ValidRange(0, math.inf) and math.isinf(made.candidate.focus_range.b)
    assert made.forecast.reached == 1.0 and any("only leads" in reason for reason in made.reasons)


def test_what_is_reached_and_paid_is_what_a_person_counts():
    """One object of 20 px in the middle of an image of 1600 px: the last scale sees one chip, of k or little more."""
    data = Boxes([(800, 1600)], [squares([(800, 400)], 20)])
    chosen = best(data, sizes(data), SMALL)
    factors, plan = chosen.candidate.factors, chosen.candidate.plan
    assert chosen.forecast.reached == 1.0
    assert chosen.forecast.pixels[0] == pytest.approx(800 * 1600 * factors[0] ** 2, rel=0.02)
    side = plan.scales[-2].chips.min_size * factors[-1] / factors[-2]
    cells = 16 * 3 * factors[-1] / factors[-2]  # of two cells that the object may touch, and one more by rounding
    assert SMALL.context * 0.97 <= side and side**2 * 0.9 <= chosen.forecast.pixels[-1] <= 1.1 * max(side, cells) ** 2


def test_the_frontier_pays_for_larger_objects_and_a_budget_takes_from_it():
    boxes = [squares([(100 + 90 * n, 200 + 40 * n) for n in range(5)], 20), squares([(50, 60)], 400)]
    data = Boxes([(1080, 1920)] * 2, boxes)
    choices = frontier(tried(data, SMALL))
    pixels = [choice.forecast.pixels.sum() for choice in choices]
    zooms = [choice.candidate.factors[-1] for choice in choices]
    assert len(choices) >= 3 and pixels == sorted(pixels) and zooms == sorted(zooms)
    for choice in choices:
        assert within(choices, choice.forecast.side + 1) == choice
    with pytest.raises(ConfigError, match=r"the cheapest plan takes \d+ px on a side"):
        within(choices, 10)


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="none of 2 images has an object"):
        suggest(Boxes([(480, 640)] * 2, [[], []]))
    for chip in (500, 0, -16):
        with pytest.raises(ConfigError, match=f"chip of {chip} px; want a multiple of 16"):
            Needs(chip)
    with pytest.raises(ConfigError, match="finest level of 300 px is smaller than a chip of 512"):
        Needs(longest=300)
    with pytest.raises(ConfigError, match="seen must be from 1 px to a training chip, 512 px, got 600"):
        Needs(seen=600)
    with pytest.raises(ConfigError, match="context must be at least 16 px, got 3"):
        Needs(context=3)


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=5),
    st.lists(st.floats(0.5, 2000), min_size=1, max_size=30), st.sampled_from([64, 256, 512]),
)  # fmt: skip
@settings(max_examples=100)
def test_candidates_for_any_sizes(images, objects, chip):
    made = list(candidates(Sizes(np.array(images), np.array(objects)), Needs(chip, chip / 8, chip // 2)))
    assert made
    for candidate in made:
        scales = candidate.plan.scales
        assert scales[0].max_side >= chip and scales[-1].chips is None and scales[-1].valid.low == 0
        answering = [scale for scale in scales if not scale.leads]
        assert list(scales[-len(answering) :]) == answering and answering[0].valid.high == math.inf
        for coarse, fine in itertools.pairwise(scales):
            assert coarse.min_side < fine.min_side and coarse.chips is not None
        for coarse, fine in itertools.pairwise(answering):
            assert coarse.valid.low <= fine.valid.high and fine.valid.low < fine.valid.high  # ranges leave no gap
        assert all(0 < scale.min_side <= scale.max_side for scale in scales)


@pytest.mark.parametrize("network", [small_detector, paper_detector])
@pytest.mark.parametrize("side", [12, 300])
def test_the_config_file_loads(tmp_path, network, side):
    data = Boxes([(480, 640), (640, 480)], [squares([(100, 100)], side)] * 2)
    made = suggest(data, SMALL)
    path = tmp_path / "mine.py"
    source = CocoSource(str(tmp_path / 'it\'s a "folder"'))
    path.write_text(config_text(made, "mine", source, network(2, 256), 2, 130), encoding="utf-8")
    config = load_config(path)
    assert config.scales == made.scales and config.buckets == made.buckets and config.data == source
    assert config.focus_range == made.candidate.focus_range and config.training.ranges == made.training_ranges
    assert config.stacking == made.candidate.plan.stacking
    assert config.detector == network(2, 256) and config.training.chip == 256 and config.training.max_boxes == 140
    for scale in config.scales:
        for size in ((480, 640), (640, 480), (100, 1000)):
            choose(*pyramid.level_size(*size, scale), config.buckets)  # BucketError when none holds it
    assert max(map(len, path.read_text().split('"""')[1].splitlines())) <= 120
