import dataclasses
import threading
import weakref
from functools import partial

import cv2
import numpy as np
import pytest

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus import pyramid
from autofocus_jax.focus.buckets import BucketError, Multiple
from autofocus_jax.focus.cascade import cascade, stream
from autofocus_jax.focus.chips import focus_chips, whole_level
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import (
    STAGES,
    AutoFocusError,
    Bucket,
    ChipRule,
    Cost,
    DetectorError,
    DetectorOutput,
    ImageError,
    RuleError,
    Scale,
    ValidRange,
)

SCALES = (
    Scale(48, 64, ValidRange(20, np.inf), ChipRule(0.6, 1, 16)),
    Scale(96, 128, ValidRange(10, 30), ChipRule(0.6, 1, 24)),
    Scale(192, 256, ValidRange(0, 15), None),
)
BUCKETS = (Bucket(64, 64, 3), Bucket(128, 128, 2), Bucket(256, 256, 2), Bucket(32, 256, 4), Bucket(256, 32, 4))
STACKING = StackingConfig(border_tolerance=2.0)


def plan(scales=SCALES, *, rules=None, buckets=BUCKETS, stacking=STACKING, **options):
    return Plan(scales, buckets, stacking, rules, **options)


def keyed(images):
    """Readers of images, or of errors, with their positions as keys."""

    def read(image):
        if isinstance(image, ImageError):
            raise image
        return image

    return ((number, partial(read, image)) for number, image in enumerate(images))


def window(count=5, seed=0):
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        height, width = generator.integers(50, 160, 2)
        coarse = generator.integers(0, 256, (6, 6, 3), np.uint8)
        images.append(cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_LINEAR))
    return images


