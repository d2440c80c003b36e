"""The whole loss and its gradient: chips that hold nothing to learn from, rows that are not valid, in bfloat16."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from autofocus_jax.config import BackboneConfig
from autofocus_jax.detector.two_stage_loss import loss, proposal_stage_loss
from autofocus_jax.structures import ChipBatch, TrainBatch
from autofocus_jax.weights.safetensors import flatten

CASES = {  # boxes, label and whether they are trainable
    "no box": [],
    "only out of range": [((4, 6, 26, 28), 1, False), ((20, 4, 40, 40), 0, False)],
    "an ignore region": [((0, 0, 48, 48), -1, False)],
    "no positive RoI": [((30, 30, 30, 30), 1, True)],  # no area, so nothing overlaps it, not even the box itself
    "an object": [((4, 6, 26, 28), 1, True)],
}

pytestmark = pytest.mark.usefixtures("quick_compilation")


def batch(*rows, seed=0, valid=None, size=(48, 48)):
    """One chip of 48 px a row; a row is a list of (box, label, trainable)."""
    count, random = len(rows), np.random.default_rng(seed)
    boxes, labels = np.zeros((count, 6, 4), np.float32), np.zeros((count, 6), np.int32)
    present, trainable = np.zeros((count, 6), bool), np.zeros((count, 6), bool)
    for row, items in enumerate(rows):
        for column, (box, label, train) in enumerate(items):
            boxes[row, column], labels[row, column], trainable[row, column] = box, label, train
            present[row, column] = True
    pixels = random.integers(0, 256, (count, 48, 48, 3), np.uint8)
    valid = np.ones(count, bool) if valid is None else np.array(valid, bool)
    chips = ChipBatch(pixels, np.full((count, 2), size, np.int32), valid)
    return TrainBatch(chips, boxes, labels, present, trainable, random.integers(-1, 2, (count, 3, 3)).astype(np.int8))


def rows_of(data, rows):
    return jax.tree.map(lambda values: values[np.array(rows)], data)


@partial(jax.jit, static_argnums=(0, 1, 2))
def gradients(function, detector, training, variables, data, key=0):
    """((loss, (parts, batch statistics)), gradient) of a function of the kind of `loss`."""

    def total(params):
        return function(detector, training, {**variables, "params": params}, data, jax.random.key(key))

    return jax.value_and_grad(total, has_aux=True)(variables["params"])


@pytest.fixture(scope="module", params=["plain", "hard and deformable"])
def setting(request, tiny_config, draw_variables):
    """(detector, training, variables); the second has frozen norms, deformable parts and OHEM."""
    detector, training = tiny_config.detector, tiny_config.training
    if request.param != "plain":
        network = BackboneConfig(units=(1, 1, 1, 1), channels=(8, 16, 16, 16, 16), deformable_groups=2)
        detector = dataclasses.replace(detector, backbone=network, roi_pooling="deformable", frozen_norm=True)
        training = dataclasses.replace(training, hard_rois=True)
    return detector, training, draw_variables(detector)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("valid", [(True, True), (False, False)], ids=["valid", "no valid row"])
def test_finite(setting, case, valid):
    (value, (parts, _)), gradient = gradients(loss, *setting, batch(CASES[case], CASES[case], valid=valid))
    assert all(np.isfinite(part) and part >= 0 for part in parts.values()) and np.isfinite(value)
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(gradient))
    moved = max(float(np.abs(array).max()) for array in jax.tree.leaves(gradient))
    if not any(valid):
        assert value == 0 and moved == 0
    else:
        assert moved > 0 and (parts["box"] > 0) == (case == "an object")
        assert parts["focus"] > 0 and (case == "an ignore region" or parts["box_class"] > 0)


def test_a_row_without_pixels(setting):
    (value, _), gradient = gradients(loss, *setting, batch([], CASES["an object"], size=(0, 0)))
    assert np.isfinite(value) and all(np.isfinite(array).all() for array in jax.tree.leaves(gradient))


def frozen(setting):
    """The setting with frozen norms; with others, a row that is not valid still counts in the batch statistics."""
    detector, training, variables = setting
    return dataclasses.replace(detector, frozen_norm=True), training, variables


def check_same(one, other):
    (value, (parts, statistics)), gradient = one
    (value_other, (parts_other, statistics_other)), gradient_other = other
    assert value == pytest.approx(float(value_other), rel=1e-5) and value > 0
    for name in parts:
        assert parts[name] == pytest.approx(float(parts_other[name]), rel=1e-5), name
    for a, b in zip(jax.tree.leaves((gradient, statistics)), jax.tree.leaves((gradient_other, statistics_other))):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_masked_rows_are_as_if_they_were_not_there(setting):
    """The rows that are left keep their numbers, and so what is drawn for them."""
    data = batch(*CASES.values(), valid=(False,) * 3 + (True,) * 2)
    data = rows_of(data, [4, 3, 0, 1, 2])
    check_same(gradients(loss, *frozen(setting), data), gradients(loss, *frozen(setting), rows_of(data, [0, 1])))


def test_masked_rows_among_others(setting):
    """Capacities that take every candidate leave nothing to draw."""
    detector, training, variables = frozen(setting)
    training = dataclasses.replace(training, rpn_batch=1000, roi_batch=1000, roi_foreground=0.9)
    data = batch(CASES["an object"], CASES["no box"], CASES["only out of range"], valid=(False, True, True))
    check_same(gradients(loss, detector, training, variables, data),
               gradients(loss, detector, training, variables, rows_of(data, [1, 2])))  # fmt: skip


def test_proposal_stage_is_the_loss_without_the_rest(setting):
    data = batch(CASES["an object"], CASES["no box"])
    (_, (parts, statistics)), _ = gradients(loss, *setting, data)
    (value, (own, own_statistics)), gradient = gradients(proposal_stage_loss, *setting, data)
    assert set(own) == {"proposal_class", "proposal_box"} and value == pytest.approx(float(sum(own.values())))
    for name in own:
        assert own[name] == pytest.approx(float(parts[name]), rel=1e-5)
    for a, b in zip(jax.tree.leaves(statistics), jax.tree.leaves(own_statistics)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for name, array in flatten(gradient).items():
        if name.startswith(("box_head", "focus_head")):
            assert not array.any(), name
        elif name.startswith("proposal_head"):
            assert np.asarray(array).any(), name


def test_bfloat16(setting):
    """Parameters, gradients and statistics stay float32, and the loss is nearly that of float32."""
    detector, training, variables = setting
    data = batch(CASES["an object"], CASES["an object"])
    (exact, _), _ = gradients(loss, *setting, data)
    rough = dataclasses.replace(detector, compute_dtype="bfloat16")
    (value, (parts, statistics)), gradient = gradients(loss, rough, training, variables, data)
    assert {leaf.dtype for leaf in jax.tree.leaves((value, parts, statistics, gradient))} == {np.dtype("float32")}
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(gradient))
    assert value == pytest.approx(float(exact), rel=0.1) and value != exact
