"""From the scores of all anchors of a map to a few boxes: the best anchors, and NMS among them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autofocus_jax.boxes import clip
from autofocus_jax.config import AnchorConfig
from autofocus_jax.detector.anchors import anchors_at
from autofocus_jax.detector.coding import decode
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.nms import nms
from autofocus_jax.structures import STRIDE, Array


def share(most: int, least: int, area: int | None, height: Any, width: Any) -> Any:
    """How many boxes a chip of this size gets: `most` from `area` on, else in proportion to its cells.

    Args:
      most, least: bounds of the answer. area: chip px^2; None gives `most` to all.
      height, width: of the chip, px; ints, or integer arrays of one shape, as which the answer comes back.
    """
    if area is None:
        return most
    cells = -(-height // STRIDE) * -(-width // STRIDE)
    count = -(-most * cells // (area // STRIDE**2))
    clip_to = np.clip if isinstance(count, int) else jnp.clip
    return clip_to(count, min(least, most), most)


def slots(most: int, least: int, area: int | None, size: Array, height: int, width: int) -> Array:
    """[B, N] bool, the boxes that each chip may have: `share` of its true size [B, 2], px.

    The bucket (height, width, px) sets N: a power of two or `most`, so that it is the same for many buckets.
    """
    rows = min(1 << (int(share(most, least, area, height, width)) - 1).bit_length(), most)
    own = jnp.reshape(share(most, least, area, size[:, 0], size[:, 1]), (-1, 1))
    return jnp.broadcast_to(jnp.arange(rows) < own, (len(size), rows))


def best_anchors(scores: Array, size: Array, count: int, config: AnchorConfig) -> tuple[Array, Array, Array]:
    """The anchors of highest score, best first: scores [B, M], places [B, M] in the flat map, anchors [B, M, 4].

    As in the authors' release, cells that the true size does not fill never propose; unlike there, a chip below 16 px
    keeps its one cell. M = count; rows that hold no anchor have score -1.

    Args: scores: [B, h, w, A], not below 0. size: [B, 2] int, true (height, width), px.
    """
    _, height, width, shapes = scores.shape
    filled = true_cells(jnp.maximum(size // STRIDE, 1) * STRIDE, height, width, STRIDE)
    scores = jnp.where(filled, scores, -1).reshape(size.shape[0], -1)
    # Rows without an anchor come last, so that even the smallest map has M rows.
    scores = jnp.pad(scores, ((0, 0), (0, count)), constant_values=-1)
    best, order = jax.lax.top_k(scores, count)
    order = jnp.minimum(order, height * width * shapes - 1)
    return best, order, anchors_at(order, width, config)


def suppressed(
    scores: Array, deltas: Array, references: Array, size: Array, slots: Array, iou: float, least: float = 0.0
) -> tuple[Array, Array, Array]:
    """Anchors moved by their deltas, clipped to the true size and thinned by NMS.

    Args:
      scores, deltas, references: [B, M], [B, M, 4], [B, M, 4] of the anchors, best first; score -1 for none.
      size: [B, 2] int, true (height, width), px. slots: [B, N] bool, True for the first rows, as many as a chip may
        have. iou: above which a worse box goes. least: chip px that a box past a border keeps inside it.

    Returns: boxes [B, N, 4] chip frame, index [B, N] into the M rows, kept [B, N] bool.
    """

    def one_chip(best, deltas, references, size, slots):
        boxes = clip(decode(deltas, references), size[0], size[1])
        low = jnp.minimum(boxes[:, :2], jnp.maximum(size[::-1] - least, 0))
        boxes = jnp.concatenate([low, jnp.maximum(boxes[:, 2:], least)], axis=1)
        index, kept = nms(boxes, best >= 0, iou, len(slots), slots.sum())
        return jnp.where(kept[:, None], boxes[index], 0), index, kept

    return jax.vmap(one_chip)(scores, deltas, references, size, slots)
