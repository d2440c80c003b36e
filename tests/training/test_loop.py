"""The loop of training around a step that only counts."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from autofocus_jax.config import TrainingConfig
from autofocus_jax.structures import AutoFocusError, TrainState
from autofocus_jax.training.loop import DivergenceError, run

TRAINING = TrainingConfig(steps=7, batch=4, log_every=3, checkpoint_every=2)


def start(step=0):
    return TrainState(np.int32(step), {}, {}, {}, None)


def take(training, state, loss=lambda batch: 10.0 * batch):
    """Runs a step whose loss is that of its batch: batch n holds the number n."""
    logs, checkpoints = [], []

    def step(state, batch):
        return state._replace(step=state.step + 1), {"loss": np.float32(loss(batch)), "focus": np.float32(batch)}

    batches = itertools.count(int(state.step) + 1)
    end = run(step, state, batches, training, logs.append, lambda state: checkpoints.append(int(state.step)))
    return end, logs, checkpoints


def test_logs_are_means_since_the_last_one():
    end, logs, checkpoints = take(TRAINING, start())
    assert int(end.step) == 7 and checkpoints == [2, 4, 6, 7]
    assert [entry["step"] for entry in logs] == [3, 6, 7]
    assert [entry["loss"] for entry in logs] == [20.0, 50.0, 70.0]
    assert [entry["focus"] for entry in logs] == [2.0, 5.0, 7.0]
    assert all(entry["chips_per_second"] > 0 for entry in logs)


def test_the_last_step_is_saved_and_logged_once():
    _, logs, checkpoints = take(dataclasses.replace(TRAINING, steps=6), start())
    assert checkpoints == [2, 4, 6] and [entry["step"] for entry in logs] == [3, 6]


def test_going_on():
    end, logs, checkpoints = take(TRAINING, start(4))
    assert int(end.step) == 7 and checkpoints == [6, 7]
    assert [(entry["step"], entry["loss"]) for entry in logs] == [(6, 55.0), (7, 70.0)]


def test_nothing_left_to_do():
    end, logs, checkpoints = take(TRAINING, start(7))
    assert int(end.step) == 7 and logs == [] and checkpoints == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence(value):
    saved = []

    def step(state, batch):
        return state._replace(step=state.step + 1), {"loss": np.float32(value if batch == 2 else 1)}

    with pytest.raises(DivergenceError, match=r"loss is (nan|inf) at step 3; lower training\.learning_rate") as error:
        run(step, start(), itertools.count(1), TRAINING, pytest.fail, lambda state: saved.append(int(state.step)))
    assert isinstance(error.value, AutoFocusError) and saved == [2]
