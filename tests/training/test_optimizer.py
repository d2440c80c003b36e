"""The schedule at its corners, and what the optimizer does to a parameter, by hand."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autofocus_jax.config import DetectorConfig, TrainingConfig
from autofocus_jax.training.optimizer import average, optimizer, schedule

TRAINING = TrainingConfig(
    steps=1000, batch=1, learning_rate=0.1, warmup_learning_rate=0.01, warmup_steps=100, drop_at=0.75
)


def test_warm_up_and_drop():
    rate = schedule(TRAINING)
    expected = {0: 0.01, 50: 0.055, 99: 0.0991, 100: 0.1, 400: 0.1, 749: 0.1, 751: 0.01, 999: 0.01}
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-5), step


def test_cosine():
    rate = schedule(dataclasses.replace(TRAINING, drop_at=None))
    assert float(rate(0)) == pytest.approx(0.01) and float(rate(100)) == pytest.approx(0.1)
    assert float(rate(550)) == pytest.approx(0.05, rel=1e-5) and float(rate(1000)) == pytest.approx(0, abs=1e-9)
    values = [float(rate(step)) for step in range(100, 1001, 50)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("drop_at", [None, 0.75])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 100), (4, 100), (10, 0)])
def test_short_runs(steps, warmup, drop_at):
    """Warm-up takes at most half of the steps; without it training starts at the full rate."""
    rate = schedule(dataclasses.replace(TRAINING, steps=steps, warmup_steps=warmup, drop_at=drop_at))
    values = [float(rate(step)) for step in range(steps)]
    assert all(0 < value <= 0.1001 for value in values)
    assert values[min(warmup, steps // 2)] == pytest.approx(0.1, rel=1e-5)


def test_rates_grow_with_the_batch_and_the_warm_up_takes_as_many_chips():
    """Four times the batch: four times the rates, in a quarter of the steps."""
    plain = schedule(TRAINING)
    rate = schedule(dataclasses.replace(TRAINING, batch=64, reference_batch=16))
    assert [float(rate(step)) for step in (0, 25)] == pytest.approx([0.04, 0.4], rel=1e-5)
    assert float(rate(10)) == pytest.approx(4 * float(plain(40)), rel=1e-5)
    assert float(rate(751)) == pytest.approx(0.04, rel=1e-5)
    same = schedule(dataclasses.replace(TRAINING, batch=16, reference_batch=16))
    small = schedule(dataclasses.replace(TRAINING, batch=8, reference_batch=16))
    for step in (0, 50, 99, 100, 400, 800):
        assert float(same(step)) == float(plain(step))
    assert [float(small(step)) for step in (0, 100, 200)] == pytest.approx([0.005, 0.0275, 0.05], rel=1e-5)


PARAMS = {"conv": {"kernel": jnp.array([2.0, -4.0]), "bias": jnp.array([2.0])}, "bn": {"scale": jnp.array([2.0])}}


def updated(training, gradients):
    """Parameters after one step for each gradient."""
    transform = optimizer(SimpleNamespace(training=training, detector=DetectorConfig()))
    params, state = PARAMS, transform.init(PARAMS)
    for gradient in gradients:
        updates, state = transform.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def like(value):
    return {"conv": {"kernel": jnp.full(2, value), "bias": jnp.full(1, value)}, "bn": {"scale": jnp.full(1, value)}}


def test_only_kernels_decay():
    training = dataclasses.replace(TRAINING, weight_decay=0.5, warmup_learning_rate=0.1)
    params = updated(training, [like(0.0)])
    np.testing.assert_allclose(params["conv"]["kernel"], [2 - 0.1 * 0.5 * 2, -4 + 0.1 * 0.5 * 4], rtol=1e-6)
    assert params["conv"]["bias"] == 2 and params["bn"]["scale"] == 2


def test_momentum_and_rate():
    training = dataclasses.replace(TRAINING, weight_decay=0.0)
    params = updated(training, [like(1.0), like(1.0)])
    second = 0.01 + 0.09 / 100  # the rate of step 1
    np.testing.assert_allclose(params["conv"]["bias"], 2 - 0.01 * 1 - second * (1 + 0.9), rtol=1e-6)


def test_gradients_are_clipped_to_their_norm():
    training = dataclasses.replace(TRAINING, weight_decay=0.0, gradient_norm=1.0)
    for size in (100.0, 1e6):
        change = np.asarray(PARAMS["conv"]["bias"] - updated(training, [like(size)])["conv"]["bias"])
        np.testing.assert_allclose(change, 0.01 / np.sqrt(4), rtol=1e-4)  # four numbers of the same size
    change = np.asarray(PARAMS["conv"]["bias"] - updated(training, [like(0.1)])["conv"]["bias"])
    np.testing.assert_allclose(change, 0.01 * 0.1, rtol=1e-4)


def test_without_clipping():
    training = dataclasses.replace(TRAINING, weight_decay=0.0, gradient_norm=None)
    change = np.asarray(PARAMS["conv"]["bias"] - updated(training, [like(100.0)])["conv"]["bias"])
    np.testing.assert_allclose(change, 0.01 * 100, rtol=1e-5)


def test_frozen_kernels_do_not_decay():
    training = dataclasses.replace(TRAINING, weight_decay=0.5, frozen_stages=2)
    one = {"kernel": jnp.array([2.0])}
    params = {"backbone": {"conv0": one, "stage1_unit1": {"conv2": one}, "stage2_unit1": {"conv2": one}}, "head": one}
    transform = optimizer(SimpleNamespace(training=training, detector=DetectorConfig()))
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
    backbone = updates["backbone"]
    assert backbone["conv0"]["kernel"] == backbone["stage1_unit1"]["conv2"]["kernel"] == 0
    assert backbone["stage2_unit1"]["conv2"]["kernel"] == updates["head"]["kernel"]
    assert float(updates["head"]["kernel"][0]) == pytest.approx(-0.01)


def test_average_of_parameters():
    """Early steps count little, late ones as the decay says."""
    tree, new = {"a": jnp.array([2.0])}, {"a": jnp.array([4.0])}
    assert float(average(tree, new, 0, 0.99)["a"][0]) == pytest.approx(0.1 * 2 + 0.9 * 4)
    assert float(average(tree, new, 10, 0.99)["a"][0]) == pytest.approx(11 / 20 * 2 + 9 / 20 * 4)
    assert float(average(tree, new, 100_000, 0.99)["a"][0]) == pytest.approx(0.99 * 2 + 0.01 * 4)
    assert float(average(tree, new, 0, 0.05)["a"][0]) == pytest.approx(0.05 * 2 + 0.95 * 4)
