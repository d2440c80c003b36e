"""Boxes as deltas against reference boxes (Girshick et al. 2014), half-open, so without the release's +1 and -1."""

from __future__ import annotations

import math

import jax.numpy as jnp

from autofocus_jax.structures import Array

_LARGEST = math.log(1000 / 16)  # a log-ratio past this only comes from an untrained network, and would overflow


def encode(boxes: Array, references: Array, deviations: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """Return deltas [..., 4] (dx, dy, dw, dh) / deviations, the inverse of `decode`; sides must be above 0."""
    centre, side = _centre_and_side(boxes)
    centre_reference, side_reference = _centre_and_side(references)
    move = (centre - centre_reference) / side_reference
    return jnp.concatenate([move, jnp.log(side / side_reference)], axis=-1) / jnp.asarray(deviations)


def decode(deltas: Array, references: Array, deviations: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """Return boxes [..., 4] of deltas [..., 4] and references [..., 4], in the frame of the references."""
    deltas = deltas * jnp.asarray(deviations)
    centre_reference, side_reference = _centre_and_side(references)
    centre = deltas[..., :2] * side_reference + centre_reference
    half = jnp.exp(jnp.minimum(deltas[..., 2:], _LARGEST)) * side_reference / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def _centre_and_side(boxes: Array) -> tuple[Array, Array]:
    side = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + side / 2, side
