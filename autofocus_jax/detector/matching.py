"""Matching of anchors and RoIs with the objects of a chip, and random samples of fixed size from the matches.

Objects out of the scale's valid range (SNIP) and ignore regions train nothing: candidates on them are neither object
nor background.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from autofocus_jax.boxes import coverage, iou
from autofocus_jax.structures import Array

OBJECT, NOTHING, UNUSED = 1, 0, -1


class Match(NamedTuple):
    """Labels and targets of n candidate boxes of one chip."""

    label: Array  # [n] int32: OBJECT, NOTHING (background) or UNUSED
    index: Array  # type: ignore[assignment]  # [n] int32, the object that overlaps most


class Sample(NamedTuple):
    positive: Array  # [n] bool
    negative: Array  # [n] bool


def match(
    candidates: Array, boxes: Array, labels: Array, present: Array, trainable: Array, *,
    positive_iou: float, negative_iou: float, ignore_iou: float, best_is_positive: bool,
) -> Match:  # fmt: skip
    """Label candidate boxes by their overlap with the objects of one chip.

    - OBJECT: IoU with a trainable box of at least positive_iou. With best_is_positive, also the candidates that overlap
      a box most.
    - NOTHING: IoU below negative_iou with all trainable boxes.
    - UNUSED: IoU in between. Also background candidates with IoU > ignore_iou with a box that is present but not
      trainable, or more than half inside an ignore region (label -1), however large.

    Args:
        candidates: [n, 4], chip frame.
        boxes: [G, 4], chip frame.
        labels: [G] int32.
        present: [G] bool.
        trainable: [G] bool.
        positive_iou: see above.
        negative_iou: see above.
        ignore_iou: see above.
        best_is_positive: see above.
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
    """Draw at most `count` candidates at random, at most positive_share of them OBJECT, the rest NOTHING.

    Args:
        key: random key.
        label: [n] int32 of match.
        count: most candidates.
        positive_share: largest share of OBJECT.

    Returns:
        Masks over the n candidates.
    """
    n = label.shape[0]
    priority = jax.random.uniform(key, (n,), minval=0.001)
    most_positive = min(n, max(1, int(count * positive_share)))
    positive = _first(jnp.where(label == OBJECT, priority, 0), most_positive, jnp.int32(most_positive))
    rest = jnp.int32(count) - positive.sum()
    negative = _first(jnp.where(label == NOTHING, priority, 0), min(n, count), rest)
    return Sample(positive, negative)


def hardest(cost: Array, label: Array, count: int) -> Array:
    """Return a mask [n] of the at most `count` candidates with the highest cost, of those with label >= 0 (OHEM).

    As in the authors' release (operator_py/box_annotator_ohem), the choice is by chip and by the sum of both losses.
    Objects and background compete, and no candidate suppresses its neighbours.

    Args:
        cost: [n], not below 0.
        label: [n] int32.
        count: most candidates.
    """
    used = label >= 0
    _, order = jax.lax.top_k(jnp.where(used, cost, -1), min(count, len(label)))
    return jnp.zeros(len(label), bool).at[order].set(True) & used


def _first(priority: Array, capacity: int, count: Array) -> Array:
    """Mask of the `count` (at most capacity) largest priorities that are above 0."""
    ranked = jax.lax.top_k(priority, capacity)[0]
    last = jnp.clip(count, 1, capacity) - 1
    return (priority >= jnp.maximum(ranked[last], 1e-6)) & (count > 0)
