"""Anchors of the region proposal network."""

from __future__ import annotations

import numpy as np

from autofocus_jax.config import AnchorConfig
from autofocus_jax.structures import STRIDE

_BASE = 16  # px; shapes are rounded at this size and then enlarged (the authors' release)


def anchor_shapes(config: AnchorConfig) -> np.ndarray:
    """[A, 2] float32 (width, height) in chip px, ratio-major: all sizes of the first ratio, then of the next."""
    ratios = np.asarray(config.ratios, np.float64)
    width = np.round(np.sqrt(_BASE**2 / ratios))
    height = np.round(width * ratios)
    base = np.stack([width, height], axis=-1)[:, None] / _BASE
    return (base * np.asarray(config.sizes)[:, None]).reshape(-1, 2).astype(np.float32)


def anchors(height: int, width: int, config: AnchorConfig) -> np.ndarray:
    """[height, width, A, 4] float32 in the chip frame; those of cell (row, column) are centred at its middle."""
    half = anchor_shapes(config) / 2
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    centre = (np.stack([x, y], axis=-1)[:, :, None] * STRIDE + STRIDE / 2).astype(np.float32)
    return np.concatenate([centre - half, centre + half], axis=-1)
