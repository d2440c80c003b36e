"""The three heads on the shared features: region proposals, FocusPixels, boxes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal

from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector.resnet import convolution
from autofocus_jax.detector.roi_pool import roi_align
from autofocus_jax.structures import STRIDE, Array


class ProposalHead(nn.Module):
    """3x3, ReLU, then background/foreground logits and deltas of every anchor."""

    channels: int
    anchors: int

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """features [B, h, w, C] -> logits [B, h, w, 2, A] (background first) and deltas [B, h, w, A, 4]."""
        x = nn.relu(convolution(self.channels, 3, bias=True, name="conv")(features))
        logits = convolution(2 * self.anchors, 1, bias=True, kernel_init=normal(0.01), name="logits")(x)
        deltas = convolution(4 * self.anchors, 1, bias=True, kernel_init=normal(0.01), name="deltas")(x)
        shape = logits.shape[:3]
        return logits.reshape(*shape, 2, self.anchors), deltas.reshape(*shape, self.anchors, 4)


class FocusHead(nn.Module):
    """3x3, ReLU, 1x1, ReLU, 1x1 to background/FocusPixel logits (section 4.1 and the authors' release)."""

    channels: int

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """features [B, h, w, C] -> logits [B, h, w, 2], background first."""
        x = nn.relu(convolution(self.channels, 3, bias=True, name="conv1")(features))
        x = nn.relu(convolution(self.channels, 1, bias=True, name="conv2")(x))
        return convolution(2, 1, bias=True, kernel_init=normal(0.01), name="logits")(x)


class BoxHead(nn.Module):
    """1x1, ReLU, RoI pooling, two fully connected layers, class logits and one class-agnostic box a RoI."""

    config: DetectorConfig

    @nn.compact
    def __call__(self, features: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        """features [B, h, w, C], rois [B, N, 4] chip frame -> logits [B, N, K + 1], background first; deltas.

        size: [B, 2] int, true (height, width) in px, past which nothing is pooled; by default that of the map.
        """
        config = self.config
        x = nn.relu(convolution(config.roi_channels, 1, bias=True, name="reduce")(features))
        if size is None:
            x = jax.vmap(lambda maps, boxes: roi_align(maps, boxes, config.roi_size))(x, rois)
        else:
            filled = jnp.maximum(-(-size // STRIDE), 1)
            x = jax.vmap(lambda *chip: roi_align(*chip[:2], config.roi_size, cells=chip[2]))(x, rois, filled)
        x = x.reshape(*rois.shape[:2], -1)
        for layer in ("fc1", "fc2"):
            x = nn.relu(nn.Dense(config.head_channels, kernel_init=nn.initializers.he_normal(), name=layer)(x))
        logits = nn.Dense(config.num_classes + 1, kernel_init=normal(0.01), name="logits")(x)
        deltas = nn.Dense(4, kernel_init=normal(0.001), name="deltas")(x)
        return logits, deltas
