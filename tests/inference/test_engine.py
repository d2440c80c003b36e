"""The engine reads ahead in bounded measure, keeps the order, survives images that cannot be read, and goes on."""

import threading

import numpy as np
import pytest

from autofocus_jax.config import StackingConfig
from autofocus_jax.focus.cascade import Outcome, cascade
from autofocus_jax.focus.chips import whole_level
from autofocus_jax.focus.oracle import oracle_detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import pieces
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.inference.engine import gather, run, stream
from autofocus_jax.structures import (
    STAGES,
    AutoFocusError,
    Bucket,
    ChipRule,
    Cost,
    Detections,
    DetectorOutput,
    FocusRange,
    ImageError,
    Scale,
    ValidRange,
)

PLAN = Plan(
    (Scale(16, 32, ValidRange(0, 100), None), Scale(32, 64, ValidRange(0, 100), None)),
    (Bucket(16, 32, 3), Bucket(32, 64, 2)), StackingConfig(border_tolerance=0), (whole_level,), window=3,
)  # fmt: skip


def shade(chips, placements):
    """One detection a chip, whose score is the chip's mean brightness."""
    scores = chips.pixels.mean(axis=(1, 2, 3)).reshape(-1, 1, 1) / 255 + 0.01
    boxes = np.concatenate([chips.size * 0 + 2, chips.size[:, ::-1] - 2], axis=1)[:, None].astype(np.float32)
    focus = np.zeros((len(scores), chips.pixels.shape[1] // 16, chips.pixels.shape[2] // 16))
    return DetectorOutput(boxes, scores.astype(np.float32), chips.valid[:, None], focus)


def picture(number):
    return np.full((16, 24, 3), number, np.uint8)


def streamed(images):
    return stream(images, shade, PLAN, threads=2)


def answers(images):
    """A stream without a cascade: a detection that tells which image it is of."""
    for key, reader in images:
        try:
            score = np.array([float(reader()[0, 0, 0])], np.float32)
        except ImageError as error:
            yield Outcome(key, error=str(error))
            continue
        cost = Cost.none(2)._replace(images=1, chips=np.array([1, 10]))
        found = Detections(np.zeros((1, 4), np.float32), score, np.zeros(1, np.int32))
        yield Outcome(key, (16, 24), found, cost)


def test_a_stream_of_files_is_the_cascade_and_counts_reading(memory_dataset):
    images = [picture(number) for number in range(0, 200, 20)]
    expected, info, _ = cascade(images, shade, PLAN)
    data = memory_dataset(images, [None] * 10)
    result = run(data, range(10), streamed)
    for one, other in zip(result.detections, expected, strict=True):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(result.cost.pixels, info.pixels)
    assert result.cost.seconds[STAGES.index("read")] > 0 and result.cost.images == 10


@pytest.mark.parametrize("piece", [1, 3, 7, 50])
def test_order_and_sums(memory_dataset, piece):
    data = memory_dataset([picture(number) for number in range(9)], [None] * 9)
    indices, steps = [8, 1, 5, 0, 3, 2, 7], []
    result = run(data, indices, answers, steps.append, piece=piece)
    assert result.indices == indices and [int(found.scores[0]) for found in result.detections] == indices
    assert result.cost.images == 7 and result.cost.chips.tolist() == [7, 70] and result.seconds > 0
    assert result.skipped == [] and sum(steps) == 7


def test_corrupt_images_are_skipped_and_named(memory_dataset):
    images = [None if number in (0, 3, 4) else picture(number) for number in range(6)]
    result = run(memory_dataset(images, [None] * 6), range(6), streamed)
    assert result.indices == [1, 2, 5] and result.cost.images == 3
    assert [(item.index, item.file_name) for item in result.skipped] == [(0, "0.png"), (3, "3.png"), (4, "4.png")]
    assert "cannot be decoded" in result.skipped[0].reason


def test_no_image_can_be_read(memory_dataset):
    result = run(memory_dataset([None, None], [None] * 2), range(2), streamed)
    assert result.cost is None and result.detections == [] and len(result.skipped) == 2
    assert run(memory_dataset([], []), [], streamed).indices == []


def test_reads_ahead_but_not_far():
    read, threads = [], 2

    def reader(number):
        def get():
            read.append(number)
            return picture(number)

        return get

    for outcome in stream(((number, reader(number)) for number in range(60)), shade, PLAN, threads=threads):
        assert len(read) <= outcome.key + 1 + 3 * PLAN.window + 1
    assert sorted(read) == list(range(60))


@pytest.mark.parametrize("error", [KeyboardInterrupt, AutoFocusError])
def test_other_errors_end_the_run_and_its_threads(memory_dataset, error):
    before = threading.active_count()

    def detect(chips, placements):
        raise error("stop")

    broken = lambda images: stream(images, detect, PLAN)  # noqa: E731
    with pytest.raises(error, match="stop"):
        run(memory_dataset([picture(0)] * 30, [None] * 30), range(30), broken)
    assert threading.active_count() == before


def test_an_error_of_reading_that_is_not_the_images_is_raised(memory_dataset):
    class Broken(memory_dataset):
        def image(self, index):
            raise IndexError("a mistake in the program")

    with pytest.raises(IndexError, match="a mistake"):
        run(Broken([None], [None]), range(1), streamed)


def test_an_interrupted_run_goes_on_and_gives_the_same(memory_dataset, tmp_path):
    images = [None if number == 4 else picture(number) for number in range(11)]
    data = memory_dataset(images, [None] * 11)
    whole = run(data, range(11), streamed, piece=2)

    def interrupted(images):
        for outcome in streamed(images):
            if outcome.key == 7:
                raise KeyboardInterrupt
            yield outcome

    with pytest.raises(KeyboardInterrupt):
        run(data, range(11), interrupted, folder=tmp_path, piece=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.npz", "000001.npz", "000002.npz"]
    read, steps = [], []

    class Counting(memory_dataset):
        def image(self, index):
            read.append(index)
            return super().image(index)

    again = run(Counting(images, [None] * 11), range(11), streamed, steps.append, tmp_path, piece=2)
    assert sorted(read) == [6, 7, 8, 9, 10] and sum(steps) == 11
    assert again.indices == whole.indices and again.skipped == whole.skipped
    for one, other in zip(again.detections, whole.detections, strict=True):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    np.testing.assert_array_equal(again.cost.pixels, whole.cost.pixels)


def test_shares_of_several_processes_are_the_whole(memory_dataset, tmp_path):
    data = memory_dataset([picture(number) for number in range(11)], [None] * 11)
    parts = [run(data, range(11), answers, None, tmp_path, (k, 3), 2) for k in range(3)]
    assert [part.indices for part in parts] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10]]
    data.images[:] = [None] * 11  # nothing is read again
    together = run(data, range(11), answers, None, tmp_path, piece=2)
    assert together.indices == list(range(11)) and together.cost.images == 11


def test_a_piece_that_does_not_show_up_is_named_and_not_done_again(memory_dataset, tmp_path):
    """On a network file system a piece that another process has written may be seen later."""
    data = memory_dataset([picture(number) for number in range(11)], [None] * 11)
    run(data, range(11), answers, None, tmp_path, piece=4)
    assert gather(11, tmp_path, 0, piece=4).indices == list(range(11))
    late = (tmp_path / "000001.npz").rename(tmp_path / "late")
    with pytest.raises(pieces.PieceError, match=r"000001.npz does not show up; the processes must share one folder"):
        gather(11, tmp_path, 0.2, piece=4)
    timer = threading.Timer(0.3, late.rename, [tmp_path / "000001.npz"])
    timer.start()
    assert gather(11, tmp_path, 30, piece=4).indices == list(range(11))
    timer.join()


def test_a_damaged_piece_is_named(memory_dataset, tmp_path):
    (tmp_path / "000000.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(pieces.PieceError, match=r"000000.npz is damaged .*remove it") as error:
        run(memory_dataset([picture(0)], [None]), range(1), answers, None, tmp_path)
    assert "\n" not in str(error.value)


def test_keys_are_indices_when_a_run_goes_on_or_is_shared(memory_dataset, truth, tmp_path):
    """An oracle that looks up ground truth by key finds each image's own objects, whatever was done before."""
    truths = [truth([[2 + number, 1, 8 + number, 7]], [0]) for number in range(9)]
    data = memory_dataset([picture(number) for number in range(9)], truths)
    plan = Plan(
        (Scale(16, 32, ValidRange(0, 100), ChipRule(0.5, 1, 16)), Scale(32, 64, ValidRange(0, 100), None)),
        PLAN.buckets, PLAN.stacking, window=2,
    )  # fmt: skip
    seen = lambda images: stream(images, oracle_detect(truths, FocusRange(1, 30, 40), 1), plan)  # noqa: E731
    whole = run(data, range(9), seen)
    for found, one in zip(whole.detections, truths, strict=True):
        assert len(found.boxes) and (np.abs(found.boxes - one.boxes) < 1).all()
    shared = tmp_path / "shared"
    shared.mkdir()
    parts = [run(data, range(9), seen, None, shared, (k, 2), 2) for k in range(2)]
    (shared / "000001.npz").unlink()  # an interrupted run: images 2 and 3 are still to do
    again = run(data, range(9), seen, None, shared, piece=2)
    assert sorted(index for part in parts for index in part.indices) == again.indices == list(range(9))
    for found, expected in zip(again.detections, whole.detections, strict=True):
        np.testing.assert_array_equal(found.boxes, expected.boxes)


@pytest.fixture(scope="module")
def measured(tiny_config, tiny_variables, memory_dataset, truth):
    """measured(folder, share) -> the RunResult of a detector over eleven images, in pieces of three in a folder."""
    random = np.random.default_rng(6)
    images = [random.integers(0, 255, (48 - number, 48 + number, 3), np.uint8) for number in range(11)]
    dataset = memory_dataset(images, [truth()] * len(images))
    detect = compile_detector(tiny_config, tiny_variables)
    plan = Plan.of(tiny_config)

    def measure(folder, share=(0, 1)):
        folder.mkdir(exist_ok=True)
        streamed = lambda given: stream(given, detect, plan)  # noqa: E731
        return run(dataset, range(len(images)), streamed, folder=folder, share=share, piece=3)

    return measure


@pytest.mark.numbers
def test_a_run_again_gives_the_same_bits_and_one_in_parts_finds_the_same(measured, tmp_path, check_same_detections):
    """Resumed and shared runs form other batches, so these are equal to the promised tolerance; costs are exact."""
    whole, again = measured(tmp_path / "whole"), measured(tmp_path / "again")
    assert sum(len(found.scores) for found in whole.detections) > 100
    for one, other in zip(whole.detections, again.detections, strict=True):
        assert all(np.array_equal(field, expected) for field, expected in zip(one, other))
    for number in (0, 2):
        (tmp_path / "again" / f"{number:06d}.npz").unlink()
    resumed = measured(tmp_path / "again")
    for number in (0, 1):
        measured(tmp_path / "shared", (number, 2))
    for result in (resumed, measured(tmp_path / "shared")):
        assert result.indices == whole.indices
        np.testing.assert_array_equal(result.cost.pixels, whole.cost.pixels)
        np.testing.assert_array_equal(result.cost.chips, whole.cost.chips)
        for one, other in zip(result.detections, whole.detections, strict=True):
            check_same_detections(one, other)
