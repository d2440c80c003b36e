"""Positive chips: against the chips of the authors' release, and what must hold for any boxes."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.config import TrainingConfig
from autofocus_jax.structures import ChipRule, Scale, ValidRange
from autofocus_jax.training.sampling import cover, epoch, in_range, positive_chips

GOLDEN = Path(__file__).parent.parent / "golden" / "sniper_cover.npz"


def held(boxes, windows):
    """[n, G] bool: which windows hold which boxes whole."""
    low = windows[:, None, :2] <= boxes[None, :, :2]
    return (low & (boxes[None, :, 2:] <= windows[:, None, 2:])).all(axis=2)


class GridAtZero:
    """Draws ties, but lets the grid start at 0 as the release does."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def random(self, size=None):
        return 0.0 if size is None else self.generator.random(size)


@pytest.mark.parametrize("number", range(6))
def test_no_worse_than_the_release(number):
    """Ties may be broken another way, so the number of chips is that of the best of a few draws, and never far off."""
    with np.load(GOLDEN) as golden:
        boxes, theirs = golden[f"cover{number}_boxes"], golden[f"cover{number}_chips"]
        width, height, side, step = (int(value) for value in golden[f"cover{number}_params"])
    covered = held(boxes, theirs).any(axis=0)
    inclusive = boxes + np.array([0, 0, 1, 1], np.float32)  # the last pixel of a box is part of it there
    counts = []
    for seed in range(6):
        windows = cover(inclusive, height, width, side, step, GridAtZero(seed))
        assert held(inclusive, windows).any(axis=0)[covered].all()
        counts.append(len(windows))
    assert min(counts) <= len(theirs) and max(counts) <= len(theirs) + 1


@st.composite
def scenes(draw):
    height, width, side = draw(st.integers(1, 300)), draw(st.integers(1, 300)), draw(st.integers(1, 200))
    step = draw(st.floats(1, 80))
    corner = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
    pairs = draw(st.lists(st.tuples(corner, corner), max_size=12))
    scale = np.array([width, height], np.float32)
    boxes = [np.concatenate([np.minimum(a, b) * scale, np.maximum(a, b) * scale]) for a, b in np.float32(pairs)]
    return np.array(boxes, np.float32).reshape(-1, 4), height, width, side, step, draw(st.integers(0, 2**32 - 1))


@given(scenes())
def test_cover(scene):
    boxes, height, width, side, step, seed = scene
    windows = cover(boxes, height, width, side, step, np.random.default_rng(seed))
    assert windows.dtype == np.int32 and windows.shape[1:] == (4,)
    # Inside the image, and as large as it and the side allow.
    assert (windows[:, :2] >= 0).all() and (windows[:, 2] <= width).all() and (windows[:, 3] <= height).all()
    assert (windows[:, 2] - windows[:, 0] == min(side, width)).all()
    assert (windows[:, 3] - windows[:, 1] == min(side, height)).all()
    # Every box that a candidate must hold is held: starts lie less than step + 1 px apart.
    by_window = held(boxes, windows)
    sure = ((boxes[:, 2:] - boxes[:, :2]) <= side - step - 1).all(axis=1) | (side >= max(height, width))
    assert by_window.any(axis=0)[sure].all()
    # Every window holds a box that those chosen before it do not, and they hold ever fewer new ones (greedy).
    new = [int((row & ~by_window[:index].any(axis=0)).sum()) for index, row in enumerate(by_window)]
    assert all(count > 0 for count in new) and new == sorted(new, reverse=True)


def test_same_seed_same_windows():
    boxes = np.random.default_rng(0).uniform(0, 200, (20, 2)).astype(np.float32)
    boxes = np.concatenate([boxes, boxes + 15], axis=1)
    one, again, other = (cover(boxes, 220, 220, 64, 8.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


def test_nothing_to_cover():
    assert cover(np.zeros((0, 4), np.float32), 100, 100, 50, 10, np.random.default_rng(0)).shape == (0, 4)
    long = np.array([[0, 0, 100, 5]], np.float32)
    assert cover(long, 100, 100, 50, 10, np.random.default_rng(0)).shape == (0, 4)


def test_in_range_has_both_ends_and_no_regions(truth):
    boxes = [[0, 0, side, side] for side in (9, 10, 20, 21, 15)]
    assert in_range(truth(boxes, [0] * 5, [0, 0, 0, 0, 1]), ValidRange(10, 20)).tolist() == [0, 1, 1, 0, 0]


SCALES = (
    Scale(100, 150, ValidRange(0, 9), ChipRule(0.5, 1, 16)),
    Scale(400, 600, ValidRange(0, 9), None),
)
RANGES = (ValidRange(50, math.inf), ValidRange(0, 60))
TRAINING = TrainingConfig(steps=1, batch=1, chip=160, chip_stride=16, ranges=RANGES)


def test_chips_of_an_image(truth):
    boxes = np.array([[0, 0, 10, 10], [280, 180, 299, 199], [20, 20, 180, 180]], np.float32)  # the third: scale 1 alone
    chosen = positive_chips(truth(boxes, [0, 1, 2]), 200, 300, SCALES, TRAINING, np.random.default_rng(0))
    assert [scale for scale, _ in chosen] == [1, 2, 2] and chosen[0][1].tolist() == [0, 0, 300, 200]
    windows = np.array([window for _, window in chosen[1:]])
    assert (windows[:, 2:] - windows[:, :2] == 80).all()  # 160 px at a factor of 2
    assert held(boxes, windows).any(axis=0).tolist() == [True, True, False]


def test_the_coarsest_scale_always_has_its_chip(truth):
    for answer in (truth(), truth([[0, 0, 10, 10]], [0], [True])):
        chosen = positive_chips(answer, 50, 70, SCALES, TRAINING, np.random.default_rng(0))
        assert [(scale, window.tolist()) for scale, window in chosen] == [(1, [0, 0, 70, 50])]


def test_every_box_in_range_has_a_chip_and_order_is_random(memory_dataset, truth):
    random = np.random.default_rng(0)
    truths, images = [], []
    for height, width in ((200, 300), (300, 200), (90, 80), (200, 200)):
        low = random.uniform(0, (width - 30, height - 30), (5, 2))
        truths.append(truth(np.concatenate([low, low + random.uniform(4, 30, (5, 2))], axis=1), [0] * 5))
        images.append(np.zeros((height, width, 3), np.uint8))
    dataset = memory_dataset(images, truths)
    training = dataclasses.replace(TRAINING, chip=320)
    chips = epoch(dataset, SCALES, training, np.random.default_rng(1))
    for index, answer in enumerate(truths):
        mine = [chip for chip in chips if chip.image == index]
        assert sum(chip.scale == 1 for chip in mine) == 1
        windows = np.array([chip.window for chip in mine if chip.scale == 2])
        assert held(answer.boxes, windows).any(axis=0).all()
    order = [[chip.image for chip in epoch(dataset, SCALES, training, np.random.default_rng(s))] for s in (1, 2)]
    assert order[0] == [chip.image for chip in chips] and order[0] != order[1]
