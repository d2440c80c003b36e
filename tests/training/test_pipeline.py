"""Training chips: boxes lie on the object's pixels, and what a batch holds depends on its number alone."""

import contextlib
import dataclasses
import itertools
import math

import numpy as np
import pytest

from autofocus_jax.structures import (
    BACKGROUND,
    FOCUS,
    IGNORE,
    AutoFocusError,
    ChipRule,
    FocusRange,
    ImageError,
    Scale,
    ValidRange,
)
from autofocus_jax.training.pipeline import PATIENCE, Batches, Position, chip_list, load_chip
from autofocus_jax.training.sampling import TrainChip, count

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]
BOXES = [[10, 20, 40, 50], [70, 15, 130, 75], [100, 80, 120, 95], [50, 60, 66, 76]]
HEIGHT, WIDTH = 100, 140


@pytest.fixture
def config(tiny_config):
    scales = (
        Scale(50, 80, ValidRange(0, 9), ChipRule(0.5, 1, 16)),
        Scale(200, 280, ValidRange(0, 9), None),
    )
    training = dataclasses.replace(
        tiny_config.training, chip=96, ranges=(ValidRange(25, math.inf), ValidRange(0, 40)), max_boxes=4, batch=3
    )
    return dataclasses.replace(tiny_config, scales=scales, training=training, focus_range=FocusRange(5, 20, 40))


@pytest.fixture
def dataset(memory_dataset, truth):
    """One picture of plain rectangles, each of the colour of its label."""
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for (x1, y1, x2, y2), colour in zip(BOXES, COLOURS):
        image[y1:y2, x1:x2] = colour
    return memory_dataset([image], [truth(BOXES, range(4))], categories="abcd")


class Coin:
    """A generator whose coin falls as it is told; load_chip draws nothing else."""

    def __init__(self, flipped):
        self.flipped = flipped

    def random(self):
        return 0.25 if self.flipped else 0.75


def window(x1, y1, x2, y2):
    return np.array([x1, y1, x2, y2], np.int32)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    ("scale", "shown"),
    [
        (1, (0, 0, WIDTH, HEIGHT)),
        (1, (7, 3, 99, 70)),
        (2, (5, 10, 53, 58)),
        (2, (92, 52, 140, 100)),
        (2, (60, 40, 108, 88)),
    ],
)
def test_boxes_lie_on_their_pixels(dataset, config, flipped, scale, shown):
    row = load_chip(dataset, TrainChip(0, scale, window(*shown)), config, Coin(flipped))
    height, width = row.chips.size
    factor = {1: 0.5, 2: 2.0}[scale]
    assert (height, width) == (round((shown[3] - shown[1]) * factor), round((shown[2] - shown[0]) * factor))
    assert (row.chips.pixels[height:] == 0).all() and (row.chips.pixels[:, width:] == 0).all()
    seen = set()
    for box, label, present in zip(row.boxes, row.labels, row.present):
        if not present:
            assert (box == 0).all()
            continue
        seen.add(int(label))
        x1, y1, x2, y2 = box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        # Two pixels of the border may be mixed by resizing; the others are the object's own, and only those.
        rows, columns = np.mgrid[:height, :width] + 0.5
        inside = (rows > y1 + 2) & (rows < y2 - 2) & (columns > x1 + 2) & (columns < x2 - 2)
        outside = (rows < y1 - 2) | (rows > y2 + 2) | (columns < x1 - 2) | (columns > x2 + 2)
        own = np.abs(row.chips.pixels[:height, :width].astype(int) - COLOURS[label]).max(axis=2) < 40
        assert own[inside].all() and not own[outside].any()
    expected = {k for k, (x1, y1, x2, y2) in enumerate(BOXES)
                if min(x2, shown[2]) > max(x1, shown[0]) and min(y2, shown[3]) > max(y1, shown[1])}  # fmt: skip
    assert seen == expected


def test_flipping_mirrors_everything(dataset, config):
    chip = TrainChip(0, 2, window(60, 40, 108, 88))
    plain, mirrored = (load_chip(dataset, chip, config, Coin(flipped)) for flipped in (False, True))
    height, width = plain.chips.size
    np.testing.assert_array_equal(plain.chips.pixels[:, :width], mirrored.chips.pixels[:, :width][:, ::-1])
    for one, other in zip(plain.boxes[plain.present], mirrored.boxes[mirrored.present]):
        np.testing.assert_allclose(other, [width - one[2], one[1], width - one[0], one[3]], atol=1e-4)
    assert (width % 16, height % 16) == (0, 0)  # so that cells mirror too
    np.testing.assert_array_equal(plain.focus, mirrored.focus[:, ::-1])


