"""One program per bucket, compiled when it is first used and never again, whatever the chips."""

import dataclasses
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from autofocus_jax.detector.folding import fold
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.focus.buckets import BucketError
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import compiled
from autofocus_jax.inference.compiled import CompiledDetector, CompileError, compile_detector
from autofocus_jax.structures import Bucket, ChipRule

pytestmark = pytest.mark.numbers

BUCKETS = (Bucket(32, 32, 3), Bucket(64, 64, 2), Bucket(64, 96, 2), Bucket(96, 64, 1), Bucket(128, 128, 1))


@pytest.fixture(scope="module")
def config(tiny_config):
    coarse, fine = tiny_config.scales
    scales = (dataclasses.replace(coarse, chips=ChipRule(0.5, 1, 16)), fine)
    return dataclasses.replace(tiny_config, scales=scales, buckets=BUCKETS)


@pytest.fixture(scope="module")
def detector(config, tiny_variables):
    return compile_detector(config, tiny_variables)


def test_one_compilation_for_each_bucket_used(config, tiny_variables, traced):
    prepared, variables = detector_of(config.detector).prepare(tiny_variables)
    looked, answered = traced(prepared.look), traced(prepared.answer)
    watched = prepared._replace(look=looked, answer=answered, prepare=lambda variables: (watched, variables))
    detector = CompiledDetector(config, variables, detector=watched)
    random = np.random.default_rng(0)
    sizes = [(60, 90), (61, 90), (90, 60), (60, 60), (33, 41), (64, 96), (17, 16), (200, 210)]
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    used, chips = set(), []
    # Random weights know no objects, so the threshold is what half of the cells of one image reach.
    _, _, ((coarse, _),) = cascade(images[:1], detector, Plan.of(config))
    rule = ChipRule(float(np.median(coarse.focus[0])), 1, 16)
    scales = (dataclasses.replace(config.scales[0], chips=rule), config.scales[1])

    def recorded(batch, placements):
        used.add(batch.pixels.shape[:3])
        chips.extend(tuple(size) for size in batch.size[batch.valid])
        return detector(batch, placements)

    for window in (images[:3], images[3:5], images[5:], images):
        cascade(window, recorded, Plan(scales, config.buckets, config.stacking))
    assert len(used) >= 3 and (1, 128, 128) not in used and len(set(chips)) > len(used)
    looked.check(len(used))
    answered.check(_programs(used) - len(used))
    assert detector.traces == detector.compilations == _programs(used)


