"""Deformable RoI pooling against a loop over its samples, written from the sampling rules of the authors' release."""

import math
from functools import partial

import jax
import numpy as np
import pytest

from autofocus_jax.detector import deformable_pool as module

deformable_pool = jax.jit(module.deformable_pool, static_argnames=("size", "samples"))

ROIS = np.array([
    [0, 0, 96, 80],  # the whole map
    [3.7, 11.2, 60.1, 44.9],
    [80, 64, 96, 80],  # the last cell
    [0, 0, 5, 5],  # inside half a cell of the corner
    [30, 30, 30, 30],  # no area
    [0, 0, 0, 0],  # a row without a proposal
    [40, 20, 41.5, 80],
    [12.5, 13.5, 50.5, 60.5],  # ends that are rounded away from zero
], np.float32)  # fmt: skip


def away_from_zero(value):
    return math.copysign(math.floor(abs(value) + 0.5), value)


def naive(features, roi, offsets, size, samples, rows, columns):
    """[size, size, C]; features [h, w, C], roi half-open, offsets [2, size, size] or None."""
    low, high = [], []
    for first, last in ((roi[0], roi[2]), (roi[1], roi[3])):
        low.append(away_from_zero(float(first)) / 16 - 0.5)
        high.append((away_from_zero(float(last) - 1) + 1) / 16 - 0.5)
    sides = [max(high[axis] - low[axis], 0.1) for axis in (0, 1)]
    out = np.zeros((size, size, features.shape[2]))
    for i, j in np.ndindex(size, size):
        move = (0, 0) if offsets is None else offsets[:, i, j]
        total, count = 0, 0
        for a, b in np.ndindex(samples, samples):
            x = low[0] + 0.1 * move[0] * sides[0] + (j + b / samples) * sides[0] / size
            y = low[1] + 0.1 * move[1] * sides[1] + (i + a / samples) * sides[1] / size
            if -0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5:
                total = total + bilinear(features, min(max(y, 0), rows - 1), min(max(x, 0), columns - 1))
                count += 1
        out[i, j] = total / count if count else 0
    return out


def bilinear(features, y, x):
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, features.shape[0] - 1), min(left + 1, features.shape[1] - 1)
    fy, fx = y - top, x - left
    above = (1 - fx) * features[top, left] + fx * features[top, right]
    below = (1 - fx) * features[bottom, left] + fx * features[bottom, right]
    return (1 - fy) * above + fy * below


