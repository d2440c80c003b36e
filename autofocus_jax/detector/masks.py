"""Masks that tell a chip's cells from its padding."""

from __future__ import annotations

import jax.numpy as jnp

from autofocus_jax.structures import Array


def true_cells(size: Array, height: int, width: int, stride: int) -> Array:
    """Return which cells of a map touch the true size of their chip.

    Args:
        size: [B, 2] int, true (height, width) in chip px.
        height: rows of the map.
        width: columns of the map.
        stride: chip px per cell.

    Returns:
        [B, height, width, 1] bool.
    """
    rows = jnp.arange(height) * stride < size[:, :1]
    columns = jnp.arange(width) * stride < size[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[..., None]
