"""Greedy cover: few windows of one size that together hold every box whole (section 3.1 of SNIPER)."""

from __future__ import annotations

import numpy as np

RARE, NOISE = 0.9, 0.01  # what breaks ties adds less than one box to a window's count


def cover(
    boxes: np.ndarray,
    height: int,
    width: int,
    side: int,
    step: float,
    generator: np.random.Generator,
    least: int = 1,
) -> np.ndarray:
    """Choose windows greedily: repeatedly take the window that holds the most boxes not held so far.

    Candidate windows lie on a grid of `step` with a random offset, and at the image's edges. A box that no window holds
    (longer than about side - step) is left to coarser scales. Ties go to the window whose boxes few other windows hold,
    which saves windows later, then to chance.

    Args:
        boxes: [G, 4].
        height: of the image.
        width: of the image.
        side: of the window.
        step: of the grid. All lengths are in the frame of the boxes, px.
        generator: draws the offsets of the grid along x and y, then breaks ties.
        least: stop when no window holds so many new boxes; at least 1.

    Returns:
        [n, 4] int32 windows, cut at the image, in order of choice. Each holds no more new boxes than the one before, so
        the windows of a larger `least` are the first ones of a smaller `least`.
    """
    least = max(least, 1)
    if len(boxes) < least:
        return np.zeros((0, 4), np.int32)
    x, y = (_starts(length, side, step, generator) for length in (width, height))
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    holds_x = ((x[:, None] <= x1) & (x2 <= x[:, None] + side)).astype(np.float32)
    holds_y = ((y[:, None] <= y1) & (y2 <= y[:, None] + side)).astype(np.float32)
    # How many waiting boxes each window [rows, columns] holds, and a little for ties. A window that is chosen takes its
    # boxes away from all.
    rarity = 1 / np.maximum(holds_x.sum(axis=0) * holds_y.sum(axis=0), 1)
    weight = (1 + RARE * rarity / rarity.sum()).astype(np.float32)
    score = (holds_y * weight) @ holds_x.T + NOISE * generator.random((len(y), len(x))).astype(np.float32)
    enough = least - (1 - RARE - NOISE) / 2
    chosen = []
    while True:
        row, column = divmod(int(score.argmax()), len(x))
        if score[row, column] < enough:
            break
        chosen.append((x[column], y[row]))
        taken = (holds_y[row] * holds_x[column]).nonzero()[0]
        score -= (holds_y.take(taken, axis=1) * weight[taken]) @ holds_x.take(taken, axis=1).T
        holds_x[:, taken] = 0
    low = np.array(chosen, np.int32).reshape(-1, 2)
    return np.concatenate([low, np.minimum(low + np.int32(side), np.array([width, height], np.int32))], axis=1)


def _starts(length: int, side: int, step: float, generator: np.random.Generator) -> np.ndarray:
    """Left ends of the candidate windows along one axis, rising; whole px."""
    last = max(length - side, 0)
    grid = np.arange(generator.random() * step, last, step).astype(np.int32)
    starts = np.concatenate([np.zeros(1, np.int32), grid, np.array([last], np.int32)])
    return starts[np.diff(starts, prepend=-1) > 0]
