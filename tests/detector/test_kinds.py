"""Kinds of backbone and pooling, compute types and frozen norms: what holds for the plain detector holds for each."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.detector.two_stage_loss import loss
from autofocus_jax.detector.two_stage_network import Maps, Network, answer, forward, look, propose
from autofocus_jax.structures import DetectorOutput, TrainBatch
from autofocus_jax.weights.safetensors import flatten

pytestmark = pytest.mark.usefixtures("quick_compilation")

_forward = jax.jit(forward, static_argnums=0, static_argnames="masked")


@partial(jax.jit, static_argnums=0)
def _classify(config, variables, features, rois, size=None):
    return Network(config).apply(variables, features, rois, size, method="classify")


@partial(jax.jit, static_argnums=0, static_argnames="masked")
def _detect(config, variables, chips, masked=True):
    seen, focus = look(config, variables, chips, masked)
    return DetectorOutput(*answer(config, variables, seen, masked), focus)


KINDS = {
    "v1": {"kind": "v1"},
    "v1 deformable": {"kind": "v1", "deformable_groups": 2},
    "v2 deformable": {"deformable_groups": 2},
}


def of_kind(config, kind):
    changes = KINDS[kind]
    pooling = "deformable" if "deformable_groups" in changes else "align"
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **changes), roi_pooling=pooling)


@pytest.fixture
def deformable(tiny_detector):
    return of_kind(tiny_detector, "v2 deformable")


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_pooling_do_not_depend_on_the_bucket(tiny_detector, draw_variables, chip_batch, kind):
    config = of_kind(tiny_detector, kind)
    variables = draw_variables(config)
    rois = np.array([[[0, 0, 33, 25], [20, 3, 33, 20], [0, 0, 0, 0], [1, 1, 9, 25]]], np.float32)
    answers = []
    for bucket in ((32, 48), (64, 80)):
        chips = chip_batch([picture(25, 33)], *bucket)
        maps = _forward(config, variables, chips)
        assert (np.asarray(maps.features)[:, 2:] == 0).all() and (np.asarray(maps.features)[:, :, 3:] == 0).all()
        heads = _classify(config, variables, maps.features, rois, chips.size)
        answers.append([*(value[:, :2, :3] for value in maps), *heads])
    for one, other in zip(*answers):
        assert np.abs(one).max() > 0.01
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_add_what_they_need(tiny_detector, kind):
    shapes = flatten(jax.eval_shape(detector_of(of_kind(tiny_detector, kind)).init, jax.random.key(0))["params"])
    offsets = {name: array.shape for name, array in shapes.items() if "offset" in name}
    expected = {}
    if "deformable" in kind:
        expected = {"backbone/stage4_unit1/offset/kernel": (3, 3, 4, 36), "backbone/stage4_unit1/offset/bias": (36,),
                    "box_head/offset/kernel": (7 * 7 * 8, 98), "box_head/offset/bias": (98,)}  # fmt: skip
    assert offsets == expected and shapes["backbone/stage4_unit1/conv2/kernel"].shape == (3, 3, 4, 4)
    assert ("backbone/stage1_unit1/shortcut_bn/scale" in shapes) == ("v1" in kind)
    assert ("backbone/bn_data/bias" in shapes) == ("v2" in kind)


def test_without_masks_the_padding_counts(deformable, draw_variables, chip_batch):
    """And does so only where there is some."""
    variables = draw_variables(deformable)
    full, padded = (chip_batch([picture(*size)], 32, 48) for size in ((32, 48), (20, 30)))
    same, other = (np.asarray(_forward(deformable, variables, full, masked=flag).features) for flag in (True, False))
    np.testing.assert_allclose(same, other, atol=1e-5 * np.abs(same).max())
    one, other = (np.asarray(_forward(deformable, variables, padded, masked=flag).features) for flag in (True, False))
    assert np.abs(one - other)[:, :2, :2].max() > 1e-3 and np.abs(other[:, :, 2:]).max() > 1e-3
    dirty = padded.pixels.copy()
    dirty[:, 20:], dirty[:, :, 30:] = 255, 255
    again = _forward(deformable, variables, padded._replace(pixels=dirty), masked=False).features
    np.testing.assert_array_equal(again, other)  # the input is zero outside the true size all the same
    output = _detect(deformable, variables, padded, masked=False)
    assert output.valid.any() and all(np.isfinite(values).all() for values in output)


def test_bfloat16_is_close_and_its_answers_are_float32(deformable, draw_variables, chip_batch):
    variables, chips = draw_variables(deformable), chip_batch([picture(32, 48)], 32, 48)
    rough = dataclasses.replace(deformable, compute_dtype="bfloat16")
    drawn = jax.tree.leaves(jax.eval_shape(detector_of(rough).init, jax.random.key(0)))
    assert {leaf.dtype for leaf in drawn} == {jnp.dtype("float32")}
    exact, maps = (_forward(config, variables, chips) for config in (deformable, rough))
    assert maps.features.dtype == jnp.bfloat16
    assert {value.dtype for value in maps[1:]} == {jnp.dtype("float32")}
    spread = float(np.std(exact.features))
    assert 0 < np.abs(maps.features.astype(np.float32) - exact.features).max() < 0.2 * spread
    output = _detect(rough, variables, chips)
    assert output.boxes.dtype == output.scores.dtype == output.focus.dtype == np.float32
    rois = np.array([[[0, 0, 48, 32], [3, 5, 30, 28]]], np.float32)
    # Bins that jump over the border would make more of a rounding than it is.
    offset = variables["params"]["box_head"]["offset"]
    offset.update({name: 0.02 * values for name, values in offset.items()})
    for ours, theirs in zip(_classify(deformable, variables, exact.features, rois),
                            _classify(rough, variables, maps.features, rois)):  # fmt: skip
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(theirs, ours, atol=0.2 * float(np.std(ours)) + 0.02)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_norms(deformable, tiny_config, draw_variables, chip_batch, frozen):
    config = dataclasses.replace(deformable, frozen_norm=frozen)
    variables, chips = draw_variables(config), chip_batch([picture(32, 48), picture(20, 30, 1)], 32, 48)
    boxes = np.tile(np.array([[2, 2, 20, 18], [10, 5, 30, 20]], np.float32), (2, 1, 1))
    yes = np.ones((2, 2), bool)
    batch = TrainBatch(chips, boxes, np.array([[0, 1], [2, 0]]), yes, yes, np.ones((2, 2, 3), np.int8))

    @jax.jit
    def step(params):
        def total(params):
            tree = {"params": params, "batch_stats": variables["batch_stats"]}
            return loss(config, tiny_config.training, tree, batch, jax.random.key(0))

        return jax.value_and_grad(total, has_aux=True)(params)

    (value, (_, statistics)), gradient = step(variables["params"])
    assert np.isfinite(value)
    before, after = flatten(variables["batch_stats"]), flatten(statistics)
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before) == frozen
    moved = {name: bool(np.abs(value).max() > 0) for name, value in flatten(gradient).items()}
    norms = {name for name in moved if name.startswith("backbone") and name.split("/")[-2].startswith("bn")}
    assert any(moved[name] for name in norms) != frozen
    assert all(moved[name] for name in moved.keys() - norms if name.endswith("kernel"))


def test_proposals_past_a_border_keep_a_side(tiny_detector):
    """Deltas that move every anchor out of the chip."""
    config = dataclasses.replace(tiny_detector, proposal_nms_iou=1.0, proposals=24)
    logits = np.zeros((1, 2, 2, 2, 6), np.float32)
    for direction, expected in ((-50, [0, 0, 1, 1]), (50, [30, 26, 31, 27])):
        deltas = np.zeros((1, 2, 2, 6, 4), np.float32)
        deltas[..., :2] = direction
        maps = Maps(np.zeros((1, 2, 2, 1)), logits, deltas, np.zeros((1, 2, 2, 2)))
        for least in (0, 1):
            found = propose(dataclasses.replace(config, proposal_least_side=least), maps, np.array([[27, 31]]))
            boxes = np.asarray(found.boxes)[0][np.asarray(found.valid)[0]]
            assert len(boxes) > 0
            if least:
                np.testing.assert_array_equal(boxes, np.broadcast_to(np.float32(expected), boxes.shape))
            else:
                assert (boxes[:, 2:] == boxes[:, :2]).all()
