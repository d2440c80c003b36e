"""A foreign detector as the cascade's `detect`: the only module of this room that knows the cascade's interface."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from autofocus_jax.foreign.canvases import CanvasConfig, Spent, find_in_chips
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.structures import Detections, HostAnswer, Placement, Where


class ForeignDetect:
    """A focus.flow.HostDetect: a foreign detector, composed with a function that says where to look.

    Its plan has loose chips (`Plan.buckets` is `Loose()`). Calls wait for each other, because such detectors use all
    cores or are not safe in several threads.

    Attributes:
        concurrency: useful number of calls at a time.
        categories: names by label; None if unknown.
        spent: the inputs that the detector ran on so far.
    """

    concurrency = 1

    def __init__(self, detector: CropDetector, where: Where | None = None, canvases: CanvasConfig = CanvasConfig()):
        """Compose a detector with a function that says where to look.

        Args:
            detector: crops to boxes.
            where: makes the focus maps; None for none, which suits a single scale and the full pyramid.
            canvases: how chips lie on the detector's input.
        """
        self.detector, self.where, self.canvases = detector, where, canvases
        self.categories = detector.categories
        self.spent = Spent()
        self._lock = threading.Lock()

    def __call__(self, crops: Sequence[np.ndarray], placements: Sequence[Placement]) -> HostAnswer:
        """Detect in the chips of one image and scale, which share canvases.

        Raises:
            ForeignError: the detector fails, or answers a label without a name.
        """
        with self._lock:
            found, spent = find_in_chips(self.detector, crops, self.canvases)
            self.spent += spent
        self._check(found)
        focus = None if self.where is None else self.where(crops, placements, found)
        return HostAnswer(found, focus, spent.canvases, spent.pixels)

    def _check(self, found: Sequence[Detections]) -> None:
        """Raise ForeignError for a label without a name."""
        highest = max((int(answer.labels.max()) for answer in found if len(answer.labels)), default=-1)
        if self.categories is not None and highest >= len(self.categories):
            raise ForeignError(f"the detector answers label {highest} where {len(self.categories)} names are known; "
                               "give the names of all its classes")  # fmt: skip
