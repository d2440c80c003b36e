"""Shared parts of all losses: random keys by row, means over rows, targets of boxes, the FocusPixel loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.coding import encode
from autofocus_jax.structures import FOCUS, IGNORE, Array, TrainBatch


def trained(network: nn.Module, variables: Variables, batch: TrainBatch) -> tuple[Any, Variables]:
    """Return the answer of `network.maps` in training, and the updated batch statistics."""
    maps, updates = network.apply(
        variables, batch.chips.pixels, batch.chips.size, True, method="maps", mutable="batch_stats"
    )
    return maps, updates.get("batch_stats", {})


def row_keys(key: Array, rows: int, axis: str | None) -> Array:
    """Return two keys [rows, 2] for each row, from its number in the whole batch."""
    first = 0 if axis is None else jax.lax.axis_index(axis) * rows
    own = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(rows))
    return jax.vmap(jax.random.split)(own)


def total(values: Array, axis: str | None) -> Array:
    """Return the sum [] float32 of values [B] over the whole batch, spread over the devices of `axis`."""
    own = values.astype(jnp.float32).sum()
    return own if axis is None else jax.lax.psum(own, axis)


def means(parts: dict[str, Array], valid: Array, axis: str | None) -> dict[str, Array]:
    """Return sums of parts [B] over the valid rows, divided by the number of valid rows in the whole batch."""
    count = jnp.maximum(total(valid, axis), 1)
    return {name: jnp.where(valid, value, 0).sum() / count for name, value in parts.items()}


def focus_loss(logits: Array, labels: Array) -> Array:
    """Return the cross-entropy of each chip [B], averaged over its cells that are not IGNORE (section 4.1).

    Args:
        logits: [B, h, w, 2], background first.
        labels: [B, h, w] of FOCUS, BACKGROUND, IGNORE.
    """
    used = (labels != IGNORE).astype(jnp.float32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, (labels == FOCUS).astype(jnp.int32))
    return (entropy * used).sum((1, 2)) / jnp.maximum(used.sum((1, 2)), 1)


def delta_targets(boxes: Array, references: Array, positive: Array, deviations=(1.0, 1.0, 1.0, 1.0)) -> Array:
    """Return deltas of the positive rows, and 0 elsewhere, where a side of 0 would make the gradient NaN."""
    unit = jnp.asarray([0.0, 0.0, 1.0, 1.0])
    boxes = jnp.where(positive[..., None], boxes, unit)
    references = jnp.where(positive[..., None], references, unit)
    return encode(boxes, references, deviations)
