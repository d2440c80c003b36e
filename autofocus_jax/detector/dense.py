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
    """Return the number of boxes for a chip of this size: `most` from `area` on, else in proportion to its area.

    Args:
        most: upper bound.
        least: lower bound.
        area: chip px^2; None gives `most` to all chips.
        height: of the chip, px; an int, or an integer array, whose shape the answer has.
        width: of the chip, px; as height.
    """
    if area is None:
        return most
    cells = -(-height // STRIDE) * -(-width // STRIDE)
    count = -(-most * cells // (area // STRIDE**2))
    clip_to = np.clip if isinstance(count, int) else jnp.clip
    return clip_to(count, min(least, most), most)


def slots(most: int, least: int, area: int | None, size: Array, height: int, width: int) -> Array:
    """Return which boxes each chip may have, [B, N] bool: `share` of its true size [B, 2], px.

    The bucket (height, width, px) fixes N: a power of two, three quarters of one, or `most`. So N is the same for many
    buckets, and few rows are empty. The chip's own size fixes how many of the N rows are valid.
    """
    wanted = int(share(most, least, area, height, width))
    above = 1 << (wanted - 1).bit_length()
    rows = min(above if 4 * wanted > 3 * above else -(-3 * above // 4), most)
    own = jnp.reshape(share(most, least, area, size[:, 0], size[:, 1]), (-1, 1))
    return jnp.broadcast_to(jnp.arange(rows) < own, (len(size), rows))


def best_anchors(scores: Array, size: Array, count: int, config: AnchorConfig) -> tuple[Array, Array, Array]:
    """Return the anchors of highest score, best first.

    As in the authors' release, cells that the true size does not fill never propose. Unlike there, a chip below 16 px
    keeps its one cell.

    Args:
        scores: [B, h, w, A], not below 0.
        size: [B, 2] int, true (height, width), px.
        count: M, number of anchors to return.
        config: the anchors.

    Returns:
        scores [B, M], places [B, M] in the flat map, anchors [B, M, 4]. Rows without an anchor have score -1.
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
    """Return anchors moved by their deltas, clipped to the true size and thinned by NMS.

    Args:
        scores: [B, M], best first; -1 for rows without an anchor.
        deltas: [B, M, 4].
        references: [B, M, 4], the anchors.
        size: [B, 2] int, true (height, width), px.
        slots: [B, N] bool, True for the first rows, as many as a chip may have.
        iou: IoU above which the worse box is dropped.
        least: chip px that a box past a border keeps inside the border.

    Returns:
        boxes [B, N, 4] chip frame, index [B, N] into the M rows, kept [B, N] bool.
    """

    def one_chip(best, deltas, references, size, slots):
        boxes = clip(decode(deltas, references), size[0], size[1])
        low = jnp.minimum(boxes[:, :2], jnp.maximum(size[::-1] - least, 0))
        boxes = jnp.concatenate([low, jnp.maximum(boxes[:, 2:], least)], axis=1)
        index, kept = nms(boxes, best >= 0, iou, len(slots), slots.sum())
        return jnp.where(kept[:, None], boxes[index], 0), index, kept

    return jax.vmap(one_chip)(scores, deltas, references, size, slots)