def _programs(shapes):
    """A program for each shape (batch, height, width), and one for each batch and map of whole multiples of 256 px."""
    return len(set(shapes)) + len({(batch, -(-height // 256), -(-width // 256)) for batch, height, width in shapes})


def test_every_row_is_as_without_compiling_ahead(config, detector, tiny_variables, chip_batch):
    chip = np.random.default_rng(1).integers(0, 256, (30, 20, 3), np.uint8)
    batch = chip_batch([chip], 32, 32, 3)
    expected = jax.jit(detector_of(config.detector).detect)(tiny_variables, batch)
    for one, other in zip(detector(batch), expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["v2", "v1"])
def test_folded_norms_change_nothing(config, draw_variables, chip_batch, kind):
    """Folded by the compiled detector or before, the answer is the same, and to float tolerance the plain network's."""
    backbone = dataclasses.replace(config.detector.backbone, kind=kind)
    settings = {"buckets": BUCKETS[:1], "detector": dataclasses.replace(config.detector, backbone=backbone)}
    plain = dataclasses.replace(config, **settings)
    variables = draw_variables(plain.detector)
    folded, fewer = fold(plain.detector, variables)
    batch = chip_batch([np.random.default_rng(2).integers(0, 256, (30, 20, 3), np.uint8)], 32, 32, 3)
    answer = compile_detector(plain, variables)(batch)
    for one, other in zip(answer, compile_detector(dataclasses.replace(plain, detector=folded), fewer)(batch)):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(answer, jax.jit(detector_of(plain.detector).detect)(variables, batch)):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 32, 48), (2, 32, 32), (1, 64, 64)])
def test_a_shape_that_is_no_buckets(detector, shape, chip_batch):
    before = detector.traces
    batch = chip_batch([], *shape[1:], batch=shape[0])
    with pytest.raises(BucketError) as error:
        detector(batch)
    message = str(error.value)
    assert f"{shape[0]} chips of {shape[1]}x{shape[2]}" in message and "\n" not in message
    assert all(f"{b.batch}x{b.height}x{b.width}" in message for b in BUCKETS)
    assert detector.traces == before


def test_warm_up_compiles_everything_once(config, tiny_variables, chip_batch):
    small = dataclasses.replace(config, buckets=BUCKETS[:2])
    detector, seen = compile_detector(small, tiny_variables), []
    detector.warm_up(seen.append)
    programs = _programs([(b.batch, b.height, b.width) for b in BUCKETS[:2]])
    assert tuple(seen) == detector.buckets == BUCKETS[:2] and detector.compilations == detector.traces == programs
    detector.warm_up()
    detector(chip_batch([], 64, 64, batch=2))
    assert detector.traces == programs


def test_many_buckets_share_what_does_not_depend_on_their_shape(config, tiny_variables):
    many = tuple(Bucket(height, width, 1) for height in (32, 64, 96) for width in (32, 64, 96))
    detector = compile_detector(dataclasses.replace(config, buckets=many), tiny_variables)
    detector.warm_up()
    assert detector.compilations == len(many) + 1


def test_copies_count_the_same_programs(config, tiny_variables, chip_batch):
    detector = compile_detector(config, tiny_variables)
    copied = detector.using(tiny_variables)
    copied(chip_batch([], 32, 32, batch=3))
    assert copied.traces == detector.traces == detector.compilations == 2


def test_a_bucket_that_compiles_keeps_no_other_waiting(config, tiny_variables, chip_batch, monkeypatch):
    detector = compile_detector(config, tiny_variables)
    small, large = chip_batch([], 32, 32, batch=3), chip_batch([], 128, 128, batch=1)
    expected = jax.device_get(detector(small))
    compiling, go_on = threading.Event(), threading.Event()

    def slow():
        compiling.set()
        assert go_on.wait(60)

    monkeypatch.setattr(compiled, "make_room", slow)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(detector, large)
        assert compiling.wait(60)
        np.testing.assert_array_equal(pool.submit(detector, small).result(60).focus, expected.focus)
        go_on.set()
        assert waiting.result(120).boxes.shape[0] == 1


def test_a_program_that_fails_to_compile_is_tried_again(config, tiny_variables, chip_batch, monkeypatch):
    detector = compile_detector(config, tiny_variables)
    batch = chip_batch([], 32, 32, batch=3)

    def full():
        raise CompileError("no room")

    monkeypatch.setattr(compiled, "make_room", full)
    with pytest.raises(CompileError):
        detector(batch)
    monkeypatch.undo()
    assert detector(batch).boxes.shape[0] == 3


def test_no_room_is_one_line_and_programs_out_of_reach_make_room(monkeypatch):
    counts = iter([70000, 100])
    monkeypatch.setattr(compiled, "_lines", lambda path: next(counts))
    compiled.make_room()  # a collection let go of enough
    assert next(counts, None) is None
    monkeypatch.setattr(compiled, "_lines", lambda path: 10**9)
    with pytest.raises(CompileError) as error:
        compiled.make_room()
    assert "max_map_count" in str(error.value) and "\n" not in str(error.value)


def test_programs_that_nobody_can_reach_are_let_go(config, tiny_variables):
    if not Path("/proc/self/maps").is_file():
        pytest.skip("counts memory maps, which Linux alone shows")
    few = dataclasses.replace(config, buckets=BUCKETS[:2])
    detector = compile_detector(few, tiny_variables)
    before = compiled._lines(Path("/proc/self/maps"))
    detector.warm_up()
    gone = weakref.ref(detector)
    more = compiled._lines(Path("/proc/self/maps")) - before
    del detector
    gc.collect()
    assert gone() is None and more > 50
    assert compiled._lines(Path("/proc/self/maps")) - before < more / 2


def test_other_variables_need_no_compiling(config, detector, draw_variables, chip_batch):
    """And they do not change what the first detector answers."""
    other = draw_variables(config.detector, 9)
    chips = chip_batch([np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)], 32, 32, batch=3)
    before = jax.device_get(detector(chips))
    renewed = detector.using(other)
    compilations = detector.compilations
    found, expected = jax.device_get(renewed(chips)), jax.device_get(compile_detector(config, other)(chips))
    assert renewed.compilations == compilations
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(found.focus, before.focus)
    for one, two in zip(jax.device_get(detector(chips)), before, strict=True):
        np.testing.assert_array_equal(one, two)