def fake_detect(chips, placements):
    """A function of the pixels alone: a box, three scores and a focus probability from every 8x8 or 16x16 block."""
    batch, height, width = chips.pixels.shape[:3]
    blocks = chips.pixels.reshape(batch, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4)) / 255
    rows, columns = np.mgrid[: height // 8, : width // 8]
    centre = np.stack([columns, rows, columns, rows], axis=-1) * 8 + 4
    side = 4 + 60 * blocks[..., :2]
    boxes = centre + np.concatenate([-side, side], axis=-1) / 2
    size = chips.size[:, None, None, :]
    inside = (rows * 8 < size[..., 0]) & (columns * 8 < size[..., 1]) & chips.valid[:, None, None]
    boxes = np.clip(boxes, 0, np.concatenate([size[..., ::-1]] * 2, axis=-1))
    count = height // 8 * (width // 8)
    focus = blocks[..., 0].reshape(batch, height // 16, 2, width // 16, 2).mean(axis=(2, 4))
    return DetectorOutput(
        boxes.reshape(batch, count, 4).astype(np.float32),
        (blocks**3).reshape(batch, count, 3).astype(np.float32),
        inside.reshape(batch, count),
        focus.astype(np.float32),
    )


def recording(detect, calls):
    def wrapped(chips, placements):
        calls.append((chips, list(placements)))
        return detect(chips, placements)

    return wrapped


def constant_focus(value):
    def detect(chips, placements):
        output = fake_detect(chips, placements)
        return output._replace(focus=np.full_like(output.focus, value))

    return detect


def with_rules(threshold, least=40):
    return tuple(dataclasses.replace(scale, chips=scale.chips and ChipRule(threshold, 3, least)) for scale in SCALES)


def assert_same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b):
        for x, y in zip(one, other):
            np.testing.assert_array_equal(x, y)


PYRAMID = (whole_level, whole_level)
COUNTS = ("images", "pixels", "full_pixels", "chips", "padded_pixels")


@pytest.mark.parametrize("least", [1, 40, 10_000])
def test_threshold_zero_is_exactly_the_pyramid(least):
    images = window(8)
    expected, full, _ = cascade(images, fake_detect, plan(rules=PYRAMID))
    ours, info, _ = cascade(images, fake_detect, plan(with_rules(0, least)))
    assert sum(len(one.scores) for one in ours) > 100
    assert_same(ours, expected)
    for name in COUNTS:
        np.testing.assert_array_equal(getattr(info, name), getattr(full, name))
    np.testing.assert_array_equal(full.pixels, full.full_pixels)
    np.testing.assert_array_equal(full.chips, [8, 8, 8])


def test_threshold_above_one_is_exactly_the_share_of_scale_one():
    images = window(8)
    alone, cost, _ = cascade(images, fake_detect, plan(SCALES[:1]))
    ours, info, stages = cascade(images, fake_detect, plan(with_rules(1.01)))
    assert sum(len(one.scores) for one in ours) > 20
    assert_same(ours, alone)
    np.testing.assert_array_equal(info.pixels, [cost.pixels[0], 0, 0])
    np.testing.assert_array_equal(info.chips, [8, 0, 0])
    assert all(stage[1].chips.shape == (0, 4) and stage[2].kept.boxes.shape == (0, 4) for stage in stages)


def test_a_window_gives_what_its_images_give_alone():
    images = window(6)
    together, info, _ = cascade(images, fake_detect, plan())
    parts = [cascade([image], fake_detect, plan()) for image in images]
    assert_same(together, [part[0][0] for part in parts])
    total = sum((cost for _, cost, _ in parts), Cost.none(3))
    assert total.images == 6
    for name in ("pixels", "full_pixels", "chips"):
        np.testing.assert_array_equal(getattr(total, name), getattr(info, name))
    assert (info.padded_pixels <= total.padded_pixels).all()  # pooling fills batches
    assert (info.chips[1:] > 0).all() and (info.pixels[1:] < info.full_pixels[1:]).all()


def test_information_counts_what_the_detector_was_given():
    calls, images = [], window(7)
    _, info, stages = cascade(images, recording(fake_detect, calls), plan())
    pixels, padded, chips = np.zeros((3, 3), np.int64)
    for batch, placements in calls:
        assert placements and batch.valid.sum() == len(placements) and batch.valid[: len(placements)].all()
        scale = np.array([place.scale - 1 for place in placements])
        np.add.at(pixels, scale, batch.size[: len(placements)].prod(axis=1))
        np.add.at(padded, scale, batch.pixels[0, ..., 0].size)
        padded[scale[-1]] += (len(batch.valid) - len(placements)) * batch.pixels[0, ..., 0].size
        np.add.at(chips, scale, 1)
        assert any(batch.pixels.shape[:3] == (b.batch, b.height, b.width) for b in BUCKETS)
        assert not batch.pixels[len(placements) :].any()  # empty rows are empty, no chip is repeated
        origins = {(place.key, *place.box) for place in placements}
        assert len(origins) == len(placements)
    np.testing.assert_array_equal(info.pixels, pixels)
    np.testing.assert_array_equal(info.padded_pixels, padded)
    np.testing.assert_array_equal(info.chips, chips)
    np.testing.assert_array_equal(chips, [sum(len(stage[s].chips) for stage in stages) for s in range(3)])
    levels = [[np.prod(pyramid.level_size(*image.shape[:2], scale)) for image in images] for scale in SCALES]
    np.testing.assert_array_equal(info.full_pixels, np.sum(levels, axis=1))


def test_chips_of_an_image_are_disjoint_inside_and_nested():
    for seed in range(5):
        images = window(6, seed)
        _, _, stages = cascade(images, fake_detect, plan(with_rules(0.5, 20)))
        for image, image_stages in zip(images, stages):
            before = np.ones(image.shape[:2], int)
            for stage in image_stages:
                canvas = np.zeros(image.shape[:2], int)
                for x1, y1, x2, y2 in stage.chips.astype(int):
                    assert 0 <= x1 < x2 <= image.shape[1] and 0 <= y1 < y2 <= image.shape[0]
                    canvas[y1:y2, x1:x2] += 1
                assert canvas.max(initial=0) <= 1 and (canvas <= before).all()
                before = canvas


def test_stages_hold_focus_maps_of_the_true_size():
    images = window(4)
    _, _, stages = cascade(images, fake_detect, plan())
    for image, image_stages in zip(images, stages):
        for scale, stage in zip(SCALES[:-1], image_stages):
            factor = pyramid.factor(*image.shape[:2], scale)
            assert len(stage.focus) == len(stage.chips)
            for box, focus in zip(stage.chips, stage.focus):
                height, width = pyramid.chip_size(box, factor)
                assert focus.shape == (-(-height // 16), -(-width // 16))
        assert image_stages[-1].focus == ()


def test_low_scores_invalid_proposals_and_empty_rows_are_dropped():
    def detect(chips, placements):
        boxes = np.broadcast_to(np.array([10, 10, 40, 40], np.float32), (len(chips.valid), 3, 4))
        scores = np.broadcast_to(np.array([[0.9], [1e-4], [0.8]], np.float32), (len(chips.valid), 3, 1))
        valid = np.broadcast_to([True, True, False], (len(chips.valid), 3))
        return DetectorOutput(boxes, scores, valid, np.zeros((len(chips.valid), 4, 4), np.float32))

    (found,), _, _ = cascade([np.zeros((48, 48, 3), np.uint8)], detect, plan(SCALES[:1]))
    np.testing.assert_allclose(found.scores, [0.9])
    np.testing.assert_allclose(found.boxes, [[10, 10, 40, 40]])


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)])
def test_a_mark_is_found_where_it_is_through_chips_at_every_border(corner):
    image = np.zeros((96, 128, 3), np.uint8)
    y, x = int(corner[0] * (96 - 8)), int(corner[1] * (128 - 12))
    image[y : y + 8, x : x + 12] = 255
    calls = []

    def detect(chips, placements):
        boxes = np.zeros((len(chips.valid), 1, 4), np.float32)
        for row in range(len(placements)):
            rows, columns = np.nonzero(chips.pixels[row, ..., 0] > 127)
            boxes[row, 0] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        grey = chips.pixels[..., 0].astype(np.float32) / 255
        shape = (len(grey), grey.shape[1] // 16, 16, grey.shape[2] // 16, 16)
        ones = np.ones((len(grey), 1), np.float32)
        return DetectorOutput(boxes, ones[..., None], ones > 0, grey.reshape(shape).max(axis=(2, 4)))

    scales = with_rules(0.5, 16)
    (found,), info, (stages,) = cascade([image], recording(detect, calls), plan(scales))
    np.testing.assert_array_equal(info.chips, [1, 1, 1])
    assert info.pixels[2] < info.full_pixels[2] / 2
    np.testing.assert_allclose(found.boxes, np.tile([x, y, x + 12, y + 8], (len(found.boxes), 1)), atol=1)
    assert len(stages[2].kept.scores) == 1  # 9.8 px: the finest scale's
    for batch, (place, *_) in calls:  # and the pixels are those of the box, resized alone
        x1, y1, x2, y2 = place.box.astype(int)
        height, width = batch.size[0]
        how = cv2.INTER_AREA if place.factor[0] < 1 else cv2.INTER_LINEAR
        expected = cv2.resize(image[y1:y2, x1:x2], (width, height), interpolation=how)
        np.testing.assert_array_equal(batch.pixels[0, :height, :width], expected)
        np.testing.assert_allclose(place.factor, [width / (x2 - x1), height / (y2 - y1)], rtol=1e-6)


def test_empty_window():
    calls = []
    results, info, stages = cascade([], recording(fake_detect, calls), plan())
    assert results == [] and stages == [] and calls == [] and info.images == 0
    assert all(np.all(np.asarray(field) == 0) for field in info)


def test_no_focus_pixels_never_calls_with_an_empty_batch():
    calls = []
    results, info, _ = cascade(window(3), recording(constant_focus(0.0), calls), plan())
    assert len(results) == 3 and len(calls) == 1
    np.testing.assert_array_equal(info.chips, [3, 0, 0])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (1, 400), (400, 1), (9, 300), (300, 9), (20, 20)])
