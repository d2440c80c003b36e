"""The loop of training: batches in, states and a log out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import jax

from autofocus_jax.config import TrainingConfig
from autofocus_jax.structures import AutoFocusError, TrainBatch, TrainState

LOSSES = ("proposal_class", "proposal_box", "box_class", "box", "focus")  # parts that a step returns

Step = Callable[[TrainState, TrainBatch], tuple[TrainState, dict]]


class DivergenceError(AutoFocusError):
    """The loss is no longer a number."""


def run(
    step: Step, state: TrainState, batches: Iterator[TrainBatch], training: TrainingConfig,
    on_log: Callable[[dict], None], on_checkpoint: Callable[[TrainState], None],
) -> TrainState:  # fmt: skip
    """Takes steps until training.steps.

    on_log gets, every log_every steps, the means of what the step returned and chips per second; on_checkpoint gets the
    state every checkpoint_every steps and at the end. Results are fetched only when they are logged, so the device
    never waits for the host. Raises DivergenceError when a logged loss is not finite; the last checkpoint stays.
    """
    waiting: list[dict] = []
    since = time.perf_counter()
    for number in range(int(state.step) + 1, training.steps + 1):
        state, info = step(state, next(batches))
        waiting.append(info)
        last = number == training.steps
        if number % training.log_every == 0 or last:
            fetched = jax.device_get(waiting)
            means = {name: float(sum(entry[name] for entry in fetched)) / len(fetched) for name in fetched[0]}
            if not math.isfinite(means["loss"]):
                raise DivergenceError(
                    f"the loss is {means['loss']} at step {number}; lower training.learning_rate or look at the data"
                )
            now = time.perf_counter()
            speed = len(fetched) * training.batch / (now - since)
            on_log({"step": number, **means, "chips_per_second": speed})
            waiting, since = [], now
        if number % training.checkpoint_every == 0 or last:
            on_checkpoint(state)
    return state
