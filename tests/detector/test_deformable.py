"""Deformable convolution against a loop over its taps, and against the plain convolution where nothing moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.detector import deformable
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.deformable import DeformableConvolution, offset_channels

deformable_convolution = jax.jit(deformable.deformable_convolution, static_argnums=(3, 4))


def read(channel, y, x):
    """One sample of a map [h, w] by the border rule of the authors' release."""
    height, width = channel.shape
    if y < 0 or x < 0 or y >= height or x >= width:
        return 0.0
    y, x = min(y, height - 1), min(x, width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    above = (1 - dx) * channel[top, left] + dx * channel[top, right]
    below = (1 - dx) * channel[bottom, left] + dx * channel[bottom, right]
    return (1 - dy) * above + dy * below


def naive(x, offsets, kernel, groups, dilation):
    """x [h, w, C], offsets [h, w, groups * 18], kernel [3, 3, C, F] -> [h, w, F], sample by sample."""
    height, width, channels = x.shape
    x, offsets, kernel = (np.asarray(array, np.float64) for array in (x, offsets, kernel))
    out = np.zeros((height, width, kernel.shape[3]))
    for i, j in np.ndindex(height, width):
        for tap, channel in np.ndindex(9, channels):
            group = channel // (channels // groups)
            dy, dx = offsets[i, j, (group * 9 + tap) * 2 :][:2]
            y, z = i + (tap // 3 - 1) * dilation + dy, j + (tap % 3 - 1) * dilation + dx
            out[i, j] += read(x[..., channel], y, z) * kernel[tap // 3, tap % 3, channel]
    return out


def drawn(shape, groups, features=3, spread=1.5, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape).astype(np.float32)
    offsets = (spread * random.standard_normal((*shape[:3], offset_channels(groups)))).astype(np.float32)
    kernel = random.standard_normal((3, 3, shape[3], features)).astype(np.float32)
    return x, offsets, kernel


@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (2, 2), (4, 2), (2, 3)])
def test_against_the_loop(groups, dilation):
    x, offsets, kernel = drawn((2, 5, 6, 4), groups)
    offsets[0, 2] = np.round(offsets[0, 2])  # whole cells, on the borders of the rule
    out = deformable_convolution(x, offsets, kernel, groups, dilation)
    for row in range(2):
        np.testing.assert_allclose(out[row], naive(x[row], offsets[row], kernel, groups, dilation), atol=1e-4)


@given(st.floats(-3, 9), st.floats(-3, 9))
def test_border_rule(y, x):
    """One tap of one cell is moved to (y, x); all others read nothing."""
    values = np.arange(1.0, 31.0, dtype=np.float32).reshape(1, 5, 6, 1)
    y, x = np.float32(y), np.float32(x)
    offsets = np.full((1, 5, 6, 18), -100, np.float32)
    offsets[0, 0, 0, 8:10] = y, x
    kernel = np.ones((3, 3, 1, 1), np.float32)
    out = np.asarray(deformable_convolution(values, offsets, kernel, 1))
    assert out[0, 0, 0, 0] == pytest.approx(read(values[0, ..., 0], y, x), abs=1e-4)
    assert (out.ravel()[1:] == 0).all()


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("side", [(6, 7), (1, 1), (1, 5)])
def test_no_offsets_is_the_plain_convolution(side, dilation):
    x, offsets, kernel = drawn((2, *side, 8), 4, features=5)
    variables = {"params": {"kernel": kernel}}
    plain = jax.jit(convolution(5, 3, 1, dilation).apply)(variables, x)
    module = DeformableConvolution(5, 4, dilation)
    drawn_shapes = jax.eval_shape(module.init, jax.random.key(0), x, offsets)
    assert jax.tree.map(jnp.shape, drawn_shapes) == jax.tree.map(jnp.shape, variables)
    moved = jax.jit(module.apply)(variables, x, 0 * offsets)
    np.testing.assert_allclose(moved, plain, atol=1e-5)


def test_offsets_that_point_outside_read_zeros():
    x, offsets, kernel = drawn((1, 4, 5, 4), 2)
    for far in (-1e4, 1e4, -np.inf, np.inf):
        assert (np.asarray(deformable_convolution(x, np.full_like(offsets, far), kernel, 2)) == 0).all()


def test_cells_that_the_chip_does_not_fill_are_not_read():
    """A chip of 3 x 4 cells gives the same inside a larger map, whatever lies around it."""
    x, offsets, kernel = drawn((2, 5, 6, 4), 2)
    out = deformable_convolution(x, offsets, kernel, 2, 2, np.array([[3, 4], [5, 6]]))
    np.testing.assert_allclose(out[0, :3, :4], naive(x[0, :3, :4], offsets[0, :3, :4], kernel, 2, 2), atol=1e-4)
    np.testing.assert_allclose(out[1], naive(x[1], offsets[1], kernel, 2, 2), atol=1e-4)
    nothing = deformable_convolution(x, offsets, kernel, 2, 2, np.zeros((2, 2), int))
    assert (np.asarray(nothing) == 0).all()


@pytest.mark.parametrize("shape", [(0, 4, 5, 4), (3, 1, 1, 4)])
def test_empty_batch_and_single_cell(shape):
    x, offsets, kernel = drawn(shape, 2, spread=0.3)
    out = deformable_convolution(x, offsets, kernel, 2, 2)
    assert out.shape == (*shape[:3], 3)
    for row in range(shape[0]):
        np.testing.assert_allclose(out[row], naive(x[row], offsets[row], kernel, 2, 2), atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4, 5, 4), (1, 1, 1, 4), (2, 1, 6, 4), (1, 2, 2, 4), (3, 5, 4, 4)])
