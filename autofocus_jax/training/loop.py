"""The loop of training: batches in, states and a log out."""

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
    """Batches without end that know where they are; position is that of the batch that comes next."""

    position: Position

    def __next__(self) -> TrainBatch: ...


class Hooks(NamedTuple):
    """What the loop calls, and when; each after the step it speaks of.

    log: every log_every steps and after the last one, with means over the steps since the last call.
    save: every checkpoint_every steps, after a validation and after the last step, with the state, the position of the
      next batch, and the scores of a validation of that state, if there was one.
    validate: every validate_every steps, and after the last one; None: never. When it raises, the state is saved first.
    diverged: where the numbers went bad: step, position of its batch, what the step returned. Its answer, what was kept
      to look at, ends the error's message.
    stop: asked after every step whether it is to be the last.
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
    """Takes steps until training.steps, or until hooks.stop says so; the state's step tells which.

    put: takes a batch to the devices, without waiting. Steps are sent ahead of the device, AHEAD of them at most, and
    what they return is fetched only for a log or a checkpoint. The log has what the step returned, "chips_per_second",
    and "data_wait": the fraction of the time in which the device had nothing to do because a batch was not there.

    Raises DivergenceError when the loss or the gradient's norm was not finite since the last log or checkpoint, or the
    parameters are not: no such state is saved, and what was saved before stays.
    """
    sent: list[Taken] = []  # since the last fetch
    done: list[dict[str, float]] = []  # what the others since the last log returned
    since = idle_from = time.perf_counter()
    data_wait = 0.0

    def fetch() -> None:
        """Waits for the steps that were sent, and checks them."""
        nonlocal data_wait, idle_from
        for taken, info in zip(sent, jax.device_get([taken.info for taken in sent])):
            info = {name: float(value) for name, value in info.items()}
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(info.get(name, 0.0)):
                    raise _diverged(f"the {name.replace('_', ' ')} is {info[name]}", taken, info, hooks)
            done.append(info)
            data_wait += max(0.0, taken.got - max(taken.asked, idle_from))
            idle_from = taken.finished.result()

    with ThreadPoolExecutor(1, "finished") as watcher:
        for number in range(int(state.step) + 1, training.steps + 1):
            position, asked = batches.position, time.perf_counter()
            batch = put(next(batches))
            got = time.perf_counter()
            state, info = step(state, batch)
            taken = Taken(number, position, info, asked, got, watcher.submit(_finished, info))
            sent.append(taken)
            if len(sent) > AHEAD:
                sent[-1 - AHEAD].finished.result()
            stopping = hooks.stop(number) and number < training.steps
            last = stopping or number == training.steps
            logging = last or number % training.log_every == 0
            every = training.validate_every or training.steps
            validating = hooks.validate and not stopping and (last or number % every == 0)
            saving = last or validating or number % training.checkpoint_every == 0
            if logging or saving:
                fetch()
                sent = []
            if saving and not _finite(state.params):
                raise _diverged("a parameter is not finite", taken, done[-1], hooks)
            if logging:
                now = time.perf_counter()
                means = {name: math.fsum(entry[name] for entry in done) / len(done) for name in done[0]}
                speed = len(done) * training.batch / (now - since)
                hooks.log({"step": number, **means, "chips_per_second": speed, "data_wait": data_wait / (now - since)})
                done, data_wait, since = [], 0.0, now
            scores = None
            if validating and hooks.validate is not None:
                before = time.perf_counter()
                try:
                    scores = hooks.validate(state)
                except BaseException:  # what was trained is not lost with it
                    hooks.save(state, batches.position, None)
                    raise
                since += time.perf_counter() - before
            if saving:
                hooks.save(state, batches.position, scores)
            if last:
                break
    return state


def _finished(info: dict) -> float:
    """Waits until the device has computed what a step returns; when that was."""
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
