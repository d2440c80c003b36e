"""The detector as a whole: the same chip gives the same answer in every bucket and beside every other row."""

import dataclasses
import runpy
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.detector.two_stage_network import Maps, init, propose
from autofocus_jax.scenes.rendering import render_scene
from autofocus_jax.structures import Detections
from autofocus_jax.weights import safetensors

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "autofocus_jax" / "weights" / "shipped" / "demo.safetensors"


@partial(jax.jit, static_argnums=0)
def _detect(config, variables, chips):
    return detector_of(config).detect(variables, chips)


@pytest.fixture
def tiny(tiny_detector, tiny_variables):
    return lambda chips: jax.device_get(_detect(tiny_detector, tiny_variables, chips))


def noise(seed, height, width):
    """Blurred noise, whose features differ from place to place."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def row_of(output, row=0):
    """Every (proposal, class) of a row of an output, as Detections in the chip frame."""
    scores = output.scores[row][output.valid[row]]
    count, classes = scores.shape
    boxes = output.boxes[row][output.valid[row]].repeat(classes, axis=0)
    return Detections(boxes, scores.reshape(-1), np.tile(np.arange(classes), count))


@pytest.fixture(scope="module")
def check_same(check_same_detections):
    """check_same(one, other): row 0 of both outputs to the promised tolerance, and focus maps as close as scores."""

    def check(one, other):
        assert one.valid[0].any()
        check_same_detections(row_of(one), row_of(other))
        rows, columns = (min(a, b) for a, b in zip(one.focus.shape[1:], other.focus.shape[1:]))
        np.testing.assert_allclose(one.focus[0, :rows, :columns], other.focus[0, :rows, :columns], atol=1e-5)
        for output in (one, other):
            assert (output.focus[0, rows:] == 0).all() and (output.focus[0, :, columns:] == 0).all()

    return check


@pytest.mark.numbers
@pytest.mark.parametrize("size", [(32, 48), (32, 32), (16, 48), (31, 41), (25, 33), (17, 20), (9, 30), (1, 1)])
def test_same_answer_in_every_bucket(tiny, chip_batch, check_same, size):
    """Sizes on, just past and half way between the borders of cells."""
    chip = noise(sum(size), *size)
    one, other = tiny(chip_batch([chip], 32, 48)), tiny(chip_batch([chip], 64, 80))
    check_same(one, other)
    assert one.scores[0][one.valid[0]].std() > 1e-3 or size == (1, 1)  # not all the same answer


def test_other_rows_do_not_influence(tiny, chip_batch):
    chips = [noise(seed, *size) for seed, size in enumerate([(32, 48), (20, 30), (16, 16)])]
    together = tiny(chip_batch(chips, 32, 48, batch=4))
    changed = tiny(chip_batch([noise(9, 32, 48), chips[1], noise(8, 32, 48), chips[0]], 32, 48))
    for field in together._fields:
        one, other = getattr(together, field), getattr(changed, field)
        np.testing.assert_allclose(one[1], other[1], atol=1e-4)
        np.testing.assert_allclose(one[0], other[3], atol=1e-4)


def test_empty_rows_are_invalid_and_finite(tiny, chip_batch):
    output = tiny(chip_batch([noise(0, 32, 48)], 32, 48, batch=4))
    assert output.valid[0].any() and not output.valid[1:].any() and (output.focus[1:] == 0).all()
    assert all(np.isfinite(values).all() for values in output)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (15, 15), (32, 3)])
def test_chip_below_one_cell(tiny, chip_batch, size):
    output = tiny(chip_batch([noise(3, *size)], 32, 48))
    assert output.valid.any() and all(np.isfinite(values).all() for values in output)
    assert (output.focus[0, : -(-size[0] // 16), : -(-size[1] // 16)] > 0).all()


def test_ranges_of_the_output(tiny, chip_batch):
    output = tiny(chip_batch([noise(1, 25, 41), noise(2, 32, 48)], 32, 48))
    assert output.boxes.shape == (2, 16, 4) and output.scores.shape == (2, 16, 3) and output.focus.shape == (2, 2, 3)
    for row, (height, width) in enumerate([(25, 41), (32, 48)]):
        boxes = output.boxes[row]
        assert (boxes >= 0).all() and (boxes[:, 0::2] <= width).all() and (boxes[:, 1::2] <= height).all()
        assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (output.scores >= 0).all() and (output.scores.sum(axis=-1) <= 1 + 1e-6).all()
    assert (output.focus >= 0).all() and (output.focus <= 1).all()


def test_proposals_come_from_filled_cells_best_first(tiny_detector):
    """Anchors stay where they are (deltas 0), so where a proposal lies tells its cell."""
    config = dataclasses.replace(tiny_detector, proposals=40, proposal_nms_iou=1.0)
    logits = np.random.default_rng(0).standard_normal((1, 4, 4, 2, 6)).astype(np.float32)
    maps = Maps(np.zeros((1, 4, 4, 1)), logits, np.zeros((1, 4, 4, 6, 4), np.float32), np.zeros((1, 4, 4, 2)))
    proposals = jax.device_get(propose(config, maps, np.array([[40, 63]])))  # 2 x 3 whole cells
    valid = proposals.valid[0]
    assert valid.sum() == 2 * 3 * 6 and (np.diff(proposals.scores[0][valid]) <= 0).all()
    difference = logits[0, :2, :3, 1] - logits[0, :2, :3, 0]
    expected = np.sort((1 / (1 + np.exp(-difference))).ravel())[::-1]
    np.testing.assert_allclose(proposals.scores[0][valid], expected, rtol=1e-5)
    assert (proposals.boxes[0][~valid] == 0).all() and (proposals.scores[0][~valid] == 0).all()


def test_init_is_a_function_of_the_key(tiny_detector):
    make = jax.jit(partial(init, tiny_detector), compiler_options={"xla_backend_optimization_level": "0"})
    one, again, other = (safetensors.flatten(jax.device_get(make(jax.random.key(seed)))) for seed in (0, 0, 1))
    assert all((one[name] == again[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)
    assert all((array == 1).all() for name, array in one.items() if name.endswith(("var", "scale")))
    assert all((array == 0).all() for name, array in one.items() if name.endswith(("mean", "bias")))


@pytest.fixture(scope="module")
def demo():
    return runpy.run_path(str(ROOT / "configs" / "demo.py"))["get_config"]().detector


BUCKETS = [((90, 128), (96, 128), (128, 192)), ((96, 96), (96, 128), (128, 192))]


@pytest.mark.numbers
@pytest.mark.parametrize(("size", "small", "large"), BUCKETS)
def test_demo_detector_in_two_buckets(demo, draw_variables, chip_batch, check_same, size, small, large):
    variables, chip = draw_variables(demo), noise(5, *size)
    one, other = (jax.device_get(_detect(demo, variables, chip_batch([chip], *side))) for side in (small, large))
    check_same(one, other)


@pytest.mark.skipif(not SHIPPED.exists(), reason="no weights are shipped for the demo config")
@pytest.mark.numbers
@pytest.mark.parametrize(("size", "small", "large"), BUCKETS)
def test_shipped_weights_in_two_buckets(demo, chip_batch, check_same, size, small, large):
    variables, _ = safetensors.load(SHIPPED)
    image, _ = render_scene(np.random.default_rng(3))
    middle = [(image.shape[axis] - size[axis]) // 2 for axis in (0, 1)]
    chip = image[middle[0] : middle[0] + size[0], middle[1] : middle[1] + size[1]]
    one, other = (jax.device_get(_detect(demo, variables, chip_batch([chip], *side))) for side in (small, large))
    check_same(one, other)


def test_small_chips_get_their_share_of_proposals_in_any_bucket(tiny_detector, tiny_variables, chip_batch):
    config = dataclasses.replace(tiny_detector, proposals_area=64 * 64, proposals_least=3, proposal_nms_iou=1.0)
    chips = [noise(seed, *size) for seed, size in enumerate([(64, 64), (33, 48), (16, 16), (20, 64)])]
    expected = [16, 9, 3, 8]  # 16 of 16 cells; 3 * 3 cells; 1 cell, so the least; 2 * 4 cells
    output = jax.device_get(_detect(config, tiny_variables, chip_batch(chips, 64, 64)))
    assert output.valid.sum(axis=1).tolist() == expected
    small = jax.device_get(_detect(config, tiny_variables, chip_batch([chips[1]], 48, 48)))
    assert small.valid[0].sum() == 9 and small.valid[0, :9].all()
    np.testing.assert_allclose(small.scores[0, :9], output.scores[1, :9], atol=1e-4)
    np.testing.assert_allclose(small.boxes[0, :9], output.boxes[1, :9], atol=1e-2)
    everything = dataclasses.replace(config, proposals_area=None)
    assert jax.device_get(_detect(everything, tiny_variables, chip_batch(chips, 64, 64))).valid.sum() > sum(expected)
