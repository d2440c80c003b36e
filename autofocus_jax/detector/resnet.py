"""Pre-activation ResNet (v2) with features at stride 16 (He et al. 2016; the authors' release uses its 101-layer form).

A dilated stage 4 is dilated from its first unit on, as in the release; timm's v2 leaves that unit at dilation 1. Every
convolution that looks past one cell sees zeros outside the true size of a chip. So its answer inside does not depend on
the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from autofocus_jax.config import BackboneConfig
from autofocus_jax.detector.api import Backbone
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.deformable import DeformableConvolution, offset_channels
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.structures import STRIDE, Array

EPSILON = 2e-5  # of every batch norm (the authors' release)
MOMENTUM = 0.9


def batch_norm(train: bool, **kwargs) -> nn.BatchNorm:
    """Return a batch norm whose training statistics are those of the whole padded chip.

    Leaving the padding out would cost half of the step again on a CPU. Inference uses the same statistics as the
    training. In kwargs, axis_name is a mapped axis (parallel.AXIS) over whose devices the statistics are taken
    together.
    """
    return nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, **{"epsilon": EPSILON, **kwargs})


class Affine(nn.Module):
    """A batch norm at inference that no convolution can take in: one scale and one shift a channel."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Scale and shift x [..., c]; the shape stays."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(self.dtype)
        return x.astype(self.dtype) * scale + self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(self.dtype)


def max_pool(x: Array) -> Array:
    """Return 3x3 maxima at stride 2 of x [B, h, w, c]; h and w even, x not below 0 (after a ReLU).

    The maxima of shifted copies have a gradient ten times as fast as reduce_window's on a CPU.
    """
    x = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
    rows = jnp.maximum(jnp.maximum(x[:, 0:-1:2], x[:, 1::2]), x[:, 2::2])
    return jnp.maximum(jnp.maximum(rows[:, :, 0:-1:2], rows[:, :, 1::2]), rows[:, :, 2::2])


def norm_unless(folded: bool, norm: Callable[..., nn.BatchNorm], name: str) -> Callable[[Array], Array]:
    """Return the batch norm after a convolution, or the identity if the convolution has the norm folded in."""
    return (lambda x: x) if folded else norm(name=name)


def convolution_3x3(
    channels: int, stride: int, dilation: int, groups: int, bias: bool, dtype: Any, x: Array, cells: Array
) -> Array:
    """Apply the 3x3 convolution "conv2" of a unit: plain for groups 0, else deformable by the offsets of a plain one.

    In `cells` [B, 2] int are the rows and columns of x that each chip fills.
    """
    if groups == 0:
        return convolution(channels, 3, stride, dilation, bias, dtype=dtype, name="conv2")(x)
    zeros = nn.initializers.zeros
    offset = convolution(offset_channels(groups), 3, 1, dilation, True, kernel_init=zeros, dtype=dtype, name="offset")
    return DeformableConvolution(channels, groups, dilation, bias, dtype, name="conv2")(x, offset(x), cells)


class Unit(nn.Module):
    """Bottleneck: BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1, added to the input or, in a stage's first unit, to its 1x1."""

    channels: int
    stride: int
    dilation: int
    project: bool
    deformable_groups: int = 0
    folded: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, inside: Array, cells: Array, norm: Callable[..., nn.BatchNorm]) -> Array:
        """Run the unit.

        Args:
            x: [B, h, w, c].
            inside: mask of the true cells at the unit's input stride.
            cells: numbers of the true cells at the unit's input stride.
            norm: makes a batch norm, by `name`.
        """
        conv = partial(convolution, dtype=self.dtype)
        width = self.channels // 4
        active = nn.relu(norm(name="bn1")(x))
        shortcut = conv(self.channels, 1, self.stride, name="shortcut")(active) if self.project else x
        y = conv(width, 1, bias=self.folded, name="conv1")(active)
        y = nn.relu(norm_unless(self.folded, norm, "bn2")(y)) * inside
        y = convolution_3x3(
            width, self.stride, self.dilation, self.deformable_groups, self.folded, self.dtype, y, cells
        )  # fmt: skip
        y = nn.relu(norm_unless(self.folded, norm, "bn3")(y))
        return shortcut + conv(self.channels, 1, name="conv3")(y)


