"""The region proposals as a detector's answer: those of `propose`, and nothing in rows that hold none."""

import jax
import numpy as np

from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.detector.two_stage_network import forward, propose


def test_they_are_those_of_propose(tiny_detector, tiny_variables, chip_batch):
    random = np.random.default_rng(0)
    chips = [random.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((48, 64), (20, 37))]
    batch = chip_batch(chips, 48, 64, 3)
    answer = jax.jit(detector_of(tiny_detector).proposals.detect)(tiny_variables, batch)
    maps = jax.jit(forward, static_argnums=0)(tiny_detector, tiny_variables, batch)
    expected = jax.jit(propose, static_argnums=0)(tiny_detector, maps, batch.size)
    count = tiny_detector.proposals
    assert answer.boxes.shape == (3, count, 4) and answer.scores.shape == (3, count, 1)
    np.testing.assert_allclose(answer.boxes, expected.boxes, atol=1e-4)
    np.testing.assert_allclose(answer.scores[..., 0], expected.scores, atol=1e-6)
    valid = np.asarray(answer.valid)
    assert valid[:2].any(axis=1).all() and not valid[2].any()
    np.testing.assert_array_equal(valid[:2], np.asarray(expected.valid)[:2])
    for row, (height, width) in enumerate(((48, 64), (20, 37))):
        boxes = np.asarray(answer.boxes)[row][valid[row]]
        assert (boxes >= 0).all() and (boxes <= (width, height, width, height)).all()
        assert (np.asarray(answer.scores)[row][valid[row]] > 0).all()
    assert answer.focus.shape == (3, 3, 4) and not np.asarray(answer.focus).any()
