"""The helpers of the tests themselves: what they must notice, and what they must let pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.structures import Detections

FOUND = Detections(
    np.array([[0, 0, 10, 10], [5, 5, 20, 20], [0, 0, 10, 10]], np.float32),
    np.array([0.9, 0.5, 0.1], np.float32),
    np.array([1, 0, 0], np.int32),
)


def taken(rows):
    return Detections(*(field[rows] for field in FOUND))


@pytest.mark.parametrize(
    "other",
    [
        FOUND._replace(boxes=FOUND.boxes + np.float32(5e-4)),
        FOUND._replace(scores=FOUND.scores + np.float32(5e-6)),
        taken([1, 0, 2]),
    ],
    ids=["boxes within", "scores within", "another order"],
)
def test_the_same_detections(check_same_detections, other):
    check_same_detections(FOUND, other)


@pytest.mark.parametrize(
    "other",
    [
        FOUND._replace(boxes=FOUND.boxes + np.float32(2e-2)),
        FOUND._replace(scores=FOUND.scores - np.float32(2e-4)),
        FOUND._replace(labels=FOUND.labels[::-1]),
        taken([0, 1]),
        taken([0, 1, 2, 2]),
    ],
    ids=["a box", "a score", "a label", "one less", "one twice"],
)
def test_other_detections(check_same_detections, other):
    for pair in ((FOUND, other), (other, FOUND)):
        with pytest.raises(AssertionError, match=r"only the (first|second) has number"):
            check_same_detections(*pair)


def test_what_hangs_on_a_cut_may_be_missing(check_same_detections):
    check_same_detections(FOUND, taken([0, 1]), cuts=[0.10005])
    with pytest.raises(AssertionError, match="number 2"):
        check_same_detections(FOUND, taken([0, 1]), cuts=[0.101])


def test_a_trace_too_many_names_the_argument(traced):
    watched = traced(lambda state, batch: state["step"] + batch.sum())
    step = jax.jit(watched)
    step({"step": jnp.int32(0)}, np.zeros(3, np.float32))
    watched.check(1)
    step({"step": jnp.int32(7)}, np.ones(3, np.float32))
    watched.check(1)
    step({"step": 1}, np.zeros(3, np.float32))
    step({"step": jnp.int32(0)}, np.zeros((2, 2), np.float32))
    with pytest.raises(AssertionError) as error:
        watched.check(1)
    assert str(error.value).splitlines()[:3] == [
        "3 traces instead of 1",
        "trace 2 after trace 1: [0]['step']: int32[] -> int32[] weakly typed",
        "trace 3 after trace 1: [1]: float32[3] -> float32[2,2]",
    ]
