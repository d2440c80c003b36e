"""The schedule at its corners, and what the optimizer does to a parameter, by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autofocus_jax.config import TrainingConfig
from autofocus_jax.training.optimizer import optimizer, schedule

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


PARAMS = {"conv": {"kernel": jnp.array([2.0, -4.0]), "bias": jnp.array([2.0])}, "bn": {"scale": jnp.array([2.0])}}


def updated(training, gradients):
    """Parameters after one step for each gradient."""
    transform = optimizer(training)
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
