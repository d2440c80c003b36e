"""Greedy non-maximum suppression of fixed shape, exact, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from autofocus_jax.boxes import iou
from autofocus_jax.structures import Array


def nms(
    boxes: Array, valid: Array, threshold: float, count: int, limit: Array | int | None = None
) -> tuple[Array, Array]:
    """Return the first `count` boxes that greedy suppression keeps.

    Only survivors compute their overlaps, so the cost is count * n and not n * n.

    Args:
        boxes: [n, 4] sorted by falling score.
        valid: [n] bool, False for rows to skip.
        threshold: IoU with a kept box above which a box is suppressed.
        count: capacity of the answer.
        limit: number of boxes wanted, at most `count`; by default `count`.

    Returns:
        indices [count] int32 into boxes, in order of score, and kept [count] bool, False past the last survivor.
    """
    n = boxes.shape[0]
    limit = count if limit is None else limit

    def pending(carry):
        position, alive, _ = carry
        return (position < limit) & alive.any()

    def keep_best(carry):
        position, alive, indices = carry
        best = jnp.argmax(alive).astype(jnp.int32)
        overlap = iou(jax.lax.dynamic_slice_in_dim(boxes, best, 1), boxes)[0]
        alive = alive & (overlap <= threshold) & (jnp.arange(n) != best)
        return position + 1, alive, indices.at[position].set(best)

    start = (jnp.int32(0), valid, jnp.zeros(count, jnp.int32))
    kept, _, indices = jax.lax.while_loop(pending, keep_best, start)
    return indices, jnp.arange(count) < kept