def stem(
    images: Array, inside: Callable[[int], Array], channels: int, folded: bool, dtype: Any,
    norm: Callable[..., nn.BatchNorm],
) -> Array:  # fmt: skip
    """Apply BN of the images, 7x7 at stride 2, BN-ReLU: [B, H, W, 3] -> [B, H/2, W/2, channels]."""
    # The shift of bn_data is not trained: its gradient would be the stem's towards the image, at full resolution.
    x = jax.lax.stop_gradient(norm(use_scale=False, name="bn_data")(images) * inside(1))
    x = convolution(channels, 7, 2, bias=folded, dtype=dtype, name="conv0")(x)
    return nn.relu(norm_unless(folded, norm, "bn0")(x))


class ResNet(nn.Module):
    """Network from images to features at stride 16: concat(conv4, conv5), zero outside the true size.

    Attributes:
        stem: stem of the network: this file's for the pre-activation kind, resnet_v1's for torchvision's kind.
        unit: unit of the network, as stem.
        frozen_stages: batch norms of the stem (1), of the stem and stage 1 (2) … keep their statistics in training.
        axis: mapped axis over which batch statistics are taken together; None takes those of each device.
    """

    config: BackboneConfig
    dtype: Any = jnp.float32
    stem: Callable = stem
    unit: Callable = Unit
    frozen_stages: int = 0
    axis: str | None = None

    def __call__(self, images: Array, size: Array, train: bool) -> Array:
        """Map images [B, H, W, 3] float32, mean removed, of true sizes [B, 2] to features [B, H/16, W/16, C4 + C5]."""
        features = jnp.concatenate(self.stages(images, size, train)[-2:], axis=-1)
        return features * true_cells(size, features.shape[1], features.shape[2], STRIDE)

    @nn.compact
    def stages(self, images: Array, size: Array, train: bool) -> list[Array]:
        """Return the maps of stages 1..4 (conv2..conv5) at strides 4, 8, 16, 16, not masked outside the true size."""

        def inside(stride: int) -> Array:
            return true_cells(size, images.shape[1] // stride, images.shape[2] // stride, stride)

        config = self.config

        def norm(stage: int) -> Callable[..., nn.Module]:
            if config.folded:
                return lambda name, **_: Affine(self.dtype, name=name)
            return partial(batch_norm, train and stage >= self.frozen_stages, dtype=self.dtype, axis_name=self.axis)

        width, *stages = config.channels
        x = self.stem(images, inside, width, config.folded, self.dtype, norm(0))
        x = max_pool(x * inside(2))
        stride, outputs = 4, []
        for stage, (units, channels) in enumerate(zip(config.units, stages, strict=True), 1):
            dilation, groups = (config.dilation, config.deformable_groups) if stage == 4 else (1, 0)
            for number in range(units):
                step = 2 if number == 0 and stage in (2, 3) else 1
                name = f"stage{stage}_unit{number + 1}"
                unit = self.unit(channels, step, dilation, number == 0, groups, config.folded, self.dtype, name=name)
                x = unit(x, inside(stride), -(-size // stride), norm(stage))
                stride *= step
            outputs.append(x)
        return outputs


STAGES = ("conv0|bn0|bn_data", *(rf"stage{number}_unit\d+" for number in range(1, 5)))  # the stem, then the stages


def timm_name(module: str) -> str | None:
    """Return the name here of a module of timm's pre-activation ResNets.

    Example: "stages.0.blocks.0.norm1" -> "stage1_unit1/bn1".
    """
    match = re.fullmatch(r"(?:stages\.(\d+)\.blocks\.(\d+)\.)(conv\d|norm\d|downsample\.conv)", module)
    if match is None:
        return {"stem.conv": "conv0"}.get(module)
    layer = "shortcut" if match[3] == "downsample.conv" else match[3].replace("norm", "bn")
    return f"stage{int(match[1]) + 1}_unit{int(match[2]) + 1}/{layer}"


V2 = Backbone(ResNet, STAGES, {"conv0": "bn0", "conv1": "bn2", "conv2": "bn3"}, EPSILON, timm_name)
