"""EfficientNet-Lite0 with features at stride 16 (Tan and Le 2019; Lite: no squeeze-and-excitation, ReLU6).

The first five stages reach stride 16. The kind "lite0-short" ends there and has half of the cost. The kind "lite0" adds
the last two stages, which ImageNet's network has at stride 32. Here they keep stride 16, dilated by
BackboneConfig.dilation after their first unit, as a ResNet's stage 4. So every second cell, from the second one on, has
the value of ImageNet's network.

The sizes are fixed: of BackboneConfig only kind, dilation and folded are used.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from autofocus_jax.config import BackboneConfig
from autofocus_jax.detector.api import Backbone
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.depthwise import Depthwise, same_pads
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.resnet import batch_norm, norm_unless
from autofocus_jax.structures import STRIDE, Array

EPSILON = 1e-3  # of every batch norm (TensorFlow's, and the PyTorch file's)
STEM = 32  # channels


class Stage(NamedTuple):
    """Inverted bottlenecks of one shape; the first one has the stride."""

    side: int  # of the depthwise convolution
    stride: int
    expansion: int  # channels inside over channels outside; 1: no first convolution
    channels: int
    units: int


LITE0 = (
    Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 24, 2), Stage(5, 2, 6, 40, 2), Stage(3, 2, 6, 80, 3), Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4), Stage(3, 1, 6, 320, 1),
)  # fmt: skip
SHORT = LITE0[:5]


def relu6(x: Array) -> Array:
    """Return x clipped to [0, 6]."""
    return jnp.clip(x, 0, 6)


class Unit(nn.Module):
    """Inverted bottleneck: 1x1-BN-ReLU6, depthwise-BN-ReLU6, 1x1-BN, added to the input if the shapes are equal."""

    side: int
    stride: int
    dilation: int
    expansion: int
    channels: int
    folded: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, inside: Array, norm: Any) -> Array:
        """Run the unit.

        Args:
            x: [B, h, w, c].
            inside: mask of the true cells of x.
            norm: makes a batch norm, by `name`.
        """
        norm, conv = partial(norm_unless, self.folded, norm), partial(convolution, bias=self.folded, dtype=self.dtype)
        y = x
        if self.expansion > 1:
            y = relu6(norm("bn1")(conv(self.expansion * x.shape[-1], 1, name="conv1")(x)))
        y = Depthwise(self.side, self.stride, self.dilation, self.folded, self.dtype, name="conv2")(y * inside)
        y = norm("bn3")(conv(self.channels, 1, name="conv3")(relu6(norm("bn2")(y))))
        return x + y if x.shape == y.shape else y


class Lite(nn.Module):
    """Network from images to features at stride 16: the last stages at strides 16 and 32, zero outside the true size.

    Attributes:
        stages: stages of the network.
        frozen_stages: as in `backbone.backbone`.
        axis: as in `backbone.backbone`.
    """

    config: BackboneConfig
    dtype: Any = jnp.float32
    stages: tuple[Stage, ...] = LITE0
    frozen_stages: int = 0
    axis: str | None = None

    @nn.compact
    def __call__(self, images: Array, size: Array, train: bool) -> Array:
        """Map images [B, H, W, 3] float32, normalised, of true sizes [B, 2] to features [B, H/16, W/16, C]."""

        def inside(stride: int) -> Array:
            return true_cells(size, images.shape[1] // stride, images.shape[2] // stride, stride)

        def norm(stage: int) -> Any:
            still = train and stage >= self.frozen_stages
            return partial(batch_norm, still, dtype=self.dtype, epsilon=EPSILON, axis_name=self.axis)

        folded = self.config.folded
        stem = nn.Conv(STEM, (3, 3), (2, 2), [same_pads(3, 2)] * 2, use_bias=folded, dtype=self.dtype,
                       kernel_init=nn.initializers.he_normal(), name="conv0")  # fmt: skip
        x = relu6(norm_unless(folded, norm(0), "bn0")(stem(images * inside(1))))
        stride, ends = 2, {}
        for number, stage in enumerate(self.stages, 1):
            for unit in range(stage.units):
                step = stage.stride if unit == 0 else 1
                reached = stride * step  # stride of ImageNet's network
                step, dilation = step if reached <= STRIDE else 1, self.config.dilation if stride > STRIDE else 1
                shape = stage.side, step, dilation, stage.expansion, stage.channels, folded, self.dtype
                name = f"stage{number}_unit{unit + 1}"
                x = Unit(*shape, name=name)(x, inside(min(stride, STRIDE)), norm(number))
                stride = reached
            ends[stride] = x
        features = jnp.concatenate([x for at, x in ends.items() if at >= STRIDE], axis=-1)
        return features * inside(STRIDE)


def foreign_name(module: str, stages: tuple[Stage, ...] = LITE0) -> str | None:
    """Return the name here of a module of efficientnet_lite_pytorch ("_blocks.3._expand_conv" -> ".../conv1").

    It is "" for what comes after these stages, and None for a name that is not the package's.
    """
    match = re.fullmatch(r"_blocks\.(\d+)\._(\w+)", module)
    if match is None:
        return {"_conv_stem": "conv0", "_bn0": "bn0", "_conv_head": "", "_bn1": "", "_fc": ""}.get(module)
    units = [f"stage{stage}_unit{unit + 1}" for stage, shape in enumerate(LITE0, 1) for unit in range(shape.units)]
    layers = {"expand_conv": "conv1", "bn0": "bn1", "depthwise_conv": "conv2", "bn1": "bn2", "project_conv": "conv3",
              "bn2": "bn3"}  # fmt: skip
    number, layer = int(match[1]), layers.get(match[2])
    if number >= len(units) or layer is None:
        return None
    return f"{units[number]}/{layer}" if number < sum(shape.units for shape in stages) else ""


def lite(stages: tuple[Stage, ...]) -> Backbone:
    """Return the kind of backbone with these stages."""
    frozen = ("conv0|bn0", *(rf"stage{number}_unit\d+" for number in range(1, len(stages) + 1)))
    folds = {"conv0": "bn0", "conv1": "bn1", "conv2": "bn2", "conv3": "bn3"}
    return Backbone(partial(Lite, stages=stages), frozen, folds, EPSILON, partial(foreign_name, stages=stages), EPSILON)


WHOLE, UP_TO_16 = lite(LITE0), lite(SHORT)