def test_cut_boxes(dataset, config):
    """Half of the first box is seen (trains), a third of it (present, ignored), nothing (gone)."""
    for right, expected in ((25, (True, True)), (20, (True, False)), (10, (False, False))):
        row = load_chip(dataset, TrainChip(0, 2, window(0, 10, right, 58)), config, Coin(False))
        assert (bool(row.present[0]), bool(row.trainable[0])) == expected
        if expected[0]:
            np.testing.assert_allclose(row.boxes[0], [20, 20, 2 * right, 80], atol=1e-4)


def test_training_range(dataset, config):
    """In image px, of the whole box: 30, 60, 17 and 16 px."""
    row = load_chip(dataset, TrainChip(0, 1, window(0, 0, WIDTH, HEIGHT)), config, Coin(False))
    trains = dict(zip(row.labels.tolist(), row.trainable.tolist()))
    assert row.present.all() and trains == {0: True, 1: True, 2: False, 3: False}


def test_focus_labels_go_by_the_whole_box(dataset, config):
    """At scale 2 a corner of the second box (120 px there) is seen: 12 px would be FOCUS, 120 px are BACKGROUND."""
    row = load_chip(dataset, TrainChip(0, 2, window(124, 69, 140, 85)), config, Coin(False))
    assert row.present.tolist() == [True, False, False, False] and not row.trainable.any()
    assert (row.focus[:2, :2] == BACKGROUND).all()
    assert (row.focus[2:] == IGNORE).all() and (row.focus[:, 2:] == IGNORE).all()  # outside the chip
    row = load_chip(dataset, TrainChip(0, 1, window(0, 0, WIDTH, HEIGHT)), config, Coin(False))
    assert row.focus[1, 0] == FOCUS and row.focus[1, 3] == IGNORE and row.focus[0, 0] == FOCUS  # 15, 30 and 15 px


def test_ignore_regions(dataset, config, truth):
    dataset.truths[0] = truth(BOXES, range(4), [True, False, False, False])
    row = load_chip(dataset, TrainChip(0, 1, window(0, 0, WIDTH, HEIGHT)), config, Coin(False))
    region = row.labels == -1
    assert region.sum() == 1 and row.present[region].all() and not row.trainable[region].any()
    np.testing.assert_allclose(row.boxes[region][0], np.array(BOXES[0]) / 2, atol=1e-4)
    assert row.focus[0, 0] == IGNORE


def test_capacity_keeps_what_trains(dataset, config):
    small = dataclasses.replace(config, training=dataclasses.replace(config.training, max_boxes=2))
    row = load_chip(dataset, TrainChip(0, 1, window(0, 0, WIDTH, HEIGHT)), small, Coin(False))
    assert row.labels.tolist() == [0, 1] and row.trainable.all() and row.boxes.shape == (2, 4)
    small = dataclasses.replace(
        small, training=dataclasses.replace(small.training, ranges=(ValidRange(0, 18), ValidRange(0, 40)))
    )
    row = load_chip(dataset, TrainChip(0, 1, window(0, 0, WIDTH, HEIGHT)), small, Coin(False))
    assert row.labels.tolist() == [2, 3] and row.trainable.all()


def test_no_boxes(memory_dataset, truth, config):
    data = memory_dataset([np.full((HEIGHT, WIDTH, 3), 7, np.uint8)], [truth()])
    row = load_chip(data, TrainChip(0, 1, window(0, 0, WIDTH, HEIGHT)), config, Coin(True))
    assert not row.present.any() and not row.trainable.any() and (row.boxes == 0).all()
    assert (row.focus[:4, :5] == BACKGROUND).all() and bool(row.chips.valid)


@pytest.fixture
def many(memory_dataset, truth):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(5)]
    return memory_dataset(images, [truth(BOXES[: 1 + n % 4], range(1 + n % 4)) for n in range(5)])


def take(dataset, config, number, position=Position(), **given):
    """The first `number` batches from a position on."""
    with contextlib.closing(Batches(dataset, config, position, **given)) as batches:
        return list(itertools.islice(batches, number))


def arrays(batch):
    return [*batch.chips, *batch[1:]]


def same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


