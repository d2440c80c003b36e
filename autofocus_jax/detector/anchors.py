"""Anchors of the region proposal network."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from autofocus_jax.config import AnchorConfig
from autofocus_jax.structures import STRIDE, Array

_BASE = 16  # px; shapes are rounded at this size and then enlarged (the authors' release)


def anchor_shapes(config: AnchorConfig) -> np.ndarray:
    """Return anchor shapes [A, 2] float32 (width, height), chip px: all sizes of the first ratio, then of the next."""
    ratios = np.asarray(config.ratios, np.float64)
    width = np.round(np.sqrt(_BASE**2 / ratios))
    height = np.round(width * ratios)
    base = np.stack([width, height], axis=-1)[:, None] / _BASE
    return (base * np.asarray(config.sizes)[:, None]).reshape(-1, 2).astype(np.float32)


def anchors(height: int, width: int, config: AnchorConfig) -> np.ndarray:
    """Return anchors [height, width, A, 4] float32 (chip frame), centred at the middle of each cell (row, column)."""
    half = anchor_shapes(config) / 2
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    centre = (np.stack([x, y], axis=-1)[:, :, None] * STRIDE + STRIDE / 2).astype(np.float32)
    return np.concatenate([centre - half, centre + half], axis=-1)


def anchors_at(index: Array, width: int, config: AnchorConfig) -> Array:
    """Return the anchors at these places of a flattened map `width` cells wide: [...] int -> [..., 4] float32.

    The map's height and width may be symbolic dimensions of jax.export.
    """
    half = jnp.asarray(anchor_shapes(config) / 2)
    cell, shape = index // len(half), index % len(half)
    centre = jnp.stack([cell % width, cell // width], axis=-1) * STRIDE + STRIDE / 2
    return jnp.concatenate([centre - half[shape], centre + half[shape]], axis=-1)
