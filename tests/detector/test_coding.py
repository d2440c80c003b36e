"""Box deltas: a round trip, a case by hand, and finite numbers from any network."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.detector.coding import decode, encode

number = st.floats(-500, 1500, width=32)
side = st.floats(1, 1000, width=32)
boxes = st.tuples(number, number, side, side).map(lambda b: np.float32([b[0], b[1], b[0] + b[2], b[1] + b[3]]))


def test_by_hand():
    reference, box = jnp.array([0.0, 0, 10, 20]), jnp.array([5.0, 10, 25, 20])  # centres (5, 10) and (15, 15)
    expected = np.array([10 / 10, 5 / 20, np.log(2), np.log(0.5)])
    np.testing.assert_allclose(encode(box, reference), expected, rtol=1e-6)
    deviations = (0.1, 0.1, 0.2, 0.2)
    np.testing.assert_allclose(encode(box, reference, deviations), expected / deviations, rtol=1e-5)
    np.testing.assert_allclose(decode(expected / deviations, reference, deviations), box, rtol=1e-5)
    np.testing.assert_array_equal(decode(jnp.zeros(4), reference), reference)


@given(boxes, boxes)
def test_round_trip(box, reference):
    """A box is found again unless it is more than 62.5 times the reference, where decoding stops growing."""
    deviations = (0.1, 0.1, 0.2, 0.2)
    back = np.asarray(decode(encode(box, reference, deviations), reference, deviations))
    sides, sides_reference = box[2:] - box[:2], reference[2:] - reference[:2]
    kept = np.tile(sides <= 62 * sides_reference, 2)
    # The log of a side, divided and multiplied by 0.2, keeps about 6 digits of it.
    np.testing.assert_allclose(back[kept], box[kept], atol=1e-5 * np.abs([*box, *reference]).max() + 1e-3)
    assert np.isfinite(back).all()


def test_extremes_are_finite():
    largest = np.finfo(np.float32).max
    reference = jnp.array([[0.0, 0, 16, 16], [3, 3, 3, 3]])  # the second has no area
    for value in (1e3, -1e3, 1e30, -largest):
        delta = jnp.array([0.0, 0, value, value])
        assert np.isfinite(decode(delta, reference, (1.0, 1.0, 0.2, 0.2))).all()
        gradient = jax.grad(lambda d: decode(d, reference).sum())(delta)
        assert np.isfinite(gradient).all()
    widest = decode(jnp.array([0.0, 0, 1e9, 1e9]), reference[0])
    np.testing.assert_allclose(widest, [8 - 500, 8 - 500, 8 + 500, 8 + 500], rtol=1e-5)


def test_leading_axes():
    random = np.random.default_rng(0)
    low = random.uniform(0, 50, (2, 3, 2, 2))
    many = np.concatenate([low, low + random.uniform(1, 50, low.shape)], axis=-1).astype(np.float32)
    one_by_one = [[encode(many[i, j, 0], many[i, j, 1]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(encode(many[:, :, 0], many[:, :, 1]), one_by_one, rtol=1e-5, atol=1e-5)
