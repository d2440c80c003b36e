"""The type of a function that says where to look, and how two of them make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autofocus_jax.structures import STRIDE, Detections, Placement

# The chips of one image and scale (uint8 RGB [h, w, 3] each), where each comes from, and what the detector found in
# each (chip px), None if it did not run -> a focus map for each chip: [ceil(h / 16), ceil(w / 16)] float32 in 0..1.
Where = Callable[[Sequence[np.ndarray], Sequence[Placement], Sequence[Detections] | None], list[np.ndarray]]


def either(a: Where, b: Where) -> Where:
    """Look where one of two functions says so: the larger value of each cell."""
    return _joined(np.maximum, a, b)


def both(a: Where, b: Where) -> Where:
    """Look where two functions agree: the smaller value of each cell."""
    return _joined(np.minimum, a, b)


def _joined(join: Callable[[np.ndarray, np.ndarray], np.ndarray], a: Where, b: Where) -> Where:
    return lambda *given: [join(one, other) for one, other in zip(a(*given), b(*given), strict=True)]


def empty_map(crop: np.ndarray) -> np.ndarray:
    """Return zeros of the shape of the focus map of a chip [h, w, 3]."""
    return np.zeros([-(-side // STRIDE) for side in crop.shape[:2]], np.float32)
