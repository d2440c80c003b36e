"""Depthwise convolutions (one filter a channel) in the form that the compiler turns into the fastest program.

On a CPU, XLA runs a grouped convolution channel by channel. A sum of shifted products is 20 to 80 times as fast
(104x104 cells of 144 channels, 3x3: 185 and 2.3 ms on 2 shared cores of an Intel Xeon, 2026-11-30). JAX's gradient of
that sum is slow, because it reduces over the outer axes once for each tap. So the gradient is written out here. For the
input it is the same sum with the kernel turned round. For the kernel it is one pass over the rows for each row of taps.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from autofocus_jax.detector.draws import he_normal
from autofocus_jax.structures import Array

Pads = tuple[int, int]


class Depthwise(nn.Module):
    """A zero-padded depthwise convolution of an odd side: x [B, h, w, c] -> [B, h / stride, w / stride, c].

    At stride 1 the padding is equal on every side. At stride 2 it is smaller above and on the left, as TensorFlow's
    "SAME" for even sides, whatever the size. So cells do not move with the bucket.
    """

    side: int
    stride: int = 1
    dilation: int = 1
    bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve x [B, h, w, c]; h and w must be multiples of the stride."""
        shape = (self.side, self.side, 1, x.shape[-1])
        kernel = self.param("kernel", he_normal(outputs=2), shape)
        y = depthwise(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.dilation)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(self.dtype)
        return y


def same_pads(side: int, stride: int, dilation: int = 1) -> Pads:
    """Return the zeros before and after an axis whose length is a multiple of the stride (TensorFlow's "SAME")."""
    total = (side - 1) * dilation + 1 - stride
    return total // 2, total - total // 2


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: Array, kernel: Array, stride: int = 1, dilation: int = 1) -> Array:
    """Convolve x [B, h, w, c] with kernel [k, k, 1, c]; returns [B, h / stride, w / stride, c]."""
    pads = same_pads(kernel.shape[0], stride, dilation)
    settings: Any = {"stride": stride, "dilation": dilation, "pads": pads}
    return jax.lax.platform_dependent(x, kernel, cpu=partial(_shifted, **settings), default=partial(_plain, **settings))


def _plain(x: Array, kernel: Array, stride: int, dilation: int, pads: Pads) -> Array:
    return jax.lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(kernel), (stride, stride), [pads, pads], rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


def _shifted(x: Array, kernel: Array, stride: int, dilation: int, pads: Pads) -> Array:
    """The same as a sum over the taps of shifted maps."""
    height, width = (side // stride for side in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), pads, pads, (0, 0)))
    total = jnp.zeros((len(x), height, width, x.shape[-1]), x.dtype)
    for i, j in itertools.product(range(kernel.shape[0]), repeat=2):
        y, z = i * dilation, j * dilation
        total += x[:, y : y + stride * height : stride, z : z + stride * width : stride] * kernel[i, j, 0]
    return total


def _forward(x: Array, kernel: Array, stride: int, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return depthwise(x, kernel, stride, dilation), (x, kernel)


def _backward(stride: int, dilation: int, seen: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = seen
    settings: Any = {"stride": stride, "dilation": dilation, "pads": same_pads(kernel.shape[0], stride, dilation)}
    derived = lambda x, kernel, gradient: jax.vjp(partial(_plain, **settings), x, kernel)[1](gradient)  # noqa: E731
    return jax.lax.platform_dependent(x, kernel, gradient, cpu=partial(_gradients, **settings), default=derived)


def _gradients(x: Array, kernel: Array, gradient: Array, stride: int, dilation: int, pads: Pads) -> tuple[Array, Array]:
    """Gradients of the input and of the kernel of `_shifted`, where `gradient` is that of its answer."""
    side = kernel.shape[0]
    apart = (0, stride - 1, stride - 1)  # zeros between and after the cells that a stride leaves out
    spread = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), apart, apart, (0, 0, 0)))
    around = ((side - 1) * dilation - pads[0], pads[0])
    return (_shifted(spread, kernel[::-1, ::-1], 1, dilation, around),
            _kernel_gradient(x, gradient, side, stride, dilation, pads).astype(kernel.dtype))  # fmt: skip


def _kernel_gradient(x: Array, gradient: Array, side: int, stride: int, dilation: int, pads: Pads) -> Array:
    """[side, side, 1, c]: row by row, so that what is summed stays in the cache."""
    batch, height, width, channels = gradient.shape
    x = jnp.pad(x, ((0, 0), pads, pads, (0, 0)))

    def of_taps(i: Array) -> Array:  # [side, c], of the taps in row i of the kernel
        def add_row(number: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
            image, row = number // height, number % height
            answer = jax.lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, width, channels))[0, 0]
            at = (image, row * stride + i * dilation, 0, 0)
            line = jax.lax.dynamic_slice(x, at, (1, 1, *x.shape[2:]))[0, 0]
            parts = (line[j * dilation : j * dilation + stride * width : stride] * answer for j in range(side))
            return tuple(before + part.astype(jnp.float32) for before, part in zip(sums, parts, strict=True))

        start = (jnp.zeros((width, channels), jnp.float32),) * side
        return jnp.stack([sums.sum(axis=0) for sums in jax.lax.fori_loop(0, batch * height, add_row, start)])

    return jax.lax.map(of_taps, jnp.arange(side)).reshape(side, side, 1, channels)


depthwise.defvjp(_forward, _backward)
