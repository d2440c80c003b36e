"""A backbone of one's own, as docs/extending.md tells: one file, and the line at its end."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from autofocus_jax.config import BackboneConfig
from autofocus_jax.detector.api import Backbone
from autofocus_jax.detector.backbone import BACKBONES
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.masks import true_cells


class Toy(nn.Module):
    """Four 3x3 convolutions at stride 2, each with a batch norm and a ReLU."""

    config: BackboneConfig
    dtype: Any = jnp.float32
    frozen_stages: int = 0
    axis: str | None = None

    @nn.compact
    def __call__(self, images, size, train):
        x, folded = images, self.config.folded
        for stage, channels in enumerate(self.config.channels[:4]):
            x = x * true_cells(size, *x.shape[1:3], 2**stage)
            x = convolution(channels, 3, 2, bias=folded, dtype=self.dtype, name=f"conv{stage}")(x)
            if not folded:
                still = not train or stage < self.frozen_stages
                x = nn.BatchNorm(still, epsilon=1e-3, dtype=self.dtype, axis_name=self.axis, name=f"bn{stage}")(x)
            x = nn.relu(x)
        return x * true_cells(size, *x.shape[1:3], 16)


BACKBONES["toy"] = Backbone(
    Toy,
    frozen=tuple(f"(conv|bn){stage}" for stage in range(4)),
    folds={f"conv{stage}": f"bn{stage}" for stage in range(4)},
    epsilon=1e-3,
    foreign={f"features.{stage}.{part}": f"{part}{stage}" for stage in range(4) for part in ("conv", "bn")}.get,
)