def drawn(shape=(5, 6, 3), count=len(ROIS), size=7, spread=3.0, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal(shape).astype(np.float32)
    return features, (spread * random.standard_normal((count, 2, size, size))).astype(np.float32)


@pytest.fixture(params=["cells", "products"])
def form(request, monkeypatch):
    """The form that a CPU takes, and that of other devices; each is traced anew."""
    traced = []
    real = {"cells": module.means_by_cells, "products": partial(module.means_by_products, chunk=4)}[request.param]
    monkeypatch.setattr(module, "means_by_cells", lambda *arguments: traced.append(1) or real(*arguments))
    pool = jax.jit(lambda *arguments, **settings: module.deformable_pool(*arguments, **settings),
                   static_argnames=("size", "samples"))  # fmt: skip
    monkeypatch.setitem(globals(), "deformable_pool", pool)
    yield
    assert traced


@pytest.mark.parametrize(("size", "samples"), [(7, 4), (3, 2), (1, 4)])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.usefixtures("form")
def test_against_the_loop(size, samples, moved):
    features, offsets = drawn(size=size)
    offsets = offsets if moved else None
    pooled = deformable_pool(features, ROIS, offsets, size=size, samples=samples)
    expected = [naive(features, roi, None if offsets is None else offsets[number], size, samples, 5, 6)
                for number, roi in enumerate(ROIS)]  # fmt: skip
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


@pytest.mark.usefixtures("form")
def test_large_bins_on_a_large_map():
    """Patches of a bin are many cells wide, and much smaller than the map."""
    random = np.random.default_rng(4)
    corners = np.sort(random.uniform(0, 1, (9, 2, 2)), axis=1) * [41 * 16, 37 * 16]
    rois = np.concatenate([[[0, 0, 656, 592]], corners.reshape(9, 4)]).astype(np.float32)
    features, offsets = drawn((37, 41, 2), len(rois))
    pooled = deformable_pool(features, rois, offsets)
    expected = [naive(features, roi, offsets[n], 7, 4, 37, 41) for n, roi in enumerate(rois)]
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


def test_offsets_of_zero_change_nothing():
    features, offsets = drawn()
    one, other = deformable_pool(features, ROIS), deformable_pool(features, ROIS, 0 * offsets)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.usefixtures("form")
def test_bins_that_are_moved_outside_are_zero():
    features, offsets = drawn()
    for far in (-1e4, 1e4):
        assert (np.asarray(deformable_pool(features, ROIS[:4], np.full_like(offsets[:4], far))) == 0).all()


@pytest.mark.parametrize("moved", [False, True])
def test_cells_that_the_chip_does_not_fill_are_not_read(moved):
    features, offsets = drawn(spread=1.0)
    offsets = offsets if moved else None
    dirty = features.copy()
    dirty[3:], dirty[:, 4:] = 1e6, -1e6
    pooled = deformable_pool(dirty, ROIS, offsets, cells=np.array([3, 4]))
    expected = [naive(features, roi, None if offsets is None else offsets[n], 7, 4, 3, 4) for n, roi in enumerate(ROIS)]
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


@pytest.mark.usefixtures("form")
def test_rois_are_clipped_to_the_map():
    features, offsets = drawn()
    rois = np.array([[-20, -10, 8, 8], [90, 70, 130, 120], [-500, -500, 900, 900]], np.float32)
    clipped = np.clip(rois, 0, [96, 80, 96, 80]).astype(np.float32)
    pooled = deformable_pool(features, rois, offsets[:3])
    np.testing.assert_allclose(pooled, deformable_pool(features, clipped, offsets[:3]))


@pytest.mark.parametrize(("shape", "count"), [((1, 1, 2), len(ROIS)), ((5, 6, 3), 0), ((1, 1, 2), 0)])
def test_single_cell_and_no_rois(shape, count):
    features, offsets = drawn(shape, count, spread=0.5)
    rois = np.clip(ROIS[:count], 0, np.array([shape[1], shape[0]] * 2) * 16).astype(np.float32)
    for moves in (None, offsets):
        pooled = deformable_pool(features, rois, moves)
        assert pooled.shape == (count, 7, 7, shape[2])
        for number in range(count):
            move = None if moves is None else moves[number]
            np.testing.assert_allclose(pooled[number], naive(features, rois[number], move, 7, 4, *shape[:2]), atol=1e-5)


@pytest.mark.usefixtures("form")
def test_no_chips():
    """A batch without rows, as the box head maps it."""
    pool = jax.vmap(deformable_pool)
    out = pool(*(np.zeros((0, *shape), np.float32) for shape in ((5, 6, 3), (4, 4), (4, 2, 7, 7))))
    assert out.shape == (0, 4, 7, 7, 3)


@pytest.mark.parametrize("moved", [False, True])
def test_gradients_against_finite_differences(moved):
    features, offsets = drawn((5, 6, 2), 3, 2, 0.7)
    rois = ROIS[[0, 1, 6]]
    weights = np.random.default_rng(5).standard_normal((3, 2, 2, 2))

    def total(features, rois, offsets):
        return (deformable_pool(features, rois, offsets if moved else None, size=2) * weights).sum()

    def loop(features, offsets):
        pooled = [naive(features, roi, offsets[n] if moved else None, 2, 4, 5, 6) for n, roi in enumerate(rois)]
        return (np.stack(pooled) * weights).sum()

    to_features, to_rois, to_offsets = jax.jit(jax.grad(total, (0, 1, 2)))(features, rois, offsets)
    assert (np.asarray(to_rois) == 0).all()
    if not moved:
        assert (np.asarray(to_offsets) == 0).all()
    step = 1e-4
    for array, gradient in ((0, to_features), (1, to_offsets))[: 1 + moved]:
        assert np.abs(gradient).max() > 0.05
        for flat in range(np.size(gradient)):
            ends = []
            for sign in (1, -1):
                moves = [features.astype(np.float64), offsets.astype(np.float64)]
                moves[array].ravel()[flat] += sign * step
                ends.append(loop(*moves))
            np.testing.assert_allclose(np.ravel(gradient)[flat], (ends[0] - ends[1]) / (2 * step), atol=2e-3)
