"""A step of training: it learns, it is pure, and it is traced once."""

import dataclasses

import jax
import numpy as np
import pytest

from autofocus_jax.config import ConfigError
from autofocus_jax.detector.freezing import in_frozen_stage
from autofocus_jax.structures import TrainBatch, TrainState
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step, variables
from autofocus_jax.weights.safetensors import flatten

LOSSES = ("proposal_class", "proposal_box", "box_class", "box", "focus")


@pytest.fixture(scope="module")
def batch(chip_batch):
    """Two chips of 48 px; one bright square in each, which is the object."""
    boxes = np.zeros((2, 6, 4), np.float32)
    boxes[:, 0] = [[4, 6, 26, 28], [20, 18, 42, 40]]
    images = np.random.default_rng(0).integers(60, 90, (2, 48, 48, 3), np.uint8)
    for image, (x1, y1, x2, y2) in zip(images, boxes[:, 0].astype(int)):
        image[y1:y2, x1:x2] = (240, 220, 40)
    present = np.arange(6) < np.ones((2, 1))
    focus = np.zeros((2, 3, 3), np.int8)
    focus[0, :2, :2], focus[1, 1:, 1:] = 1, 1
    return TrainBatch(chip_batch(images, 48, 48), boxes, np.zeros((2, 6), np.int32), present, present.copy(), focus)


@pytest.fixture(scope="module")
def compiled(tiny_config, tiny_variables, quick_compilation, traced):
    """(jitted step, its first state, the step inside with its traces)."""
    transform = optimizer(tiny_config)
    watched = traced(make_step(tiny_config, transform))
    params, batch_stats = tiny_variables["params"], tiny_variables["batch_stats"]
    state = TrainState(jax.numpy.int32(0), params, batch_stats, transform.init(params), jax.random.key(3))
    return jax.jit(watched), state, watched


def test_learns_one_batch_by_heart_and_is_traced_once(compiled, batch, tiny_config):
    step, state, watched = compiled
    assert list(state.params) and tiny_config.training.steps == 40
    history = []
    for number in range(1, 41):
        state, info = step(state, batch)
        history.append(jax.device_get(info))
        assert int(state.step) == number
    assert set(history[0]) == {"loss", "gradient_norm", *LOSSES}
    for info in history:
        assert all(np.isfinite(value) for value in info.values())
        assert info["loss"] == pytest.approx(sum(info[name] for name in LOSSES), rel=1e-4)
    first, last = (np.mean([info["loss"] for info in part]) for part in (history[:3], history[-3:]))
    assert last < 0.6 * first, f"{first} -> {last}"
    assert history[-1]["focus"] < 0.6 * history[0]["focus"]
    watched.check(1)


def test_pure(compiled, batch):
    step, state, _ = compiled
    before = jax.tree.map(np.array, (state.params, state.batch_stats))
    (one, info), (again, info_again) = step(state, batch), step(state, batch)
    for a, b in zip(jax.tree.leaves((one._replace(key=0), info)), jax.tree.leaves((again._replace(key=0), info_again))):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves((state.params, state.batch_stats))):
        np.testing.assert_array_equal(a, b)
    assert (jax.random.key_data(one.key) == jax.random.key_data(state.key)).all()


def test_samples_change_with_the_step_and_everything_is_trained(compiled, batch):
    step, state, _ = compiled
    one, info = step(state, batch)
    _, later = step(state._replace(step=state.step + 1), batch)
    assert float(info["loss"]) != float(later["loss"])
    before, after = flatten(state.params), flatten(one.params)
    still = [name for name in before if (np.asarray(before[name]) == np.asarray(after[name])).all()]
    assert still == ["backbone/bn_data/bias"]
    before, after = flatten(state.batch_stats), flatten(one.batch_stats)
    assert not any((np.asarray(before[name]) == np.asarray(after[name])).all() for name in before)
    assert variables(one) == {"params": one.params, "batch_stats": one.batch_stats}


def test_invalid_rows_change_no_sum(compiled, batch):
    """With nothing valid every part of the loss is 0 and only weight decay moves the parameters."""
    step, state, _ = compiled
    chips = batch.chips._replace(valid=np.zeros(2, bool))
    _, info = step(state, batch._replace(chips=chips))
    assert all(float(info[name]) == 0 for name in ("loss", *LOSSES)) and float(info["gradient_norm"]) == 0


def test_options(tiny_config, tiny_variables, batch, quick_compilation):
    """Two steps with averaged parameters, frozen stages, hard RoIs, no clipping and bfloat16, at once."""
    training = dataclasses.replace(
        tiny_config.training, ema=0.5, frozen_stages=2, hard_rois=True, gradient_norm=None, reference_batch=1
    )
    detector = dataclasses.replace(tiny_config.detector, compute_dtype="bfloat16")
    config = dataclasses.replace(tiny_config, detector=detector, training=training)
    transform = optimizer(config)
    first = initial_state(config, transform, lambda _: tiny_variables)
    for drawn, copied in zip(jax.tree.leaves(first.params), jax.tree.leaves(first.ema)):
        np.testing.assert_array_equal(drawn, copied)
        assert drawn.unsafe_buffer_pointer() != copied.unsafe_buffer_pointer()  # both may be taken by a step
    step = jax.jit(make_step(config, transform))
    one, info = step(first, batch)
    two, _ = step(one, batch)
    assert set(info) == {"loss", "gradient_norm", *LOSSES} and all(np.isfinite(value) for value in info.values())
    before, after = (flatten({"params": s.params, "batch_stats": s.batch_stats}) for s in (first, two))
    for name in before:
        same = bool((np.asarray(before[name]) == np.asarray(after[name])).all())
        assert after[name].dtype == np.float32
        assert same == in_frozen_stage(config.detector.backbone, tuple(name.split("/")[1:]), 2), name
    trees = [flatten(tree) for tree in (first.params, one.params, two.params, two.ema)]
    for name, averaged in trees[-1].items():
        start, middle, end = (np.asarray(tree[name]) for tree in trees[:3])
        expected = 2 / 11 * (0.1 * start + 0.9 * middle) + 9 / 11 * end
        np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-6)
    assert variables(two) == {"params": two.ema, "batch_stats": two.batch_stats}


def test_a_batch_that_does_not_split(tiny_config):
    devices = jax.sharding.AbstractMesh((4,), ("devices",))
    with pytest.raises(ConfigError, match=r"training.batch 2 does not split over 4 devices; want a multiple"):
        make_step(tiny_config, optimizer(tiny_config), devices)


def test_initial_state_is_a_function_of_the_seed(tiny_config):
    transform = optimizer(tiny_config)
    shapes = jax.eval_shape(lambda: initial_state(tiny_config, transform))
    other = jax.eval_shape(lambda: initial_state(dataclasses.replace(tiny_config, seed=1), transform))
    assert jax.tree.structure(shapes) == jax.tree.structure(other) and shapes.step.shape == ()
