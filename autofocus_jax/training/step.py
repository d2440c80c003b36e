"""One step of training as a pure function: (state, batch) -> (state, info)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from autofocus_jax.config import Config
from autofocus_jax.detector.losses import loss
from autofocus_jax.detector.model import Variables, init
from autofocus_jax.structures import Array, TrainBatch, TrainState


def initial_state(
    config: Config,
    transform: optax.GradientTransformation,
    put: Callable[[Variables], Variables] = lambda drawn: drawn,
) -> TrainState:
    """Step 0, with parameters drawn from the config's seed.

    put: gives variables to start from in their place, of the same names and shapes, from those drawn.
    """
    key, parameters = jax.random.split(jax.random.key(config.seed))
    variables = jax.tree.map(jnp.array, put(init(parameters, config.detector)))  # copies, since a step may take them
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=transform.init(variables["params"]),
        key=key,
    )


def make_step(
    config: Config, transform: optax.GradientTransformation
) -> Callable[[TrainState, TrainBatch], tuple[TrainState, dict[str, Array]]]:
    """The step of a config; not yet jitted. Its info holds the parts of the loss, their sum and the gradient norm."""

    def step(state: TrainState, batch: TrainBatch) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)

        def total(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return loss(config.detector, config.training, variables, batch, key)

        (value, (parts, batch_stats)), gradient = jax.value_and_grad(total, has_aux=True)(state.params)
        updates, opt_state = transform.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        info = {"loss": value, **parts, "gradient_norm": optax.tree.norm(gradient)}
        return TrainState(state.step + 1, params, batch_stats, opt_state, state.key), info

    return step


def variables(state: TrainState) -> Variables:
    """What detection needs of a state."""
    return {"params": state.params, "batch_stats": state.batch_stats}
