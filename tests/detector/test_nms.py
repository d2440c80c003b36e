"""NMS on the device against greedy suppression written out in NumPy."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.detector.nms import by_survivor, in_rounds, nms

N, COUNT = 24, 8
_nms = jax.jit(nms, static_argnames="count")
_forms = [jax.jit(form, static_argnames="count") for form in (by_survivor, in_rounds)]
_batched = jax.jit(jax.vmap(lambda boxes, valid: nms(boxes, valid, 0.5, COUNT)))


def naive(boxes, valid, threshold, count):
    kept = []
    for i in range(len(boxes)):
        if valid[i] and all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept[:count]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0.0


def random_boxes(seed, spread):
    random = np.random.default_rng(seed)
    low = random.integers(0, spread, (N, 2))
    return np.concatenate([low, low + random.integers(0, 12, (N, 2))], axis=1).astype(np.float32)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([4, 16, 60]), st.sampled_from([0.0, 0.29, 0.53, 0.71, 1.0]),
    st.floats(0, 1),
)  # fmt: skip
def test_against_the_naive_loop(seed, spread, threshold, share):
    boxes, valid = random_boxes(seed, spread), np.random.default_rng(seed).random(N) < share
    indices, kept = _nms(boxes, valid, threshold, count=COUNT)
    expected = naive(boxes, valid, threshold, COUNT)
    assert np.asarray(indices)[np.asarray(kept)].tolist() == expected
    assert np.asarray(kept).tolist() == [True] * len(expected) + [False] * (COUNT - len(expected))


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 16]), st.sampled_from([0.0, 0.29, 0.53, 1.0]),
    st.integers(0, COUNT), st.booleans(),
)  # fmt: skip
def test_both_forms_answer_the_same(seed, spread, threshold, limit, broken):
    boxes, valid = random_boxes(seed, spread), np.random.default_rng(seed).random(N) < 0.8
    boxes[3, 0] = np.nan if broken else boxes[3, 0]
    one, other = (form(boxes, valid, threshold, limit, count=COUNT) for form in _forms)
    assert np.array_equal(one[1], other[1]) and one[0].dtype == other[0].dtype
    assert np.array_equal(np.asarray(one[0])[one[1]], np.asarray(other[0])[other[1]])
    if not broken:
        assert np.asarray(other[0])[other[1]].tolist() == naive(boxes, valid, threshold, COUNT)[:limit]


def test_a_chain_takes_as_many_rounds_as_it_is_long():
    """Each box overlaps the next alone, so every second one is kept."""
    boxes = np.stack([np.array([4 * step, 0, 4 * step + 6, 6], np.float32) for step in range(N)])
    indices, kept = _forms[1](boxes, np.ones(N, bool), 0.1, N, count=N)
    assert np.asarray(indices)[kept].tolist() == list(range(0, N, 2))


def test_none_valid_and_fewer_survivors_than_count():
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (N, 1))
    assert not np.asarray(_nms(boxes, np.zeros(N, bool), 0.5, count=COUNT)[1]).any()
    indices, kept = _nms(boxes, np.arange(N) >= 5, 0.5, count=COUNT)
    assert np.asarray(kept).tolist() == [True] + [False] * (COUNT - 1) and indices[0] == 5


def test_capacity_larger_than_the_input():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    indices, kept = nms(boxes, np.array([True, True]), 0.5, 5)
    assert np.asarray(indices)[:2].tolist() == [0, 1] and np.asarray(kept).tolist() == [True] * 2 + [False] * 3


def test_boxes_without_area_suppress_nothing():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 9], [0, 0, 10, 10]], np.float32)
    assert np.asarray(nms(boxes, np.ones(3, bool), 0.5, 3)[1]).all()


def test_vmapped_rows_do_not_wait_for_each_other():
    boxes = np.stack([random_boxes(seed, 4 + 20 * seed) for seed in range(5)])
    valid = np.random.default_rng(0).random((5, N)) < 0.8
    valid[3] = False
    indices, kept = (np.asarray(values) for values in _batched(boxes, valid))
    for row in range(5):
        assert indices[row][kept[row]].tolist() == naive(boxes[row], valid[row], 0.5, COUNT)


def test_a_gpu_gets_the_rounds():
    """Seen in the lowered program: its loop carries the n flags of rounds, not the list of survivors."""
    shapes = jax.ShapeDtypeStruct((3, N, 4), np.float32), jax.ShapeDtypeStruct((3, N), bool)
    texts = [jax.export.export(_batched, platforms=[name])(*shapes).mlir_module() for name in ("cpu", "cuda")]
    overlaps = f"tensor<3x{N}x{N}xf32>"
    assert [overlaps in text for text in texts] == [False, True]
