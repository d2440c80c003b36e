"""Greedy non-maximum suppression of fixed shape, exact, on the device.

There are two forms with equal answers. A CPU goes from survivor to survivor, with n overlaps each. Other devices
compute all n * n overlaps at once, because they are slow at steps one after the other.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from autofocus_jax.boxes import iou
from autofocus_jax.structures import Array


def nms(
    boxes: Array, valid: Array, threshold: float, count: int, limit: Array | int | None = None
) -> tuple[Array, Array]:
    """Return the first `count` boxes that greedy suppression keeps.

    Args:
        boxes: [n, 4] sorted by falling score.
        valid: [n] bool, False for rows to skip.
        threshold: IoU with a kept box above which a box is suppressed.
        count: capacity of the answer.
        limit: number of boxes wanted, at most `count`; by default `count`.

    Returns:
        indices [count] int32 into boxes, in order of score, and kept [count] bool, False past the last survivor.
    """
    limit = jnp.int32(count if limit is None else limit)
    forms = {"cpu": partial(by_survivor, count=count), "default": partial(in_rounds, count=count)}
    return jax.lax.platform_dependent(boxes, valid, jnp.float32(threshold), limit, **forms)


def by_survivor(boxes: Array, valid: Array, threshold: Array, limit: Array, count: int) -> tuple[Array, Array]:
    """Run `nms` as a loop over the boxes that are kept; the cost is count * n and not n * n."""
    n = boxes.shape[0]

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


def in_rounds(boxes: Array, valid: Array, threshold: Array, limit: Array, count: int) -> tuple[Array, Array]:
    """Run `nms` on the matrix of all overlaps, in rounds.

    A box is kept if no kept box before it overlaps it. This has one solution. Each round applies the rule to the last
    round's answer. After r rounds the first r boxes are right, and often all, so the loop ends when nothing changes.
    """
    n = boxes.shape[0]
    before = jnp.arange(n)[:, None] < jnp.arange(n)
    rules_out = ~(iou(boxes, boxes) <= threshold) & before

    def apply(carry):
        kept, _ = carry
        new = valid & ~(rules_out & kept[:, None]).any(axis=0)
        return new, (new != kept).any()

    kept, _ = jax.lax.while_loop(lambda carry: carry[1], apply, (valid, valid.any()))
    (indices,) = jnp.nonzero(kept, size=count, fill_value=0)
    return indices.astype(jnp.int32), jnp.arange(count) < jnp.minimum(kept.sum(), limit)
