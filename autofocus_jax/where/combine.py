"""How two functions that say where to look make one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autofocus_jax.structures import STRIDE, Where


def either(a: Where, b: Where) -> Where:
    """Look where one of two functions says so: the larger value of each cell."""
    return _joined(np.maximum, a, b)


def both(a: Where, b: Where) -> Where:
    """Look where two functions agree: the smaller value of each cell."""
    return _joined(np.minimum, a, b)


def rescaled(where: Where, threshold: float, to: float) -> Where:
    """Make maps whose values are other numbers in the same order: `threshold` becomes `to`, and 0 and 1 stay."""
    change = lambda focus: np.interp(focus, (0, threshold, 1), (0, to, 1)).astype(np.float32)  # noqa: E731
    return lambda *given: [change(focus) for focus in where(*given)]


def _joined(join: Callable[[np.ndarray, np.ndarray], np.ndarray], a: Where, b: Where) -> Where:
    return lambda *given: [join(one, other) for one, other in zip(a(*given), b(*given), strict=True)]


def empty_map(crop: np.ndarray) -> np.ndarray:
    """Return zeros of the shape of the focus map of a chip [h, w, 3]."""
    return np.zeros([-(-side // STRIDE) for side in crop.shape[:2]], np.float32)
