"""Greedy cover: against the chips of the authors' release, and against what must hold for any boxes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.training.cover import cover

GOLDEN = Path(__file__).parent.parent / "golden" / "sniper_cover.npz"


def held(boxes, windows):
    """[n, G] bool: which windows hold which boxes whole."""
    low = windows[:, None, :2] <= boxes[None, :, :2]
    return (low & (boxes[None, :, 2:] <= windows[:, None, 2:])).all(axis=2)


class Grid:
    """Draws ties, but lets the grids start where it is told: at 0, as the release does."""

    def __init__(self, seed, start=0.0):
        self.generator, self.start = np.random.default_rng(seed), start

    def random(self, size=None):
        return self.start if size is None else self.generator.random(size)


@pytest.mark.parametrize("number", range(6))
def test_no_worse_than_the_release(number):
    """However ties are broken: no more chips than theirs, and every box that theirs hold is held."""
    with np.load(GOLDEN) as golden:
        boxes, theirs = golden[f"cover{number}_boxes"], golden[f"cover{number}_chips"]
        width, height, side, step = (int(value) for value in golden[f"cover{number}_params"])
    covered = held(boxes, theirs).any(axis=0)
    inclusive = boxes + np.array([0, 0, 1, 1], np.float32)  # the last pixel of a box is part of it there
    for seed in range(20):
        windows = cover(inclusive, height, width, side, step, Grid(seed))
        assert held(inclusive, windows).any(axis=0)[covered].all()
        assert len(windows) <= len(theirs)


@st.composite
def scenes(draw):
    height, width, side = draw(st.integers(1, 300)), draw(st.integers(1, 300)), draw(st.integers(1, 200))
    step = draw(st.floats(1, 80))
    corner = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
    pairs = draw(st.lists(st.tuples(corner, corner), max_size=12))
    scale = np.array([width, height], np.float32)
    boxes = [np.concatenate([np.minimum(a, b) * scale, np.maximum(a, b) * scale]) for a, b in np.float32(pairs)]
    return np.array(boxes, np.float32).reshape(-1, 4), height, width, side, step, draw(st.integers(0, 2**32 - 1))


@given(scenes())
def test_cover(scene):
    boxes, height, width, side, step, seed = scene
    windows = cover(boxes, height, width, side, step, np.random.default_rng(seed))
    assert windows.dtype == np.int32 and windows.shape[1:] == (4,)
    # Inside the image, and as large as it and the side allow.
    assert (windows[:, :2] >= 0).all() and (windows[:, 2] <= width).all() and (windows[:, 3] <= height).all()
    assert (windows[:, 2] - windows[:, 0] == min(side, width)).all()
    assert (windows[:, 3] - windows[:, 1] == min(side, height)).all()
    # Every box that a candidate must hold is held: starts lie less than step + 1 px apart.
    by_window = held(boxes, windows)
    sure = ((boxes[:, 2:] - boxes[:, :2]) <= side - step - 1).all(axis=1) | (side >= max(height, width))
    assert by_window.any(axis=0)[sure].all()


@given(scenes(), st.integers(0, 9), st.integers(1, 4))
def test_every_choice_is_greedy(scene, tenths, least):
    """Beside a loop over all candidate windows: each choice holds as many new boxes as any of them does."""
    boxes, height, width, side, step, seed = scene
    grids = []
    for length in (height, width):
        last = max(length - side, 0)
        grids.append(sorted({0, last, *(int(start) for start in np.arange(tenths / 10 * step, last, step))}))
    candidates = np.array([(x, y, min(x + side, width), min(y + side, height)) for y in grids[0] for x in grids[1]])
    holds = held(boxes, candidates)
    waiting = np.ones(len(boxes), bool)
    for window in cover(boxes, height, width, side, step, Grid(seed, tenths / 10), least):
        (position,) = np.flatnonzero((candidates == window).all(axis=1))
        best = (holds & waiting).sum(axis=1).max()
        assert (holds[position] & waiting).sum() == best >= least
        waiting &= ~holds[position]
    assert (holds & waiting).sum(axis=1).max(initial=0) < least


def test_many_boxes_in_one_place():
    """What breaks ties must not add up to a box."""
    random = np.random.default_rng(0)
    low = random.integers(0, 40, (3000, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + 8], axis=1)
    assert len(cover(boxes, 400, 400, 64, 8, np.random.default_rng(1), least=3000)) == 1
    far = np.array([[300, 300, 310, 310]], np.float32)
    windows = cover(np.concatenate([boxes, far]), 400, 400, 64, 8, np.random.default_rng(1))
    assert len(windows) == 2 and held(far, windows)[1].all()
    assert cover(boxes, 400, 400, 64, 8, np.random.default_rng(1), least=3001).shape == (0, 4)


def test_of_equal_windows_the_one_with_rare_boxes():
    """Three windows hold two boxes each, but only the outer two hold all four together."""
    boxes = np.array([[0, 0, 10, 10], [60, 0, 70, 10], [90, 0, 100, 10], [150, 0, 160, 10]], np.float32)
    for seed in range(10):
        assert len(cover(boxes, 80, 160, 80, 10, np.random.default_rng(seed))) == 2


def test_same_seed_same_windows():
    boxes = np.random.default_rng(0).uniform(0, 200, (20, 2)).astype(np.float32)
    boxes = np.concatenate([boxes, boxes + 15], axis=1)
    one, again, other = (cover(boxes, 220, 220, 64, 8.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


def test_nothing_to_cover():
    assert cover(np.zeros((0, 4), np.float32), 100, 100, 50, 10, np.random.default_rng(0)).shape == (0, 4)
    long = np.array([[0, 0, 100, 5]], np.float32)
    assert cover(long, 100, 100, 50, 10, np.random.default_rng(0)).shape == (0, 4)
