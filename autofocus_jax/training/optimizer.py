"""SGD with momentum, warm-up and weight decay (section 4 of SNIPER, section 5 of the paper)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from autofocus_jax.config import Config, TrainingConfig
from autofocus_jax.detector.kinds import detector_of


def schedule(training: TrainingConfig) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up, then one drop by 10 at `drop_at`, or a cosine to 0.

    With reference_batch, both rates grow with the batch, and the warm-up takes as many chips as with the reference
    batch (linear scaling rule, Goyal et al. 2017). The warm-up takes at most half of the steps.
    """
    growth = 1.0 if training.reference_batch is None else training.batch / training.reference_batch
    start, full = growth * training.warmup_learning_rate, growth * training.learning_rate
    warmup = min(round(training.warmup_steps / growth), training.steps // 2)
    rise = optax.linear_schedule(start, full, max(warmup, 1))
    if training.drop_at is None:
        rest = optax.cosine_decay_schedule(full, max(training.steps - warmup, 1))
    else:
        drop = round(training.drop_at * training.steps) - warmup
        rest = optax.piecewise_constant_schedule(full, {drop: 0.1})
    return optax.join_schedules([rise, rest], [warmup])


def optimizer(config: Config) -> optax.GradientTransformation:
    """Return SGD with gradient clipping (if set), L2 decay of the trained kernels, momentum and the schedule."""
    training, detector = config.training, detector_of(config.detector)

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        names = tuple(part.key for part in path)
        return names[-1] == "kernel" and not detector.frozen(names, training.frozen_stages)

    return optax.chain(
        optax.identity() if training.gradient_norm is None else optax.clip_by_global_norm(training.gradient_norm),
        optax.add_decayed_weights(
            training.weight_decay, mask=lambda params: jax.tree_util.tree_map_with_path(decays, params)
        ),
        optax.sgd(schedule(training), momentum=training.momentum),
    )


def average(ema: Any, params: Any, step: Any, decay: float) -> Any:
    """Return the moving average of parameters after step number `step` (from 0).

    The decay starts at 0.1 and rises with the steps, (1 + step) / (10 + step), up to `decay`. So a run shorter than 1 /
    (1 - decay) steps forgets its random start too.

    Args:
        ema: the average before the step.
        params: the parameters after the step.
        step: number of the step, from 0.
        decay: the largest decay.
    """
    return optax.incremental_update(params, ema, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))
