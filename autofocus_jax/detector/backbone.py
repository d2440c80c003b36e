"""The backbones by kind, and the trunk that every detector builds on one."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from autofocus_jax.config import BackboneConfig, ConfigError, DetectorSettings
from autofocus_jax.detector.api import Backbone, Variables
from autofocus_jax.detector.lite0 import UP_TO_16, WHOLE
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.resnet import V2
from autofocus_jax.detector.resnet_v1 import V1
from autofocus_jax.structures import STRIDE, Array

BACKBONES: dict[str, Backbone] = {
    "v2": V2,
    "v1": V1,
    "lite0": WHOLE,
    "lite0-short": UP_TO_16,
}


def backbone_of(config: BackboneConfig) -> Backbone:
    """Return the backbone of the settings' kind.

    Raises:
        ConfigError: the kind is not registered in BACKBONES.
    """
    if config.kind not in BACKBONES:
        raise ConfigError(f"detector.backbone.kind {config.kind!r} is not known; want one of {', '.join(BACKBONES)}, "
                          "or add your own to detector.backbone.BACKBONES")  # fmt: skip
    return BACKBONES[config.kind]


def backbone(
    config: BackboneConfig, dtype: Any = jnp.float32, frozen_stages: int = 0, axis: str | None = None
) -> nn.Module:
    """Return the module of the settings.

    Args:
        config: kind and sizes.
        dtype: type of the computation.
        frozen_stages: number of first stages whose batch norms keep their statistics in training.
        axis: mapped axis over which batch statistics are taken together; None takes those of each device.
    """
    return backbone_of(config).module(config, dtype=dtype, frozen_stages=frozen_stages, axis=axis)


class Trunk(nn.Module):
    """The shared part of all detectors, from pixels to features. Subclasses add heads.

    Attributes:
        frozen_stages: as in `backbone`.
        axis: as in `backbone`.
    """

    config: DetectorSettings
    frozen_stages: int = 0
    axis: str | None = None

    def setup(self):
        dtype = jnp.dtype(self.config.compute_dtype)
        self.backbone = backbone(self.config.backbone, dtype, self.frozen_stages, self.axis)

    def features(self, pixels: Array, size: Array, train: bool, masked: bool = True) -> Array:
        """Return features [B, H/16, W/16, C] of pixels [B, H, W, 3] uint8 with true sizes [B, 2].

        Args:
            pixels: [B, H, W, 3] uint8.
            size: [B, 2] true (height, width), px.
            train: use batch statistics.
            masked: as in two_stage_network.forward.
        """
        images = (pixels.astype(jnp.float32) - jnp.asarray(self.config.pixel_mean)) / jnp.asarray(
            self.config.pixel_deviation
        )
        if not masked:  # only the input is zero outside the true size, and the whole map counts as filled
            images = images * true_cells(size, images.shape[1], images.shape[2], 1)
            size = jnp.broadcast_to(jnp.asarray(images.shape[1:3]), size.shape)
        return self.backbone(images, size, train and not self.config.frozen_norm)


def draw_by_maps(network: Trunk, key: Array) -> Variables:
    """Draw random parameters of a network whose method `maps` runs all of it; batch statistics are 0 and 1."""
    side = 4 * STRIDE
    pixels, size = jnp.zeros((1, side, side, 3), jnp.uint8), jnp.full((1, 2), side)
    drawn = jax.jit(partial(network.init, train=False, method="maps"))(key, pixels, size)
    return {"batch_stats": {}} | drawn
