"""Deformable position-sensitive RoI pooling with group size 1 (Dai et al. 2017; sampling as in the authors' release).

A bin is the mean of a grid of samples, and bilinear weights factor into rows and columns. So a bin is a short vector
along y times a patch of the map times a short vector along x. A CPU adds the cells of the patch. Other devices, and
every gradient, take the matrix product with the weights of all cells: more work in fewer steps.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from autofocus_jax.structures import STRIDE, Array

OFFSET_SCALE = 0.1  # trans_std: an offset of 1 moves a bin by this share of its RoI's side
_LEAST = 0.1  # least side of a RoI, cells
_CHUNK = 16  # RoIs whose weights of all cells are held at once, so that they stay in a CPU's cache
_LARGE_CHUNK = 64  # the same for other devices, which want few steps


def deformable_pool(
    features: Array, rois: Array, offsets: Array | None = None, size: int = 7, samples: int = 4,
    cells: Array | None = None,
) -> Array:  # fmt: skip
    """Pool each RoI of one chip to size x size.

    Args:
        features: [h, w, C] at stride 16.
        rois: [N, 4], chip frame; clipped to the map.
        offsets: [N, 2, size, size], movement of every bin along x and y in units of 0.1 of the RoI's sides; None for
            none.
        size: bins per side.
        samples: samples per bin and side.
        cells: [2] int, rows and columns of the map that the chip fills; by default all.

    Returns:
        [N, size, size, C] in the type of features. Samples more than half a cell beyond the chip's border are left out
        of the mean, and a bin without samples is 0. Gradients flow to the offsets, not to the RoIs.
    """
    height, width, _ = features.shape
    rows, columns = (height, width) if cells is None else cells
    rois = jax.lax.stop_gradient(rois)
    x, side_x = _bins(jnp.clip(rois[:, 0::2], 0, width * STRIDE), size)
    y, side_y = _bins(jnp.clip(rois[:, 1::2], 0, height * STRIDE), size)
    grid_x = x[:, :, None] + side_x[:, None, None] / (size * samples) * jnp.arange(samples)  # [N, size, samples]
    grid_y = y[:, :, None] + side_y[:, None, None] / (size * samples) * jnp.arange(samples)
    move = jnp.zeros((len(rois), 2, size, size)) if offsets is None else offsets.astype(jnp.float32) * OFFSET_SCALE
    grid_x = grid_x[:, None] + (move[:, 0] * side_x[:, None, None])[..., None]  # [N, size, size, samples]
    grid_y = grid_y[:, :, None] + (move[:, 1] * side_y[:, None, None])[..., None]
    return _means(features, grid_y, grid_x, jnp.asarray((rows, columns)))


@jax.custom_vjp
def _means(features: Array, grid_y: Array, grid_x: Array, filled: Array) -> Array:
    """Mean of every bin's samples, [N, size, size, C]; grid_y, grid_x: [N, size, size, samples], cells."""
    default = partial(means_by_products, chunk=_LARGE_CHUNK)
    return jax.lax.platform_dependent(features, grid_y, grid_x, filled, cpu=means_by_cells, default=default)


def means_by_cells(features: Array, grid_y: Array, grid_x: Array, filled: Array) -> Array:
    """`_means` by the patch that a bin's samples touch.

    Its cells are gathered and added one after the other, so that nothing larger than the answer is ever held.
    """
    height, width, channels = features.shape
    size, samples = grid_y.shape[2:]
    patch = tuple(min(full, math.ceil(_span(full, size, samples)) + 2) for full in (height, width))
    first_y = _first(grid_y, filled[0], height - patch[0])
    first_x = _first(grid_x, filled[1], width - patch[1])
    along_y = _weights(grid_y, filled[0], first_y[..., None] + jnp.arange(patch[0]))
    along_x = _weights(grid_x, filled[1], first_x[..., None] + jnp.arange(patch[1]))
    table = features.reshape(-1, channels)

    def add_row(total, row):
        number, weight = row
        cell = (first_y + number) * width + first_x
        weights = (weight[..., None] * along_x)[..., None]
        return total + sum(weights[..., column, :] * table[cell + column] for column in range(patch[1])), None

    total = jnp.zeros((*first_y.shape, channels))
    total, _ = jax.lax.scan(add_row, total, (jnp.arange(patch[0]), jnp.moveaxis(along_y, -1, 0)))
    return total.astype(features.dtype)


def means_by_products(features: Array, grid_y: Array, grid_x: Array, filled: Array, chunk: int = _CHUNK) -> Array:
    """`_means` as a product with the weights of all cells, `chunk` RoIs at a time. Its gradient has no scatter."""
    height, width, channels = features.shape

    def pool(grids):
        along_y = _weights(grids[0], filled[0], jnp.arange(height)).astype(features.dtype)
        along_x = _weights(grids[1], filled[1], jnp.arange(width)).astype(features.dtype)
        weights = along_y[..., None] * along_x[..., None, :]
        return (weights.reshape(-1, height * width) @ features.reshape(-1, channels)).reshape(*weights.shape[:-2], -1)

    return jax.lax.map(jax.checkpoint(pool), (grid_y, grid_x), batch_size=chunk)


def _backward(arguments: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    features, grid_y, grid_x, filled = arguments
    _, pull = jax.vjp(lambda x, gy, gx: means_by_products(x, gy, gx, filled), features, grid_y, grid_x)
    return *pull(cotangent), None


_means.defvjp(lambda *arguments: (_means(*arguments), arguments), _backward)


def _bins(ends: Array, size: int) -> tuple[Array, Array]:
    """Return the starts of a side's bins [N, size] and the length of the side [N], cells.

    `ends` is [N, 2] px, half-open. The release rounds inclusive ends half away from zero.
    """
    low = _round(ends[:, 0]) / STRIDE - 0.5
    high = (_round(ends[:, 1] - 1) + 1) / STRIDE - 0.5
    side = jnp.maximum(high - low, _LEAST)
    return low[:, None] + side[:, None] / size * jnp.arange(size), side


def _round(x: Array) -> Array:
    return jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)


def _span(cells: int, size: int, samples: int) -> float:
    """Distance of the first and the last sample of the longest possible bin, cells; rounding adds up to 1 px."""
    return (cells + 1 / STRIDE) / size * (samples - 1) / samples


def _first(grid: Array, filled: Array, last: int) -> Array:
    """Return the start of each bin's patch that holds all of the bin's samples: [...] int32 in 0..last."""
    lowest = jnp.clip(jax.lax.stop_gradient(grid[..., 0]), 0, filled - 1)
    return jnp.clip(jnp.floor(lowest).astype(jnp.int32), 0, last)


def _weights(grid: Array, filled: Array, cells: Array) -> Array:
    """[..., k] float32 weights of `cells` [..., k] whose sum of products is the mean of the samples grid [..., s]."""
    used = (grid >= -0.5) & (grid <= filled - 0.5)
    position = jnp.clip(grid, 0, filled - 1)
    hat = jnp.maximum(1 - jnp.abs(position[..., :, None] - cells[..., None, :]), 0)
    return (hat * used[..., None]).sum(-2) / jnp.maximum(used.sum(-1), 1)[..., None]