def per_epoch(many, config, epochs):
    return [count(chip_list(many, config, epoch)) // config.training.batch for epoch in range(epochs)]


def test_batches_depend_on_their_position_alone(many, config):
    """Whatever position a run goes on from, also in a later epoch."""
    total = sum(per_epoch(many, config, 3))
    everything, positions = [], []
    with contextlib.closing(Batches(many, config)) as batches:
        for _ in range(total):
            positions.append(batches.position)
            everything.append(next(batches))
        assert batches.position == (3, 0)
    lengths = per_epoch(many, config, 3)
    assert positions == [(epoch, n) for epoch in range(3) for n in range(lengths[epoch])]
    for number in (1, lengths[0] - 1, lengths[0], total - 1):
        for one, other in zip(everything[number:], take(many, config, total - number, positions[number]), strict=True):
            same(one, other)


def test_epochs_differ_and_each_shows_every_image(many, config):
    lists = [chip_list(many, config, epoch) for epoch in range(3)]
    assert all(set(chips.image) == set(range(5)) for chips in lists)
    assert len({chips.image.tobytes() for chips in lists}) == 3
    again = chip_list(many, config, 1)
    for one, other in zip(lists[1], again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_other_batches(many, config):
    (one,), (other,) = (take(many, dataclasses.replace(config, seed=seed), 1) for seed in (0, 1))
    assert not np.array_equal(one.chips.pixels, other.chips.pixels)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_the_rows_of_a_batch(many, config, processes):
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch=4))
    number = sum(per_epoch(many, config, 2))
    parts = [take(many, config, number, share=(process, processes)) for process in range(processes)]
    for whole, *shares in zip(take(many, config, number), *parts, strict=True):
        for values, pieces in zip(arrays(whole), zip(*map(arrays, shares), strict=True), strict=True):
            assert all(len(piece) == 4 // processes for piece in pieces)
            np.testing.assert_array_equal(values, np.concatenate(pieces))


def test_fewer_chips_than_a_batch(many, config):
    """Then an epoch is as many passes as a batch takes."""
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch=100))
    (batch,) = take(many, config, 1)
    assert batch.chips.valid.sum() == 100 and per_epoch(many, config, 2) == [1, 1]


def test_a_position_that_other_settings_had(many, config):
    """An epoch of larger batches has fewer of them than the position says; the run goes on with the next epoch."""
    for one, other in zip(take(many, config, 2, Position(0, 1000)), take(many, config, 2, Position(1, 0)), strict=True):
        same(one, other)


def test_batch_types_and_order(many, config):
    chips = chip_list(many, config, 0)
    for number, batch in enumerate(take(many, config, per_epoch(many, config, 1)[0])):
        assert batch.chips.pixels.shape == (3, 96, 96, 3) and batch.chips.pixels.dtype == np.uint8
        assert batch.chips.size.dtype == np.int32 and batch.chips.valid.all()
        assert batch.boxes.shape == (3, 4, 4) and batch.boxes.dtype == np.float32
        assert batch.labels.dtype == np.int32 and batch.present.dtype == batch.trainable.dtype == bool
        assert batch.focus.shape == (3, 6, 6) and batch.focus.dtype == np.int8
        for row in range(3):
            chip = chips.row(3 * number + row)
            plain = [load_chip(many, chip, config, Coin(flipped)).chips.pixels for flipped in (False, True)]
            assert any((batch.chips.pixels[row] == pixels).all() for pixels in plain)


def test_half_of_the_chips_are_flipped(many, config):
    flipped = total = 0
    chips = chip_list(many, config, 0)
    with contextlib.closing(Batches(many, config)) as batches:
        for epoch in range(8):
            chips = chip_list(many, config, epoch)
            for row in range(count(chips) // 3 * 3):
                if row % 3 == 0:
                    batch = next(batches)
                plain = load_chip(many, chips.row(row), config, Coin(False)).chips.pixels
                flipped, total = flipped + (batch.chips.pixels[row % 3] != plain).any(), total + 1
    assert total > 80 and 0.35 < flipped / total < 0.65


def test_no_image_at_all(memory_dataset, config):
    with pytest.raises(AutoFocusError, match="no image to train on"):
        take(memory_dataset([], []), config, 1)


def test_an_image_that_cannot_be_read(many, config):
    """Its rows are not valid and hold nothing; all others are what they would have been."""
    number = sum(per_epoch(many, config, 2))
    whole, told = take(many, config, number), []
    chips = [chip_list(many, config, epoch) for epoch in range(2)]
    image = np.concatenate([c.image[: count(c) // 3 * 3] for c in chips])
    many.info = [many.info(index) for index in range(5)].__getitem__  # its size stays known
    many.images[3] = None
    broken = take(many, config, number, on_unreadable=told.append)
    lost = np.concatenate([~batch.chips.valid for batch in broken])
    np.testing.assert_array_equal(lost, image == 3)
    assert lost.any() and all("3.png" in reason for reason in told)
    for one, other in zip(whole, broken):
        for a, b in zip(arrays(one), arrays(other), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a[other.chips.valid], b[other.chips.valid])
        gone = ~other.chips.valid
        assert not other.present[gone].any() and not other.trainable[gone].any()
        assert (other.focus[gone] == IGNORE).all() and (other.chips.pixels[gone] == 0).all()


def test_no_image_can_be_read(many, config):
    many.images[:] = [None] * 5
    with pytest.raises(ImageError, match=r"could not be read, image \d\.png cannot be decoded; check the data"):
        take(many, config, PATIENCE)