def test_rows_in_parts_are_all_rows(shape):
    """The form of the CPU and that of every other device; odd and even rows, one row, no chip."""
    random = np.random.default_rng(3)
    maps = random.standard_normal((*shape[:3], 2, 2)).astype(np.float32)
    positions = random.uniform(-1, 6, (*shape[:3], 9, 2, 2)).astype(np.float32)
    cells = np.tile([max(shape[1] - 1, 1), shape[2]], (shape[0], 1))
    parts = jax.jit(deformable.in_parts)(maps, positions, cells)
    whole = jax.vmap(deformable.bilinear)(maps, positions, cells)
    assert parts.shape == (*shape[:3], 9, 2, 2)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_gradients_against_finite_differences():
    """Central differences of the naive loop in float64, away from whole positions, where the slope jumps."""
    x, offsets, kernel = drawn((1, 3, 4, 2), 2, features=2)
    whole = np.round(offsets)
    away = np.where(offsets < whole, -1, 1) * np.clip(np.abs(offsets - whole), 0.05, 0.45)
    offsets = (whole + away).astype(np.float32)
    weights = np.random.default_rng(9).standard_normal((3, 4, 2))

    def total(x, offsets, kernel):
        return (deformable_convolution(x, offsets, kernel, 2) * weights).sum()

    def loop(*arrays):
        return (naive(arrays[0][0], arrays[1][0], arrays[2], 2, 1) * weights).sum()

    inputs = (x, offsets, kernel)
    gradients = jax.jit(jax.grad(total, (0, 1, 2)))(*inputs)
    random, step = np.random.default_rng(1), 1e-3
    for number, gradient in enumerate(gradients):
        assert np.abs(gradient).max() > 0.1
        for flat in random.choice(inputs[number].size, min(inputs[number].size, 25), replace=False):
            shifted = []
            for sign in (1, -1):
                moved = [np.array(array, np.float64) for array in inputs]
                moved[number].ravel()[flat] += sign * step
                shifted.append(loop(*moved))
            slope = (shifted[0] - shifted[1]) / (2 * step)
            np.testing.assert_allclose(np.ravel(gradient)[flat], slope, atol=1e-3)


def test_bfloat16_stays_bfloat16():
    x, offsets, kernel = drawn((1, 4, 5, 4), 2)
    exact = np.asarray(deformable_convolution(x, offsets, kernel, 2))
    module = DeformableConvolution(3, 2, dtype=jnp.bfloat16)
    rough = jax.jit(module.apply)({"params": {"kernel": kernel}}, x, offsets)
    assert rough.dtype == jnp.bfloat16
    np.testing.assert_allclose(rough.astype(np.float32), exact, atol=0.03 * exact.std() + 0.1)
