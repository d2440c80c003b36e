"""RoIAlign (He et al. 2017) as matrix products.

The samples of a bin form a grid, and bilinear weights factor into rows and columns. So the mean over a bin is one short
vector along y and one along x. Pooling is two matrix products and its gradient two more, without gathers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from autofocus_jax.structures import STRIDE, Array


def roi_align(features: Array, rois: Array, size: int = 7, samples: int = 2, cells: Array | None = None) -> Array:
    """Pool each RoI of one chip to size x size.

    Args:
        features: [h, w, C] at stride 16.
        rois: [N, 4], chip frame.
        size: bins per side.
        samples: samples per bin and side.
        cells: [2] int, rows and columns of the map that the chip fills; by default all.

    Returns:
        [N, size, size, C]. Samples beyond the chip's border read its last cell. Cells are centred: chip px x lies at x
        / 16 - 0.5. No gradient flows to the RoIs (as in Fast R-CNN).
    """
    rois = jax.lax.stop_gradient(rois)
    height, width, _ = features.shape
    rows, columns = (height, width) if cells is None else cells
    along_x = _bin_weights(rois[:, 0], rois[:, 2], width, columns, size, samples).astype(features.dtype)
    along_y = _bin_weights(rois[:, 1], rois[:, 3], height, rows, size, samples).astype(features.dtype)
    lines = jnp.einsum("nih,hwc->niwc", along_y, features)
    return jnp.einsum("njw,niwc->nijc", along_x, lines)


def _bin_weights(low: Array, high: Array, cells: int, filled: Array | int, size: int, samples: int) -> Array:
    """[N, size, cells] weights whose product with a line of cells is the mean of each bin's samples."""
    position = (jnp.arange(size * samples) + 0.5) / (size * samples)
    sample = (low[:, None] + (high - low)[:, None] * position) / STRIDE - 0.5
    sample = jnp.clip(sample, 0, filled - 1)
    weights = jnp.maximum(1 - jnp.abs(sample[..., None] - jnp.arange(cells)), 0)
    return weights.reshape(len(low), size, samples, cells).mean(axis=2)
