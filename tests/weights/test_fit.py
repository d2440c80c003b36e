"""Whether arrays fit: the report by name and shape, and the one line of the strict policy."""

import numpy as np
import pytest

from autofocus_jax.weights.fit import Report, compare, shapes, strict
from autofocus_jax.weights.safetensors import WeightsError


def test_the_report_names_each_difference():
    have = {"a": (1, 2), "b": (3,), "d": ()}
    want = {"c": (4,), "a": (2, 1), "b": (3,)}
    assert compare(have, want) == Report(["c"], ["d"], {"a": "a (1, 2) instead of (2, 1)"})
    assert compare(want, want) == Report([], [], {})
    assert shapes({"a": {"b": np.zeros((2, 3))}}) == {"a/b": (2, 3)}


def test_strict():
    variables = {"params": {"stem": {"kernel": np.zeros((3, 8))}, "head": {"bias": np.zeros(2), "scale": np.zeros(2)}}}
    strict(variables, variables)
    other = {"params": {"stem": {"kernel": np.zeros((3, 16))}, "tail": {"bias": np.zeros(2)}}}
    with pytest.raises(WeightsError) as error:
        strict(variables, other, "weights w")
    message = str(error.value)
    assert "\n" not in message and message.startswith("weights w do not fit")
    assert "1 missing: params/tail/bias" in message
    assert "2 unexpected: params/head/bias, params/head/scale" in message
    assert "1 of another shape: params/stem/kernel (3, 8) instead of (3, 16)" in message