def test_tiny_and_very_long_images(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    for detect in (fake_detect, constant_focus(1.0)):
        (found,), info, (stages,) = cascade([image], detect, plan(with_rules(0.5, 16)))
        assert (found.boxes[:, :2] >= 0).all() and (found.boxes[:, 2:] <= [size[1], size[0]]).all()
        assert (info.pixels <= info.full_pixels).all()
    for stage in stages:  # everything is in focus
        np.testing.assert_array_equal(stage.chips, [[0, 0, size[1], size[0]]])


def test_images_smaller_than_the_least_chip():
    _, info, (stages,) = cascade([np.full((30, 20, 3), 250, np.uint8)], fake_detect, plan(with_rules(0.5, 500)))
    np.testing.assert_array_equal(stages[2].chips, [[0, 0, 20, 30]])
    np.testing.assert_array_equal(info.pixels, info.full_pixels)


def test_chip_functions_are_arguments():
    corner = lambda focus, size: np.array([[0, 0, 16, 16]], np.int32)  # noqa: E731
    _, info, (stages,) = cascade([np.zeros((96, 128, 3), np.uint8)], fake_detect, plan(rules=[corner, corner]))
    np.testing.assert_array_equal(stages[1].chips, [[0, 0, 32, 32]])
    np.testing.assert_array_equal(stages[2].chips, [[0, 0, 16, 16]])
    np.testing.assert_array_equal(info.pixels, [48 * 64, 32 * 32, 32 * 32])


def test_default_rules_are_those_of_the_scales():
    images = window(4)
    functions = [partial(focus_chips, rule=scale.chips) for scale in SCALES[:-1]]
    ours, _, _ = cascade(images, fake_detect, plan())
    same, _, _ = cascade(images, fake_detect, plan(rules=functions))
    assert_same(ours, same)


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_calls_of_the_detector_are_as_many_as_it_bears(concurrency):
    waiting, most, enough = set(), [], threading.Event()

    class Pending:
        """An array that is 'computed' when it is asked for."""

        def __init__(self, token, value):
            self.token, self.value = token, value

        def __array__(self, dtype=None, copy=None):
            assert enough.wait(60), "the host waited for the device although it could have sent more"
            waiting.discard(self.token)
            return self.value

    def detect(chips, placements):
        token = object()
        waiting.add(token)
        most.append(len(waiting))
        if len(waiting) == concurrency:
            enough.set()
        return DetectorOutput(*(Pending(token, field) for field in fake_detect(chips, placements)))

    if concurrency > 1:
        detect.concurrency = concurrency  # 1 is the default
    images = window(20)
    ours, _, _ = cascade(images, detect, plan(rules=PYRAMID))
    expected, _, _ = cascade(images, fake_detect, plan(rules=PYRAMID))
    assert_same(ours, expected)
    assert max(most) == concurrency and not waiting


def test_a_chip_that_no_bucket_holds():
    with pytest.raises(BucketError, match=r"^chip 48x64 px fits no bucket; the largest is 32x32"):
        cascade([np.zeros((48, 64, 3), np.uint8)], fake_detect, plan(buckets=(Bucket(32, 32, 1),)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        None,
    ],
)
def test_what_is_no_image(image):
    with pytest.raises(ImageError, match=r"image 1 is .*; give a NumPy array of uint8 RGB"):
        cascade([np.zeros((9, 9, 3), np.uint8), image], fake_detect, plan())


def test_settings_that_do_not_fit():
    with pytest.raises(AutoFocusError, match="1 rules for 3 scales"):
        cascade([], fake_detect, plan(rules=[whole_level]))
    with pytest.raises(AutoFocusError, match="scale 2 has no chip rule"):
        cascade([], fake_detect, plan((SCALES[0], dataclasses.replace(SCALES[1], chips=None), SCALES[2])))
    with pytest.raises(AutoFocusError, match="no scales"):
        cascade([], fake_detect, plan(()))


def run_stream(images, window=32, **options):
    return list(stream(keyed(images), fake_detect, plan(window=window), **options))


@pytest.mark.parametrize(("size", "threads"), [(1, 1), (2, 3), (7, 2), (40, 1)])
def test_a_stream_gives_what_the_images_give_alone_in_their_order(size, threads):
    images = window(12)
    alone = [cascade([image], fake_detect, plan()) for image in images]
    outcomes = run_stream(iter(images), window=size, threads=threads)
    assert [outcome.key for outcome in outcomes] == list(range(12))
    assert_same([outcome.detections for outcome in outcomes], [found for (found,), _, _ in alone])
    for outcome, image, (_, info, _) in zip(outcomes, images, alone):
        assert outcome.size == image.shape[:2] and outcome.error is None and outcome.stages is None
        for name in ("images", "pixels", "full_pixels", "chips"):
            np.testing.assert_array_equal(getattr(outcome.cost, name), getattr(info, name))


def test_a_stream_pools_chips_of_all_scales_and_images():
    """With every level a chip of the same bucket, batches hold several scales and only the last may be partly empty."""
    calls, bucket = [], (Bucket(256, 256, 4),)
    list(stream(keyed(window(10)), recording(fake_detect, calls), plan(buckets=bucket, rules=PYRAMID, window=10)))
    filled = [len(placements) for _, placements in calls]
    assert sum(filled) == 30 and filled.count(4) >= 6
    assert any(len({place.scale for place in placements}) > 1 for _, placements in calls)


def test_a_stream_holds_no_more_than_its_window():
    """In the window, read ahead, finished and not yet asked for, and the one that was yielded last."""
    taken, most = [], []

    def source():
        for number, image in enumerate(window(30)):
            taken.append(number)
            yield image

    for outcome in stream(keyed(source()), fake_detect, plan(window=4)):
        most.append(len(taken) - outcome.key)
    assert max(most) <= 4 + 4 + 4 + 1


def test_images_that_cannot_be_read_keep_their_place():
    images = window(5)
    outcomes = run_stream(
        [ImageError("first"), images[0], ImageError("third"), images[1], ImageError("last")], window=2
    )
    assert [outcome.error for outcome in outcomes] == ["first", None, "third", None, "last"]
    assert_same([outcomes[1].detections, outcomes[3].detections], cascade(images[:2], fake_detect, plan())[0])
    assert outcomes[0].detections is None and outcomes[0].cost is None and outcomes[0].size is None
    assert run_stream([], window=3) == [] and run_stream([ImageError("only")])[0].error == "only"


class Torn:
    """Regions of an image, of which the lower half cannot be read but in a coarse level."""

    def __init__(self, image):
        self.image, self.shape = image, image.shape

    def read(self, box, size):
        x1, y1, x2, y2 = map(int, box)
        if y2 - y1 < self.shape[0] and y2 > self.shape[0] // 2:
            raise ImageError("torn")
        return self.image[y1:y2, x1:x2]


def test_a_part_that_cannot_be_read_fails_its_image_alone():
    images, everywhere = window(4), constant_focus(1.0)
    quarters = (lambda focus, size: np.array([[0, 0, size[1], size[0] // 2], [0, size[0] // 2, size[1], size[0]]]),) * 2
    split = plan(rules=quarters)
    keys = keyed([images[0], Torn(images[1]), images[2], Torn(images[3])])
    outcomes = list(stream(keys, everywhere, dataclasses.replace(split, window=2), threads=2))
    assert [outcome.error for outcome in outcomes] == [None, "torn", None, "torn"]
    alone = cascade([images[0], images[2]], everywhere, split)[0]
    assert_same([outcomes[0].detections, outcomes[2].detections], alone)


def test_errors_end_a_stream_and_its_threads():
    before = threading.active_count()

    def broken(chips, placements):
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        list(stream(keyed(window(5)), broken, plan()))
    left = stream(keyed(window(5)), fake_detect, plan(window=2))
    next(left)
    left.close()
    with pytest.raises(AutoFocusError, match="at least 1 thread"):
        list(stream([], fake_detect, plan(), threads=0))
    assert threading.active_count() == before


def test_seconds_are_counted_by_stage():
    (outcome,) = run_stream(window(1))
    seconds = dict(zip(STAGES, outcome.cost.seconds))
    assert all(seconds[stage] > 0 for stage in ("read", "resize", "device", "chips", "stacking"))


def test_chips_that_shrink_are_mapped_back_exactly():
    """A level of 48x64 px in a bucket of 48x48: boxes come back where the mark is, and the pyramid is still whole."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[40:60, 30:70] = 255
    scales, shapes = (dataclasses.replace(SCALES[0], chips=None),), (Bucket(48, 64, 1), Bucket(48, 48, 1))
    calls = []

    def detect(chips, placements):
        rows, columns = np.nonzero(chips.pixels[0, ..., 0] > 127)
        box = np.array([[[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]], np.float32)
        calls.append((chips.size[0].tolist(), placements[0].factor))
        return DetectorOutput(box, np.ones((1, 1, 1)), np.ones((1, 1), bool), np.zeros((1, 3, 4)))

    for shrink, size in ((0.0, [48, 64]), (0.25, [48, 48])):
        (found,), info, _ = cascade([image], detect, plan(scales, buckets=shapes, shrink=shrink))
        np.testing.assert_allclose(found.boxes, [[30, 40, 70, 60]], atol=2.7)
        assert calls[-1][0] == size and info.pixels[0] == size[0] * size[1] and info.full_pixels[0] == 48 * 64
        np.testing.assert_allclose(calls[-1][1], [size[1] / 128, size[0] / 96])


def test_keys_are_the_callers_own_and_come_back():
    """In outcomes and placements, whatever they are; a window of two images also shows that none is mixed up."""
    images, calls = window(6), []
    names = [("a", 1), "b", None, 7, -1, frozenset({2})]
    readers = ((name, lambda image=image: image) for name, image in zip(names, images))
    outcomes = list(stream(readers, recording(fake_detect, calls), plan(window=2)))
    assert [outcome.key for outcome in outcomes] == names
    assert_same([outcome.detections for outcome in outcomes], cascade(images, fake_detect, plan())[0])
    for batch, placements in calls:
        for row, place in enumerate(placements):
            height, width = images[names.index(place.key)].shape[:2]
            if place.scale == 1:
                np.testing.assert_array_equal(place.box, [0, 0, width, height])
                np.testing.assert_allclose(batch.size[row], np.array([height, width]) * place.factor[::-1], rtol=1e-6)
    assert cascade(images[:1], fake_detect, plan(), keys=["x"])[1].images == 1


@pytest.mark.parametrize(("size", "threads"), [(1, 16), (1, 1), (3, 16), (40, 4)])
@pytest.mark.parametrize("keep_images", [False, True])
def test_images_held_are_bounded_whatever_the_threads(size, threads, keep_images):
    """Counted by weak references, with the caller's own."""
    images = window(30)
    alive, most = set(), []

    class Held(np.ndarray):
        pass

    def read(number):
        held = images[number].copy().view(Held)
        alive.add(number)
        weakref.finalize(held, alive.discard, number)
        most.append(len(alive))
        return held

    readers = ((number, partial(read, number)) for number in range(30))
    options = {"threads": threads, "keep_images": keep_images}
    for outcome in stream(readers, fake_detect, plan(window=size), **options):
        assert (outcome.image is not None) == keep_images
        if keep_images:
            np.testing.assert_array_equal(outcome.image, images[outcome.key])
    assert max(most) <= 2 * size + 4


def test_few_images_are_read_before_the_first_answer():
    read = []
    readers = ((number, lambda number=number: read.append(number) or window(1)[0]) for number in range(60))
    outcomes = stream(readers, fake_detect, plan(window=1), threads=16)
    next(outcomes)
    assert len(read) <= 4
    outcomes.close()


def test_a_detector_of_any_size_needs_no_buckets():
    """Padded to multiples, chips are found as in buckets that hold them; an empty row is only there with a batch."""
    images = window(5)
    expected, info, _ = cascade(images, fake_detect, plan())
    for batch in (1, 3):
        calls = []
        ours, cost, _ = cascade(images, recording(fake_detect, calls), plan(buckets=Multiple(32, batch)))
        assert_same(ours, expected)
        np.testing.assert_array_equal(cost.pixels, info.pixels)
        assert all(side % 32 == 0 for chips, _ in calls for side in chips.pixels.shape[1:3])
        assert {chips.pixels.shape[0] for chips, _ in calls} == {batch}


def test_no_focus_map_is_needed_for_the_pyramid():
    def blind(chips, placements):
        return fake_detect(chips, placements)._replace(focus=None)

    images = window(3)
    ours, info, stages = cascade(images, blind, plan().pyramid())
    assert_same(ours, cascade(images, fake_detect, plan().pyramid())[0])
    np.testing.assert_array_equal(info.pixels, info.full_pixels)
    assert all(stage.focus == () for row in stages for stage in row)
    with pytest.raises(DetectorError, match=r"no focus map, which the rule of scale 1 needs"):
        cascade(images, blind, plan())


def answering(**fields):
    return lambda chips, placements: fake_detect(chips, placements)._replace(**fields)


def nan_boxes(chips, placements):
    output = fake_detect(chips, placements)
    return output._replace(boxes=output.boxes * np.nan)


@pytest.mark.parametrize(
    ("detect", "message"),
    [
        (answering(valid=None), "no valid"),
        (answering(boxes=None), "no boxes"),
        (answering(scores=np.ones((3, 64), np.float32)), r"scores must be \[B, N, K\].*\[3, 64\]"),
        (answering(scores=np.ones((2, 64, 3), np.float32)), r"scores must have shape \[3, 64, 3\]"),
        (answering(boxes=np.ones((3, 64, 5), np.float32)), r"boxes must have shape \[3, 64, 4\].*\[3, 64, 5\]"),
        (answering(valid=np.ones((3, 9), bool)), r"valid must have shape \[3, 64\]"),
        (answering(focus=np.ones((3, 8, 8), np.float32)), r"focus must have shape \[3, 4, 4\].*\[3, 8, 8\]"),
        (lambda chips, placements: tuple(fake_detect(chips, placements))[:3], "answered a tuple of 3"),
        (lambda chips, placements: None, "answered a NoneType"),
        (nan_boxes, r"not finite \(image 'night', scale 1\)"),
    ],
)
def test_what_is_no_answer_of_a_detector(detect, message):
    with pytest.raises(DetectorError, match=message) as error:
        cascade([np.full((60, 60, 3), 200, np.uint8)], detect, plan(), keys=["night"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("chips", "message"),
    [
        ([[0, 0, 16.5, 16]], r"whole pixels, got \[0.0, 0.0, 16.5, 16.0\]"),
        ([[0, 0, 16, 16], [8, 8, 24, 24]], r"must not overlap, got \[0, 0, 16, 16\] and \[8, 8, 24, 24\]"),
        ([[0, 0, 16, 99]], "inside the level of 48x48 px"),
        ([[8, 8, 8, 16]], "hold pixels"),
        ([0, 0, 16, 16], r"boxes \[n, 4\], got shape \[4\]"),
    ],
)
def test_what_are_no_chips_of_a_rule(chips, message):
    rule = lambda focus, size: np.array(chips)  # noqa: E731
    with pytest.raises(RuleError, match=message):
        cascade([np.zeros((60, 60, 3), np.uint8)], fake_detect, plan(rules=[rule, whole_level]))
