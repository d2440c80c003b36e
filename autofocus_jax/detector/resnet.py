"""Pre-activation ResNet whose features keep stride 16 (He et al. 2016; the authors' release uses its 101-layer form).

Every convolution that looks past one cell sees zeros outside the true size of a chip, so that what it answers inside
does not depend on the bucket that the chip was padded to.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from autofocus_jax.config import BackboneConfig
from autofocus_jax.structures import Array

EPSILON = 2e-5  # of every batch norm (the authors' release)
MOMENTUM = 0.9


def true_cells(size: Array, height: int, width: int, stride: int) -> Array:
    """Cells of a map that touch the true size of their chip.

    Args:
      size: [B, 2] int, true (height, width) in chip px.
      height, width: shape of the map. stride: chip px per cell.

    Returns: [B, height, width, 1] bool.
    """
    rows = jnp.arange(height) * stride < size[:, :1]
    columns = jnp.arange(width) * stride < size[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def convolution(
    channels: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = False, **kwargs
) -> nn.Conv:
    """Square convolution, padded by the same amount on every side so that cells do not move with the bucket."""
    padding = dilation * (kernel // 2)
    return nn.Conv(
        channels, (kernel, kernel), (stride, stride), [(padding, padding)] * 2,
        kernel_dilation=(dilation, dilation), use_bias=bias,
        kernel_init=kwargs.pop("kernel_init", nn.initializers.he_normal()), **kwargs,
    )  # fmt: skip


def batch_norm(train: bool, **kwargs) -> nn.BatchNorm:
    """In training, statistics are those of the whole padded chip: leaving the padding out costs half of the step again
    on a CPU, and what is learnt is used with the statistics it was learnt with."""
    return nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, epsilon=EPSILON, **kwargs)


def max_pool(x: Array) -> Array:
    """3x3 maxima at stride 2 of x [B, h, w, c], h and w even, not below 0 (x follows a ReLU).

    As maxima of shifted copies, whose gradient takes a tenth of the time of reduce_window's on a CPU.
    """
    x = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
    rows = jnp.maximum(jnp.maximum(x[:, 0:-1:2], x[:, 1::2]), x[:, 2::2])
    return jnp.maximum(jnp.maximum(rows[:, :, 0:-1:2], rows[:, :, 1::2]), rows[:, :, 2::2])


class Unit(nn.Module):
    """Bottleneck: BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1, added to the input or, in a stage's first unit, to its 1x1."""

    channels: int
    stride: int
    dilation: int
    project: bool

    @nn.compact
    def __call__(self, x: Array, inside: Array, inside_next: Array, train: bool) -> Array:
        """x: [B, h, w, c]; inside, inside_next: true cells at the unit's input and output stride."""
        active = nn.relu(batch_norm(train, name="bn1")(x))
        shortcut = convolution(self.channels, 1, self.stride, name="shortcut")(active) if self.project else x
        y = convolution(self.channels // 4, 1, name="conv1")(active)
        y = nn.relu(batch_norm(train, name="bn2")(y)) * inside
        y = convolution(self.channels // 4, 3, self.stride, self.dilation, name="conv2")(y)
        y = nn.relu(batch_norm(train, name="bn3")(y))
        return shortcut + convolution(self.channels, 1, name="conv3")(y)


class ResNet(nn.Module):
    """images -> features at stride 16: concat(conv4, conv5), zero outside the true size."""

    config: BackboneConfig

    @nn.compact
    def __call__(self, images: Array, size: Array, train: bool) -> Array:
        """images: [B, H, W, 3] float32, mean removed. size: [B, 2]. Returns [B, H/16, W/16, C4 + C5]."""

        def inside(stride: int) -> Array:
            return true_cells(size, images.shape[1] // stride, images.shape[2] // stride, stride)

        stem, *stages = self.config.channels
        # The shift of bn_data is not trained: its gradient would be the stem's towards the image, at full resolution.
        x = jax.lax.stop_gradient(batch_norm(train, use_scale=False, name="bn_data")(images) * inside(1))
        x = convolution(stem, 7, 2, name="conv0")(x)
        x = nn.relu(batch_norm(train, name="bn0")(x)) * inside(2)
        x = max_pool(x)
        stride, outputs = 4, []
        for stage, (units, channels) in enumerate(zip(self.config.units, stages, strict=True), 1):
            for unit in range(units):
                step = 2 if unit == 0 and stage in (2, 3) else 1
                dilation = self.config.dilation if stage == 4 else 1
                block = Unit(channels, step, dilation, unit == 0, name=f"stage{stage}_unit{unit + 1}")
                x = block(x, inside(stride), inside(stride * step), train)
                stride *= step
            outputs.append(x)
        return jnp.concatenate(outputs[-2:], axis=-1) * inside(stride)
