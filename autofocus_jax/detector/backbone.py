"""The backbones behind one interface: (images, size, train) -> features at stride 16."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from autofocus_jax.config import BackboneConfig
from autofocus_jax.detector.resnet import ResNet, Unit, stem
from autofocus_jax.detector.resnet_v1 import UnitV1, stem_v1

_KINDS = {"v2": (stem, Unit), "v1": (stem_v1, UnitV1)}


def backbone(
    config: BackboneConfig, dtype: Any = jnp.float32, frozen_stages: int = 0, axis: str | None = None
) -> ResNet:
    """The network of config.kind, computing in `dtype`; ResNet says what the rest is and what it answers."""
    return ResNet(config, dtype, *_KINDS[config.kind], frozen_stages, axis)
