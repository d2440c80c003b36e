"""Post-activation ResNet v1.5 (He et al. 2015; the stride on the 3x3 convolution), as torchvision has it.

The first unit of a dilated stage 4 has dilation 1, as with torchvision's replace_stride_with_dilation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from autofocus_jax.detector.api import Backbone
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.resnet import STAGES, ResNet, convolution_3x3, norm_unless
from autofocus_jax.structures import Array

EPSILON = 1e-5  # of every batch norm (torchvision)


class UnitV1(nn.Module):
    """Bottleneck: 1x1-BN-ReLU, 3x3-BN-ReLU, 1x1-BN, added to the input or, in a stage's first unit, to its 1x1-BN."""

    channels: int
    stride: int
    dilation: int
    project: bool
    deformable_groups: int = 0
    folded: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, inside: Array, cells: Array, norm: Callable[..., Any]) -> Array:
        """Run the unit.

        Args:
            x: [B, h, w, c].
            inside: mask of the true cells at the unit's input stride.
            cells: numbers of the true cells at the unit's input stride.
            norm: makes a batch norm, by `name`.
        """
        norm = partial(norm_unless, self.folded, partial(norm, epsilon=EPSILON))
        conv = partial(convolution, bias=self.folded, dtype=self.dtype)
        width, dilation = self.channels // 4, 1 if self.project else self.dilation
        shortcut = x
        if self.project:
            shortcut = norm("shortcut_bn")(conv(self.channels, 1, self.stride, name="shortcut")(x))
        y: Array = nn.relu(norm("bn1")(conv(width, 1, name="conv1")(x))) * inside
        y = convolution_3x3(width, self.stride, dilation, self.deformable_groups, self.folded, self.dtype, y, cells)
        y = nn.relu(norm("bn2")(y))
        return nn.relu(shortcut + norm("bn3")(conv(self.channels, 1, name="conv3")(y)))


def stem_v1(
    images: Array, inside: Callable[[int], Array], channels: int, folded: bool, dtype: Any,
    norm: Callable[..., Any],
) -> Array:  # fmt: skip
    """Apply 7x7 at stride 2, BN, ReLU: [B, H, W, 3] -> [B, H/2, W/2, channels]."""
    x = convolution(channels, 7, 2, bias=folded, dtype=dtype, name="conv0")(images * inside(1))
    return nn.relu(norm_unless(folded, partial(norm, epsilon=EPSILON), "bn0")(x))


_FOLDS = {"conv0": "bn0", "conv1": "bn1", "conv2": "bn2", "conv3": "bn3", "shortcut": "shortcut_bn"}
_SHORTCUT = {"downsample.0": "shortcut", "downsample.1": "shortcut_bn"}


def torchvision_name(module: str) -> str | None:
    """Return the name here of a module of torchvision's ResNets ("layer1.0.conv1" -> "stage1_unit1/conv1")."""
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(conv\d|bn\d|downsample\.[01])", module)
    if match is None:
        return {"conv1": "conv0", "bn1": "bn0"}.get(module)
    return f"stage{match[1]}_unit{int(match[2]) + 1}/{_SHORTCUT.get(match[3], match[3])}"


V1 = Backbone(partial(ResNet, stem=stem_v1, unit=UnitV1), STAGES, _FOLDS, EPSILON, torchvision_name)
