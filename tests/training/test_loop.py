"""The loop of training around a step that only counts."""

import dataclasses
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.config import TrainingConfig
from autofocus_jax.structures import AutoFocusError, TrainState
from autofocus_jax.training.loop import DivergenceError, Hooks, run
from autofocus_jax.training.pipeline import Position

TRAINING = TrainingConfig(steps=7, batch=4, log_every=3, checkpoint_every=2)


class Numbers:
    """Batches that are their own numbers, from 1; five an epoch."""

    def __init__(self, start=0):
        self.taken = start

    @property
    def position(self):
        return Position(*divmod(self.taken, 5))

    def __next__(self):
        self.taken += 1
        return self.taken


def start(step=0):
    return TrainState(np.int32(step), {}, {}, {}, None)


class Taken:
    """Runs a step whose loss is that of its batch and keeps what the hooks hear, in order."""

    def __init__(self, training, step=0, loss=lambda batch: 10.0 * batch, params=lambda batch: {}, **hooks):
        self.logs, self.saved, self.heard = [], [], []

        def take(state, batch):
            info = {"loss": np.float32(loss(batch)), "focus": np.float32(batch)}
            return state._replace(step=state.step + 1, params=params(batch)), info

        def save(state, position, scores):
            self.saved.append(int(state.step))
            self.heard.append(("save", int(state.step), tuple(position), scores))

        given = Hooks(self.logs.append, save, **{name: hook(self) for name, hook in hooks.items()})
        self.end = run(take, start(step), Numbers(step), training, given)


def test_logs_are_means_since_the_last_one():
    taken = Taken(TRAINING)
    assert int(taken.end.step) == 7 and taken.saved == [2, 4, 6, 7]
    assert [entry["step"] for entry in taken.logs] == [3, 6, 7]
    assert [entry["loss"] for entry in taken.logs] == [20.0, 50.0, 70.0]
    assert [entry["focus"] for entry in taken.logs] == [2.0, 5.0, 7.0]
    assert all(entry["chips_per_second"] > 0 and 0 <= entry["data_wait"] <= 1 for entry in taken.logs)


def test_the_position_that_is_saved_is_that_of_the_next_batch():
    assert [heard[2] for heard in Taken(TRAINING).heard] == [(0, 2), (0, 4), (1, 1), (1, 2)]


def test_the_last_step_is_saved_and_logged_once():
    taken = Taken(dataclasses.replace(TRAINING, steps=6))
    assert taken.saved == [2, 4, 6] and [entry["step"] for entry in taken.logs] == [3, 6]


def test_going_on():
    taken = Taken(TRAINING, 4)
    assert int(taken.end.step) == 7 and taken.saved == [6, 7]
    assert [(entry["step"], entry["loss"]) for entry in taken.logs] == [(6, 55.0), (7, 70.0)]


def test_nothing_left_to_do():
    taken = Taken(TRAINING, 7)
    assert int(taken.end.step) == 7 and taken.logs == [] and taken.saved == []


def validate(taken):
    def hook(state):
        taken.heard.append(("validate", int(state.step)))
        return {"AP": float(state.step)}

    return hook


def test_a_validated_state_is_saved_with_its_scores():
    taken = Taken(dataclasses.replace(TRAINING, validate_every=5), validate=validate)
    assert taken.heard == [
        ("save", 2, (0, 2), None), ("save", 4, (0, 4), None),
        ("validate", 5), ("save", 5, (1, 0), {"AP": 5.0}), ("save", 6, (1, 1), None),
        ("validate", 7), ("save", 7, (1, 2), {"AP": 7.0}),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [ValueError("no image"), KeyboardInterrupt()])
def test_a_validation_that_fails_loses_no_training(error):
    saved = []

    def fail(taken):
        def hook(state):
            saved.append(taken.saved)
            raise error

        return hook

    with pytest.raises(type(error)):
        Taken(dataclasses.replace(TRAINING, validate_every=5), validate=fail)
    assert saved == [[2, 4, 5]]


def test_validation_at_the_end_only():
    taken = Taken(TRAINING, validate=validate)
    assert [heard[:2] for heard in taken.heard if heard[0] == "validate"] == [("validate", 7)]


@pytest.mark.parametrize("when", range(1, 8))
def test_stopping_logs_and_saves_what_was_done(when):
    taken = Taken(TRAINING, stop=lambda taken: lambda step: step == when, validate=validate)
    assert int(taken.end.step) == when and taken.saved[-1] == when and taken.logs[-1]["step"] == when
    assert any(heard[0] == "validate" for heard in taken.heard) == (when == 7)  # then the run is finished


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad", range(1, 8))
def test_divergence(value, bad):
    """It is found at the next log or checkpoint, the first bad step is named, and nothing later is saved."""
    told, saved = [], []

    def step(state, batch):
        return state._replace(step=state.step + 1), {"loss": np.float32(value if batch >= bad else 1)}

    def diverged(step, position, info):
        told.append((step, tuple(position), info["loss"]))
        return "kept in a file"

    hooks = Hooks(lambda entry: None, lambda state, *rest: saved.append(int(state.step)), diverged=diverged)
    expected = rf"the loss is (nan|inf) at step {bad}; lower training\.learning_rate .*kept in a file"
    with pytest.raises(DivergenceError, match=expected) as error:
        run(step, start(), Numbers(), TRAINING, hooks)
    assert isinstance(error.value, AutoFocusError) and saved == [n for n in (2, 4, 6, 7) if n < bad]
    assert [entry[:2] for entry in told] == [(bad, divmod(bad - 1, 5))]


@pytest.mark.parametrize("bad", [3, 4])
def test_parameters_that_are_not_finite_are_never_saved(bad):
    """The loss of a step is that of the parameters before it, so theirs is looked at too."""
    saved = []

    def step(state, batch):
        params = {"kernel": jnp.full(3, np.nan if batch == bad else 1.0)}
        return state._replace(step=state.step + 1, params=params), {"loss": np.float32(batch > bad and np.nan)}

    hooks = Hooks(lambda entry: None, lambda state, *rest: saved.append(int(state.step)))
    with pytest.raises(DivergenceError, match="a parameter is not finite at step 4" if bad == 4 else "loss is nan"):
        run(step, start(), Numbers(), TRAINING, hooks)
    assert saved == [2]


def test_a_gradient_that_is_not_finite():
    step = lambda state, batch: (state._replace(step=state.step + 1), {"loss": 1.0, "gradient_norm": np.inf})  # noqa: E731
    with pytest.raises(DivergenceError, match="the gradient norm is inf at step 1"):
        run(step, start(), Numbers(), TRAINING, Hooks(lambda entry: None, lambda *given: pytest.fail("saved")))


def test_batches_are_put_in_order_before_they_are_used():
    put = []
    step = lambda state, batch: (state._replace(step=state.step + 1), {"loss": batch})  # noqa: E731
    logs = []
    hooks = Hooks(logs.append, lambda *given: None)
    run(step, start(), Numbers(), TRAINING, hooks, lambda batch: put.append(batch) or 2.0 * batch)
    assert put == list(range(1, 8)) and logs[0]["loss"] == 4.0


def test_time_without_a_batch_is_counted(monkeypatch):
    """With a clock that ticks at every look: the device is done at once, and then every wait is one for data."""
    clock = itertools.count()
    monkeypatch.setattr("autofocus_jax.training.loop.time.perf_counter", lambda: float(next(clock)))
    taken = Taken(dataclasses.replace(TRAINING, steps=3))
    assert 0 < taken.logs[0]["data_wait"] <= 1
