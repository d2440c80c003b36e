"""SGD with momentum, warm-up and weight decay (section 4 of SNIPER, section 5 of the paper)."""

from __future__ import annotations

import jax
import optax

from autofocus_jax.config import TrainingConfig


def schedule(training: TrainingConfig) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then one drop by 10 at `drop_at` of the steps, or a cosine to 0."""
    warmup = min(training.warmup_steps, training.steps // 2)
    rise = optax.linear_schedule(training.warmup_learning_rate, training.learning_rate, max(warmup, 1))
    if training.drop_at is None:
        rest = optax.cosine_decay_schedule(training.learning_rate, max(training.steps - warmup, 1))
    else:
        drop = round(training.drop_at * training.steps) - warmup
        rest = optax.piecewise_constant_schedule(training.learning_rate, {drop: 0.1})
    return optax.join_schedules([rise, rest], [warmup])


def optimizer(training: TrainingConfig) -> optax.GradientTransformation:
    """Gradients clipped to a global norm, L2 decay of kernels alone, momentum, then the schedule."""
    return optax.chain(
        optax.clip_by_global_norm(training.gradient_norm),
        optax.add_decayed_weights(
            training.weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params),
        ),
        optax.sgd(schedule(training), momentum=training.momentum),
    )
