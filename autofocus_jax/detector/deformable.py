"""Deformable 3x3 convolution (Dai et al. 2017): every tap reads at its own offset.

The border rule is that of the authors' release. A sample at (y, x) is 0 unless 0 <= y < rows and 0 <= x < columns. A
sample in the last half-open cell reads that cell's value alone; nothing is blended with zeros outside.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from autofocus_jax.detector.draws import he_normal
from autofocus_jax.structures import Array

_SIDE = 3
TAPS = _SIDE * _SIDE


def offset_channels(groups: int) -> int:
    """Return the number of channels of a map of offsets: (y, x) of every tap of every group."""
    return groups * TAPS * 2


def deformable_convolution(
    x: Array, offsets: Array, kernel: Array, groups: int, dilation: int = 1, cells: Array | None = None
) -> Array:
    """Convolve 3x3 at stride 1 with taps moved by offsets.

    Args:
        x: [B, h, w, C]; the channels are split into `groups` equal parts that share their offsets.
        offsets: [B, h, w, groups * 9 * 2] in cells, ordered (group, tap, (y, x)), taps row by row.
        kernel: [3, 3, C, F].
        groups: number of groups of offsets.
        dilation: distance of the taps, cells.
        cells: [B, 2] int, rows and columns of the map that each chip fills; reading past them gives 0. By default all.

    Returns:
        [B, h, w, F] in the type of x. Offsets of 0 give the plain dilated convolution, zero-padded.
    """
    batch, height, width, channels = x.shape
    if cells is None:
        cells = jnp.broadcast_to(jnp.asarray([height, width]), (batch, 2))
    offsets = offsets.astype(jnp.float32).reshape(batch, height, width, groups, TAPS, 2)
    positions = _taps(height, width, dilation) + jnp.swapaxes(offsets, 3, 4)
    maps = x.reshape(batch, height, width, groups, channels // groups)
    samples = jax.lax.platform_dependent(maps, positions, cells, cpu=in_parts, default=jax.vmap(bilinear))
    samples = samples.reshape(batch, height, width, TAPS * channels)
    return samples @ kernel.astype(x.dtype).reshape(TAPS * channels, -1)


def in_parts(maps: Array, positions: Array, cells: Array) -> Array:
    """Run `bilinear` on every chip, its rows in two parts one after the other.

    XLA's CPU compiler joins the sampling with the following reshape. The joint loop no longer runs along channels and
    takes 20 times as long. The compiler cannot join across a loop.
    """
    half = max(-(-positions.shape[1] // 2), 1)

    def one_chip(chip):
        features, positions, cells = chip
        return jax.lax.map(lambda row: bilinear(features, row, cells), positions, batch_size=half)

    return jax.lax.map(one_chip, (maps, positions, cells))


def bilinear(features: Array, positions: Array, cells: Array) -> Array:
    """Read maps at fractional positions.

    Args:
        features: [h, w, G, C].
        positions: [..., G, 2] float32, (y, x) in cells of each group's map.
        cells: [2] int, rows and columns that are filled.

    Returns:
        [..., G, C], 0 where a position lies outside. Differentiable in features and positions.
    """
    height, width, groups, channels = features.shape
    limit = jnp.asarray(cells, jnp.float32)
    inside = ((positions >= 0) & (positions < limit)).all(-1)
    last = jnp.maximum(limit - 1, 0)
    positions = jnp.clip(positions, 0, last)
    low = jax.lax.stop_gradient(jnp.floor(positions))
    high = jnp.minimum(low + 1, last)
    above = positions - low
    table = features.reshape(height * width, groups, channels)
    group = jnp.arange(groups)

    def corner(y, x, weight):
        index = (y * width + x).astype(jnp.int32)
        return (weight * inside).astype(features.dtype)[..., None] * table[index, group]

    (y0, x0), (y1, x1), (dy, dx) = (jnp.moveaxis(part, -1, 0) for part in (low, high, above))
    return (
        corner(y0, x0, (1 - dy) * (1 - dx)) + corner(y0, x1, (1 - dy) * dx)
        + corner(y1, x0, dy * (1 - dx)) + corner(y1, x1, dy * dx)
    )  # fmt: skip


class DeformableConvolution(nn.Module):
    """A deformable convolution whose kernel has the shape of a plain convolution's."""

    channels: int
    groups: int
    dilation: int = 1
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, offsets: Array, cells: Array | None = None) -> Array:
        shape = (_SIDE, _SIDE, x.shape[-1], self.channels)
        kernel = self.param("kernel", he_normal(), shape)
        y = deformable_convolution(x.astype(self.dtype), offsets, kernel, self.groups, self.dilation, cells)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.channels,)).astype(self.dtype)
        return y


def _taps(height: int, width: int, dilation: int) -> Array:
    """[h, w, 9, 1, 2] float32: where the taps of every cell lie without offsets."""
    step = (jnp.arange(_SIDE) - _SIDE // 2) * dilation
    y = jnp.arange(height)[:, None, None, None] + step[:, None]
    x = jnp.arange(width)[:, None, None] + step
    taps = jnp.stack(jnp.broadcast_arrays(y, x), axis=-1)
    return taps.reshape(height, width, TAPS, 1, 2).astype(jnp.float32)
