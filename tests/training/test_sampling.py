"""Training chips of an image and of an epoch."""

import dataclasses
import math

import numpy as np

from autofocus_jax.config import TrainingConfig
from autofocus_jax.structures import LEADS, ChipRule, Scale, ValidRange
from autofocus_jax.training.sampling import count, epoch, in_range, positive_chips, positive_windows


def held(boxes, windows):
    """[n, G] bool: which windows hold which boxes whole."""
    low = windows[:, None, :2] <= boxes[None, :, :2]
    return (low & (boxes[None, :, 2:] <= windows[:, None, 2:])).all(axis=2)


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
    assert (chips.image.dtype, chips.scale.dtype, chips.window.dtype) == (np.int32, np.int8, np.int32)
    assert len(chips.image) == len(chips.scale) == len(chips.window) == count(chips)
    for index, answer in enumerate(truths):
        mine = chips.image == index
        assert (chips.scale[mine] == 1).sum() == 1
        windows = chips.window[mine & (chips.scale == 2)]
        assert held(answer.boxes, windows).any(axis=0).all()
    order = [epoch(dataset, SCALES, training, np.random.default_rng(seed)).image.tolist() for seed in (1, 2)]
    assert order[0] == chips.image.tolist() and order[0] != order[1]


def test_a_row_is_what_a_chip_is_loaded_by(memory_dataset, truth):
    dataset = memory_dataset([np.zeros((50, 70, 3), np.uint8)] * 3, [truth()] * 3)
    chips = epoch(dataset, SCALES, TRAINING, np.random.default_rng(0))
    assert count(chips) == 3
    for index in range(3):
        row = chips.row(index)
        assert (type(row.image), type(row.scale)) == (int, int) and row.window.tolist() == [0, 0, 70, 50]
        assert (row.image, row.scale) == (chips.image[index], chips.scale[index])


def test_an_epoch_of_no_images(memory_dataset):
    chips = epoch(memory_dataset([], []), SCALES, TRAINING, np.random.default_rng(0))
    assert count(chips) == 0 and chips.window.shape == (0, 4) and chips.window.dtype == np.int32


NEGATIVES = dataclasses.replace(TRAINING, negative_chips=2, negative_proposals=(0, 4))


def proposals_at(*corners, per_place=6, side=12):
    """Some proposals of 12 px at each place, a pixel apart."""
    corners = np.repeat(np.array(corners, np.float32).reshape(-1, 2), per_place, axis=0)
    corners += np.tile(np.arange(per_place, dtype=np.float32)[:, None], (len(corners) // per_place, 1))
    return np.concatenate([corners, corners + side], axis=1)


def test_negative_chips_of_an_epoch(memory_dataset, truth):
    """One object, and proposals at it and in three far corners: two of the three are drawn, never the object's."""
    images = [np.zeros((400, 600, 3), np.uint8)] * 40  # windows of 160 px
    dataset = memory_dataset(images, [truth([[300, 200, 320, 220]], [0])] * 40)
    found = proposals_at((300, 200), (5, 5), (570, 5), (5, 370))
    chips = epoch(dataset, SCALES, NEGATIVES, np.random.default_rng(3), lambda index: found)
    drawn = np.zeros(4, int)
    for index in range(40):
        windows = chips.window[(chips.image == index) & (chips.scale == 2)]
        assert len(windows) == 3 and held(dataset.truths[0].boxes, windows).sum() == 1
        drawn += held(found, windows).any(axis=0).reshape(4, -1).all(axis=1)
    assert (drawn[1:] > 10).all() and drawn[1:].sum() == 80  # each of the three in about two thirds of the epochs
    assert (chips.scale == 1).sum() == 40 and count(chips) == 40 * 4


def test_no_proposals_or_none_wanted_is_no_negative_chip(memory_dataset, truth):
    dataset = memory_dataset([np.zeros((400, 600, 3), np.uint8)], [truth()])
    found, seed = proposals_at((5, 5), (570, 5)), 0
    wanted = epoch(dataset, SCALES, NEGATIVES, np.random.default_rng(seed), lambda index: found)
    assert count(wanted) == 3
    for training, proposals in (
        (NEGATIVES, None),
        (NEGATIVES, lambda index: np.zeros((0, 4), np.float32)),
        (dataclasses.replace(NEGATIVES, negative_chips=0), lambda index: found),
        (dataclasses.replace(NEGATIVES, negative_proposals=(0, 6)), lambda index: found),  # more than 6 of 6
    ):
        assert count(epoch(dataset, SCALES, training, np.random.default_rng(seed), proposals)) == 1


def test_a_scale_that_leads_trains_nothing_and_is_shown_every_object(truth):
    """Its focus map learns where all objects are, of whatever size."""
    answer = truth([[10, 10, 20, 20], [60, 60, 100, 100]], [0, 0])
    scales = [*(dataclasses.replace(scale, valid=LEADS) for scale in SCALES), Scale(800, 800, ValidRange(0, 1), None)]
    training = dataclasses.replace(TRAINING, ranges=(LEADS, LEADS, ValidRange(0, 1)))
    windows = positive_windows(answer, 200, 200, scales, training, np.random.default_rng(0))
    assert held(answer.boxes, windows[1]).any(axis=0).all() and not len(windows[2])
    assert not in_range(answer, LEADS).any()


def test_a_coarsest_level_larger_than_a_chip_is_shown_in_windows(truth):
    scale = dataclasses.replace(SCALES[0], min_side=4 * TRAINING.chip, max_side=4 * TRAINING.chip)
    training = dataclasses.replace(TRAINING, ranges=(ValidRange(0, 1000),))
    for objects in (truth([[10, 10, 30, 30], [160, 160, 190, 190]], [0, 0]), truth()):
        (windows,) = positive_windows(objects, 200, 200, [scale], training, np.random.default_rng(0))
        assert (windows[:, 2:] - windows[:, :2] == 50).all() and (windows >= 0).all() and (windows <= 200).all()
        assert held(objects.boxes, windows).any(axis=0).all() and len(windows) == max(1, len(objects.labels))
