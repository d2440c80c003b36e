"""Anchors against the facts of the authors' release (checked there by reproducing its stored proposals)."""

import numpy as np

from autofocus_jax.config import AnchorConfig
from autofocus_jax.detector.anchors import anchor_shapes, anchors, anchors_at

BASES = [(23, 12), (16, 16), (11, 22)]  # px, of ratios 0.5, 1, 2
FACTORS = [2, 4, 7, 10, 13, 16, 24]


def test_shapes_of_the_release():
    expected = [(width * factor, height * factor) for width, height in BASES for factor in FACTORS]
    np.testing.assert_array_equal(anchor_shapes(AnchorConfig()), expected)


def test_centres():
    config = AnchorConfig()
    boxes = anchors(3, 5, config)
    assert boxes.shape == (3, 5, 21, 4) and boxes.dtype == np.float32
    for row in range(3):
        for column in range(5):
            for number, (width, height) in enumerate(anchor_shapes(config)):
                x, y = 8 + 16 * column, 8 + 16 * row
                expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                np.testing.assert_array_equal(boxes[row, column, number], expected)


def test_any_sizes_and_one_cell():
    boxes = anchors(1, 1, AnchorConfig((1.0,), (20.0, 36.0)))
    np.testing.assert_array_equal(boxes[0, 0], [[-2, -2, 18, 18], [-10, -10, 26, 26]])


def test_anchors_by_their_place():
    config = AnchorConfig((0.5, 1.0, 2.0), (20.0, 36.0))
    expected = anchors(3, 5, config).reshape(-1, 4)
    np.testing.assert_array_equal(anchors_at(np.arange(len(expected)), 5, config), expected)
