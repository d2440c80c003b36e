"""Which anchors and RoIs train what: matching with the objects of a chip, and samples of fixed size from them.

Sizes out of the scale's valid range (SNIP) and ignore regions train nothing: what lies on them is neither object nor
background.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from autofocus_jax.boxes import coverage, iou
from autofocus_jax.structures import Array

OBJECT, NOTHING, UNUSED = 1, 0, -1


class Match(NamedTuple):
    """For n candidate boxes of one chip."""

    label: Array  # [n] int32: OBJECT, NOTHING (background) or UNUSED
    index: Array  # type: ignore[assignment]  # [n] int32, the object that overlaps most


class Sample(NamedTuple):
    positive: Array  # [n] bool
    negative: Array  # [n] bool


def match(
    candidates: Array, boxes: Array, labels: Array, present: Array, trainable: Array, *,
    positive_iou: float, negative_iou: float, ignore_iou: float, best_is_positive: bool,
) -> Match:  # fmt: skip
    """Labels candidate boxes by their overlap with the objects of one chip.

    OBJECT: IoU with a trainable box >= positive_iou, or, with best_is_positive, a candidate no other overlaps that
    box more than. NOTHING: below negative_iou with all of them. UNUSED: in between; also background candidates with IoU
    > ignore_iou with a box that is present but not trainable, or half inside an ignore region (label -1), however
    large.

    Args:
      candidates: [n, 4]. boxes: [G, 4]. labels: [G] int32. present, trainable: [G] bool. All in the chip frame.
    """
    overlap = iou(candidates, boxes)
    trained = jnp.where(trainable, overlap, 0)
    most = trained.max(axis=1)
    positive = most >= positive_iou
    if best_is_positive:
        best = jnp.where(trainable, trained.max(axis=0), jnp.inf)
        positive |= ((trained >= best - 1e-6) & (best > 0) & trainable).any(axis=1)
    region = present & (labels < 0)
    avoid = (jnp.where(present & ~trainable & ~region, overlap, 0) > ignore_iou).any(axis=1)
    avoid |= (jnp.where(region, coverage(candidates, boxes), 0) > 0.5).any(axis=1)
    label = jnp.where(positive, OBJECT, jnp.where((most < negative_iou) & ~avoid, NOTHING, UNUSED))
    return Match(label, trained.argmax(axis=1).astype(jnp.int32))


def sample(key: Array, label: Array, count: int, positive_share: float) -> Sample:
    """A random set of at most `count` candidates, at most positive_share of them OBJECT, the rest NOTHING.

    Args: label: [n] int32 of match. Returns masks over the n candidates.
    """
    n = label.shape[0]
    priority = jax.random.uniform(key, (n,), minval=0.001)
    most_positive = min(n, max(1, int(count * positive_share)))
    positive = _first(jnp.where(label == OBJECT, priority, 0), most_positive, jnp.int32(most_positive))
    rest = jnp.int32(count) - positive.sum()
    negative = _first(jnp.where(label == NOTHING, priority, 0), min(n, count), rest)
    return Sample(positive, negative)


def hardest(cost: Array, label: Array, count: int) -> Array:
    """Mask [n] of the at most `count` candidates that cost most, of those with label >= 0; for OHEM.

    As in the authors' release (operator_py/box_annotator_ohem): by chip, the sum of both losses decides, objects and
    background compete, none suppresses its neighbours. Args: cost: [n], not below 0. label: [n] int32.
    """
    used = label >= 0
    _, order = jax.lax.top_k(jnp.where(used, cost, -1), min(count, len(label)))
    return jnp.zeros(len(label), bool).at[order].set(True) & used


def _first(priority: Array, capacity: int, count: Array) -> Array:
    """Mask of the `count` (at most capacity) largest priorities that are above 0."""
    ranked = jax.lax.top_k(priority, capacity)[0]
    last = jnp.clip(count, 1, capacity) - 1
    return (priority >= jnp.maximum(ranked[last], 1e-6)) & (count > 0)
