"""RoIAlign as matrix products against a loop over its samples."""

import jax
import numpy as np
import pytest

from autofocus_jax.detector.roi_pool import roi_align

ROIS = np.array([
    [0, 0, 96, 80],  # the whole map
    [3.7, 11.2, 60.1, 44.9],
    [80, 64, 96, 80],  # the last cell
    [0, 0, 5, 5],  # inside half a cell of the corner
    [30, 30, 30, 30],  # no area
    [40, 20, 41, 80],
    [90, 70, 130, 120],  # over the border
    [-20, -10, 8, 8],
    [50, 40, 20, 10],  # upside down, as an empty box may come out of decoding
], np.float32)  # fmt: skip


def naive(features, roi, size, samples, rows, columns):
    """Mean of bilinear samples, one by one; positions are clamped to the centres of the first and last cell."""
    x1, y1, x2, y2 = (float(side) for side in roi)
    out = np.zeros((size, size, features.shape[2]))
    for i in range(size):
        for j in range(size):
            for a in range(samples):
                for b in range(samples):
                    y = (y1 + (y2 - y1) * (i + (a + 0.5) / samples) / size) / 16 - 0.5
                    x = (x1 + (x2 - x1) * (j + (b + 0.5) / samples) / size) / 16 - 0.5
                    out[i, j] += bilinear(features, min(max(y, 0), rows - 1), min(max(x, 0), columns - 1))
    return out / samples**2


def bilinear(features, y, x):
    top, left = int(np.floor(y)), int(np.floor(x))
    bottom, right = min(top + 1, features.shape[0] - 1), min(left + 1, features.shape[1] - 1)
    fy, fx = y - top, x - left
    above = (1 - fx) * features[top, left] + fx * features[top, right]
    below = (1 - fx) * features[bottom, left] + fx * features[bottom, right]
    return (1 - fy) * above + fy * below


@pytest.mark.parametrize(("size", "samples"), [(7, 2), (3, 1), (1, 4)])
def test_against_the_loop(size, samples):
    features = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    pooled = roi_align(features, ROIS, size, samples)
    expected = [naive(features, roi, size, samples, 5, 6) for roi in ROIS]
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_cells_that_the_chip_does_not_fill_are_not_read():
    features = np.random.default_rng(1).standard_normal((5, 6, 3)).astype(np.float32)
    expected = [naive(features, roi, 7, 2, 3, 4) for roi in ROIS]
    dirty = features.copy()
    dirty[3:], dirty[:, 4:] = 1e6, -1e6
    for maps in (features, dirty):
        np.testing.assert_allclose(roi_align(maps, ROIS, cells=np.array([3, 4])), expected, atol=1e-5)
    np.testing.assert_allclose(roi_align(features[:3, :4], ROIS), expected, atol=1e-5)


def test_map_of_one_cell():
    features = np.array([[[2.0, -3.0]]], np.float32)
    pooled = np.asarray(roi_align(features, ROIS))
    assert pooled.shape == (len(ROIS), 7, 7, 2)
    np.testing.assert_allclose(pooled, np.broadcast_to(features[0, 0], pooled.shape))


def test_gradients():
    random = np.random.default_rng(2)
    features = random.standard_normal((5, 6, 2)).astype(np.float32)
    weights = random.standard_normal((len(ROIS), 3, 3, 2)).astype(np.float32)

    def total(features, rois):
        return (roi_align(features, rois, 3) * weights).sum()

    to_features, to_rois = jax.grad(total, (0, 1))(features, ROIS)
    assert (np.asarray(to_rois) == 0).all()
    # Pooling is linear in the features, so a difference of any length is exact.
    for cell in [(0, 0, 0), (4, 5, 1), (2, 3, 0), (1, 4, 1)]:
        moved = features.copy()
        moved[cell] += 1
        expected = sum((naive(moved, r, 3, 2, 5, 6) - naive(features, r, 3, 2, 5, 6)).ravel() @ w.ravel()
                       for r, w in zip(ROIS, weights))  # fmt: skip
        np.testing.assert_allclose(to_features[cell], expected, atol=1e-4)
