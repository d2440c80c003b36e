"""The three heads on the shared features: region proposals, FocusPixels, boxes."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import zeros

from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.deformable_pool import deformable_pool
from autofocus_jax.detector.draws import he_normal, normal
from autofocus_jax.detector.roi_pool import roi_align
from autofocus_jax.structures import STRIDE, Array


class ProposalHead(nn.Module):
    """Region proposal head: 3x3, ReLU, then background/foreground logits and deltas of every anchor."""

    channels: int
    anchors: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """Map features [B, h, w, C] to logits [B, h, w, 2, A] (background first) and deltas [B, h, w, A, 4]."""
        conv = partial(convolution, bias=True, dtype=self.dtype)
        x = nn.relu(conv(self.channels, 3, name="conv")(features))
        logits = conv(2 * self.anchors, 1, kernel_init=normal(0.01), name="logits")(x).astype(jnp.float32)
        deltas = conv(4 * self.anchors, 1, kernel_init=normal(0.01), name="deltas")(x).astype(jnp.float32)
        shape = logits.shape[:3]
        return logits.reshape(*shape, 2, self.anchors), deltas.reshape(*shape, self.anchors, 4)


class FocusHead(nn.Module):
    """FocusPixel head: 3x3, ReLU, 1x1, ReLU, 1x1 to background/FocusPixel logits (section 4.1, the release)."""

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Map features [B, h, w, C] to logits [B, h, w, 2], background first."""
        conv = partial(convolution, bias=True, dtype=self.dtype)
        x = nn.relu(conv(self.channels, 3, name="conv1")(features))
        x = nn.relu(conv(self.channels, 1, name="conv2")(x))
        return conv(2, 1, kernel_init=normal(0.01), name="logits")(x).astype(jnp.float32)


class BoxHead(nn.Module):
    """Box head: 1x1, ReLU, RoI pooling, two fully connected layers, class logits and one class-agnostic box a RoI.

    Deformable pooling runs twice: the result without offsets gives the offsets through one fully connected layer. The
    pooled RoIs [B, N, size, size, C] are sown as intermediates/pooled.
    """

    config: DetectorConfig

    def setup(self):
        config = self.config
        dense = partial(nn.Dense, dtype=config.compute_dtype)
        hidden = partial(dense, config.head_channels, kernel_init=he_normal())
        self.reduce = convolution(config.roi_channels, 1, bias=True, dtype=config.compute_dtype)
        if config.roi_pooling != "align":
            self.offset = dense(2 * config.roi_size**2, kernel_init=zeros)
        self.fc1, self.fc2 = hidden(), hidden()
        self.logits = dense(config.num_classes + 1, kernel_init=normal(0.01))
        self.deltas = dense(4, kernel_init=normal(0.001))

    def reduced(self, features: Array) -> Array:
        """Map features [B, h, w, C] to the map that RoIs are pooled from, [B, h, w, roi_channels]."""
        return nn.relu(self.reduce(features))

    def __call__(self, reduced: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        """Return logits [B, N, K + 1] (background first) and deltas [B, N, 4] of RoIs.

        Args:
            reduced: [B, h, w, R].
            rois: [B, N, 4], chip frame.
            size: [B, 2] int, true (height, width) in px; nothing past it is pooled. By default the size of the map.
        """
        config, rows = self.config, rois.shape[:2]
        cells = None if size is None else jnp.maximum(-(-size // STRIDE), 1)
        if config.roi_pooling == "align":
            x = jax.vmap(partial(roi_align, size=config.roi_size))(reduced, rois, cells=cells)
        else:
            pool = jax.vmap(partial(deformable_pool, size=config.roi_size))
            offsets = self.offset(pool(reduced, rois, cells=cells).reshape(*rows, -1))
            x = pool(reduced, rois, offsets.reshape(*rows, 2, config.roi_size, config.roi_size), cells=cells)
        self.sow("intermediates", "pooled", x)
        x = x.reshape(*rows, -1)
        x = nn.relu(self.fc2(nn.relu(self.fc1(x))))
        return self.logits(x).astype(jnp.float32), self.deltas(x).astype(jnp.float32)
