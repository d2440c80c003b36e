"""One training step as a pure function, on one device or mapped over several: (state, batch) -> (state, info)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from autofocus_jax import parallel
from autofocus_jax.config import Config, ConfigError
from autofocus_jax.detector.api import Detector, Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.structures import Array, TrainBatch, TrainState
from autofocus_jax.training.optimizer import average

Step = Callable[[TrainState, TrainBatch], tuple[TrainState, dict[str, Array]]]


def initial_state(
    config: Config,
    transform: optax.GradientTransformation,
    put: Callable[[Variables], Variables] = lambda drawn: drawn,
) -> TrainState:
    """Return the state at step 0, with parameters drawn from the config's seed.

    Args:
        config: the settings.
        transform: the optimiser.
        put: function from the drawn variables to the variables to start from, of the same names and shapes.
    """
    key, parameters = jax.random.split(jax.random.key(config.seed))
    drawn = detector_of(config.detector).init(parameters)
    variables = jax.tree.map(jnp.array, put(drawn))  # copies, since a step may take them
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=transform.init(variables["params"]),
        key=key,
        ema=jax.tree.map(jnp.array, variables["params"]) if config.training.ema else None,
    )


def make_step(
    config: Config,
    transform: optax.GradientTransformation,
    over: Mesh | None = None,
    detector: Detector | None = None,
) -> Step:
    """Return the step of a config, not yet jitted.

    Its info holds the parts of the loss, their sum and the gradient norm. The loss is the mean over the valid rows of
    the whole batch. Random draws for a row depend on (state.key, state.step, number of the row). So the number of
    devices changes only the order of sums, unless batch norms use the statistics of each device.

    Args:
        config: the settings.
        transform: the optimiser.
        over: devices that each take a slice of the batch and a copy of the state. Info and the new state are the same
            on all. None, or one device, is not mapped.
        detector: the detector whose loss is trained; by default config.detector's.

    Raises:
        ConfigError: training.batch does not split over the devices.
    """
    training, detector = config.training, detector or detector_of(config.detector)
    devices = 1 if over is None else over.size
    axis = None if devices == 1 else parallel.AXIS
    if training.batch % devices:
        raise ConfigError(f"training.batch {training.batch} does not split over {devices} devices; want a multiple")

    def step(state: TrainState, batch: TrainBatch) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)

        def total(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return detector.loss(training, variables, batch, key, axis)

        (value, (parts, batch_stats)), gradient = jax.value_and_grad(total, has_aux=True)(state.params)
        if axis is not None:
            value, parts, gradient = jax.lax.psum((value, parts, gradient), axis)
            batch_stats = _mean_change(state.batch_stats, batch_stats, axis)
        updates, opt_state = transform.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = average(state.ema, params, state.step, training.ema) if training.ema else state.ema
        info = {"loss": value, **parts, "gradient_norm": optax.tree.norm(gradient)}
        return TrainState(state.step + 1, params, batch_stats, opt_state, state.key, ema), info

    return step if axis is None or over is None else parallel.pmap(step, over, (True, False), out_replicated=True)


def variables(state: TrainState) -> Variables:
    """Return the variables of a state for detection: the averaged parameters if the state has a moving average."""
    return {"params": state.params if state.ema is None else state.ema, "batch_stats": state.batch_stats}


def _mean_change(before: Any, after: Any, axis: str) -> Any:
    """Batch statistics averaged over the devices; what did not change stays as it is, to the bit."""
    change = jax.lax.pmean(jax.tree.map(jnp.subtract, after, before), axis)
    return jax.tree.map(jnp.add, before, change)
