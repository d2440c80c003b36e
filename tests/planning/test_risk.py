"""The promise of conformal risk control on synthetic scores, and the photographs that it takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.planning.risk import losses, photographs_needed, risk_threshold

VALUES = st.lists(st.floats(0.001, 1) | st.just(np.inf), max_size=5).map(np.array)


@given(st.lists(VALUES, min_size=1, max_size=30), st.sampled_from([0.03, 0.05, 0.1, 0.2, 0.5]))
def test_the_promise(photographs, risk):
    """Each photograph in turn is the next one. Exchangeable ones make each order as likely, so this mean is exactly
    what the promise bounds, for any scores at all. Looking everywhere, where there is no threshold, loses nothing."""
    lost = []
    for number, one in enumerate(photographs):
        threshold = risk_threshold(photographs[:number] + photographs[number + 1 :], risk)
        lost.append(0.0 if threshold is None else losses([one], threshold)[0])
    assert np.mean(lost) <= risk + 1e-9


@given(st.lists(VALUES, min_size=40, max_size=60), st.sampled_from([0.05, 0.1, 0.2]))
def test_the_largest_one(photographs, risk):
    """A naive search over all values finds nothing larger that is good, and what is found is good."""
    found = risk_threshold(photographs, risk)
    good = [value for value in (*np.concatenate(photographs), 1.0) if np.isfinite(value) and
            losses(photographs, value).sum() + 1 <= risk * (len(photographs) + 1) + 1e-12]  # fmt: skip
    assert found == (max(good) if good else None)


@pytest.mark.parametrize(("risk", "count"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1)])
def test_how_many_it_takes(risk, count):
    assert photographs_needed(risk) == count
    perfect = [np.array([0.7])] * count
    assert risk_threshold(perfect, risk) == 0.7 and risk_threshold(perfect[1:], risk) is None
    assert risk_threshold([*perfect[1:], np.array([0.2])], risk) == 0.2


def test_losses():
    values = [np.array([0.1, 0.5, np.inf]), np.zeros(0), np.array([0.5])]
    np.testing.assert_allclose(losses(values, 0.5), [1 / 3, 0, 0])
