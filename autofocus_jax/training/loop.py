"""The training loop: takes batches, returns states, writes a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from autofocus_jax.config import TrainingConfig
from autofocus_jax.errors import DivergenceError
from autofocus_jax.structures import TrainBatch, TrainState
from autofocus_jax.training.pipeline import Position

AHEAD = 8  # steps that may wait for the device; they keep it busy, and their batches lie in its memory

Step = Callable[[TrainState, TrainBatch], tuple[TrainState, dict]]


class Source(Protocol):
    """Endless batches. `position` is the position of the next batch."""

    position: Position

    def __next__(self) -> TrainBatch: ...


class Hooks(NamedTuple):
    """Functions that the loop calls after a step.

    Attributes:
        log: called every log_every steps and after the last one, with means over the steps since the last call.
        save: called every checkpoint_every steps, after a validation and after the last step, with the state, the
            position of the next batch, and the scores of a validation of that state, if there was one.
        validate: called every validate_every steps and after the last one; None: never. If it raises, the state is
            saved first.
        diverged: called with the step, the position of its batch and the step's info when numbers are not finite. Its
            answer, the name of the kept batch, ends the error's message.
        stop: called after every step; True ends the training.
    """

    log: Callable[[dict[str, float]], None]
    save: Callable[[TrainState, Position, Mapping[str, Any] | None], None]
    validate: Callable[[TrainState], Mapping[str, Any]] | None = None
    diverged: Callable[[int, Position, dict[str, float]], str] = lambda step, position, info: ""
    stop: Callable[[int], bool] = lambda step: False


class Taken(NamedTuple):
    """A step that was sent to the device."""

    number: int
    position: Position  # of its batch
    info: dict
    asked: float  # when its batch was asked for, s
    got: float  # and when it came
    finished: Future[float]  # when the device is done


def run(
    step: Step, state: TrainState, batches: Source, training: TrainingConfig, hooks: Hooks,
    put: Callable[[TrainBatch], TrainBatch] = lambda batch: batch,
) -> TrainState:  # fmt: skip
    """Take steps until training.steps, or until hooks.stop returns True. The state's step is the number of steps taken.

    Steps are sent ahead of the device, at most AHEAD of them. Their info is fetched only for a log or a checkpoint. The
    log has the step's info, "chips_per_second", and "data_wait": the share of time in which the device waited for a
    batch.

    Args:
        step: (state, batch) -> (state, info).
        state: the state to start from.
        batches: endless batches.
        training: the settings.
        hooks: functions to call.
        put: sends a batch to the devices without waiting.

    Raises:
        DivergenceError: the loss or the gradient's norm was not finite since the last log or checkpoint, or the
            parameters are not. No such state is saved, and earlier checkpoints stay.
    """
    record = _Record(hooks)
    with ThreadPoolExecutor(1, "finished") as watcher:
        for number in range(int(state.step) + 1, training.steps + 1):
            position, asked = batches.position, time.perf_counter()
            batch = put(next(batches))
            got = time.perf_counter()
            state, info = step(state, batch)
            taken = Taken(number, position, info, asked, got, watcher.submit(_finished, info))
            record.sent.append(taken)
            if len(record.sent) > AHEAD:
                record.sent[-1 - AHEAD].finished.result()
            stopping = hooks.stop(number) and number < training.steps
            last = stopping or number == training.steps
            logging = last or number % training.log_every == 0
            every = training.validate_every or training.steps
            validating = hooks.validate is not None and not stopping and (last or number % every == 0)
            saving = last or validating or number % training.checkpoint_every == 0
            if logging or saving:
                record.fetch()
            if saving and not _finite(state.params):
                raise _diverged("a parameter is not finite", taken, record.done[-1], hooks)
            if logging:
                hooks.log(record.entry(number, training.batch))
            before = time.perf_counter()
            scores = _validated(hooks, state, batches.position) if validating else None
            record.since += time.perf_counter() - before
            if saving:
                hooks.save(state, batches.position, scores)
            if last:
                break
    return state


class _Record:
    """Info of the steps since the last log, and how long the device waited for their batches."""

    def __init__(self, hooks: Hooks):
        self.hooks, self.data_wait = hooks, 0.0
        self.sent: list[Taken] = []  # since the last fetch
        self.done: list[dict[str, float]] = []  # what the others returned
        self.since = self.idle_from = time.perf_counter()

    def fetch(self) -> None:
        """Wait for the steps that were sent, and check them; DivergenceError."""
        for taken, info in zip(self.sent, jax.device_get([taken.info for taken in self.sent])):
            info = {name: float(value) for name, value in info.items()}
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(info.get(name, 0.0)):
                    raise _diverged(f"the {name.replace('_', ' ')} is {info[name]}", taken, info, self.hooks)
            self.done.append(info)
            self.data_wait += max(0.0, taken.got - max(taken.asked, self.idle_from))
            self.idle_from = taken.finished.result()
        self.sent = []

    def entry(self, number: int, batch: int) -> dict[str, float]:
        """Return what is logged at a step, and begin anew."""
        now = time.perf_counter()
        means = {name: math.fsum(entry[name] for entry in self.done) / len(self.done) for name in self.done[0]}
        speed, waited = len(self.done) * batch / (now - self.since), self.data_wait / (now - self.since)
        self.done, self.data_wait, self.since = [], 0.0, now
        return {"step": number, **means, "chips_per_second": speed, "data_wait": waited}


def _validated(hooks: Hooks, state: TrainState, position: Position) -> Mapping[str, Any]:
    assert hooks.validate is not None
    try:
        return hooks.validate(state)
    except BaseException:  # what was trained is not lost with it
        hooks.save(state, position, None)
        raise


def _finished(info: dict) -> float:
    """Wait until the device has computed a step's info; return the time."""
    jax.block_until_ready(info)
    return time.perf_counter()


@jax.jit
def _all_finite(arrays: list[jax.Array]) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(array).all() for array in arrays] or [True]))


def _finite(params: Any) -> bool:
    return bool(_all_finite(jax.tree.leaves(params)))


def _diverged(what: str, taken: Taken, info: dict[str, float], hooks: Hooks) -> DivergenceError:
    kept = hooks.diverged(taken.number, taken.position, info)
    advice = "lower training.learning_rate or look at the data"
    return DivergenceError(f"{what} at step {taken.number}; {advice}{f' ({kept})' if kept else ''}")
