"""Convolutions in every form that they are computed in, against a loop over the taps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.detector import convolution as module


def by_taps(x, kernel, stride, dilation):
    """Convolution of x [B, h, w, c] by kernel [k, k, c, f], zero-padded by dilation * (k // 2), in float64."""
    side, pad = len(kernel), dilation * (len(kernel) // 2)
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n - 1 - dilation * (side - 1)) // stride + 1 for n in x.shape[1:3])
    total = 0
    for i, j in np.ndindex(side, side):
        rows, columns = i * dilation + stride * np.arange(height), j * dilation + stride * np.arange(width)
        total = total + x[:, rows[:, None], columns] @ np.asarray(kernel[i, j], np.float64)
    return total


def drawn(shape, side, features, seed=0):
    random = np.random.default_rng(seed)
    kernel = random.standard_normal((side, side, shape[3], features)) / np.sqrt(side * side * shape[3])
    return random.standard_normal(shape).astype(np.float32), kernel.astype(np.float32)


CASES = [
    # shape, side, stride, dilation: one cell, odd maps, no rows, and inputs deep enough for nine products
    ((2, 5, 7, 6), 1, 1, 1), ((2, 5, 7, 6), 1, 2, 1), ((1, 1, 1, 6), 1, 2, 1), ((0, 4, 4, 6), 1, 1, 1),
    ((2, 5, 7, 6), 3, 1, 1), ((2, 6, 8, 6), 3, 2, 1), ((2, 8, 6, 3), 7, 2, 1), ((0, 4, 4, 6), 3, 1, 2),
    ((2, 5, 7, 512), 3, 1, 1), ((2, 5, 7, 512), 3, 1, 2), ((1, 1, 1, 512), 3, 1, 2), ((0, 4, 4, 512), 3, 1, 1),
    ((1, 5, 7, 512), 3, 2, 1),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "side", "stride", "dilation"), CASES)
def test_against_the_loop(shape, side, stride, dilation):
    x, kernel = drawn(shape, side, 5)
    network = module.convolution(5, side, stride, dilation)
    out = jax.jit(network.apply)({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(out, by_taps(x, kernel, stride, dilation), atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 3])
def test_nine_products_have_the_gradient_of_the_convolution(dilation):
    x, kernel = drawn((2, 4, 5, 8), 3, 3)
    weights = np.random.default_rng(1).standard_normal((2, 4, 5, 3)).astype(np.float32)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), [(dilation, dilation)] * 2, rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def gradients(function):
        return jax.jit(jax.grad(lambda *inputs: (function(*inputs) * weights).sum(), (0, 1)))(x, kernel)

    for ours, theirs in zip(gradients(lambda *inputs: module.as_nine_products(dilation, *inputs)), gradients(plain)):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(("depth", "side"), [(6, 1), (6, 3), (512, 3)])
def test_gradients_and_bias_of_the_module(depth, side):
    """The module's gradient is that of the convolution it stands for, also where the form depends on the platform."""
    x, kernel = drawn((1, 3, 4, depth), side, 2)
    network = module.convolution(2, side, bias=True)
    bias = np.array([0.5, -2], np.float32)

    def loss(params):
        return (network.apply({"params": params}, x) ** 2).sum()

    expected = by_taps(x, kernel, 1, 1) + bias
    value, gradient = jax.jit(jax.value_and_grad(loss))({"kernel": kernel, "bias": bias})
    np.testing.assert_allclose(value, (expected**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient["bias"], 2 * expected.sum((0, 1, 2)), rtol=1e-4)
    centre = side // 2
    np.testing.assert_allclose(
        gradient["kernel"][centre, centre], 2 * np.einsum("bhwc,bhwf->cf", x, expected), atol=1e-3
    )


@pytest.mark.parametrize(("depth", "side"), [(512, 1), (512, 3)])
def test_bfloat16_stays_bfloat16(depth, side):
    x, kernel = drawn((1, 4, 5, depth), side, 3)
    rough = jax.jit(module.convolution(3, side, dtype=jnp.bfloat16).apply)({"params": {"kernel": kernel}}, x)
    exact = by_taps(x, kernel, 1, 1)
    assert rough.dtype == jnp.bfloat16
    np.testing.assert_allclose(rough.astype(np.float32), exact, atol=0.05 * exact.std())
