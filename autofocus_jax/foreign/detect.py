"""A foreign detector as the cascade's `detect`: the one place of this room that knows the cascade's interface."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from autofocus_jax.foreign.canvases import CanvasConfig, Spent, find_in_chips
from autofocus_jax.foreign.found import CropDetector, Found
from autofocus_jax.structures import ChipBatch, DetectorOutput, Placement

# See where/combine.py; a room of its own, which this one does not know.
Where = Callable[[ChipBatch, Sequence[Placement], DetectorOutput | None], np.ndarray]


class ForeignDetect:
    """A `detect` for the cascade.

    Calls wait for each other: such detectors use all cores, or are not safe in several threads.

    Attributes:
      concurrency: calls that make sense at a time.
      spent: canvases and pixels that the detector was run on so far.
    """

    concurrency = 1

    def __init__(self, detector: CropDetector, where: Where | None = None, canvases: CanvasConfig = CanvasConfig()):
        """Compose a detector with a function that says where to look.

        Args:
          where: makes the focus maps; None for none, which suits a single scale and the full pyramid.
          canvases: how chips lie on the detector's input.
        """
        self.detector, self.where, self.canvases = detector, where, canvases
        self.spent = Spent()
        self._lock = threading.Lock()

    def __call__(self, chips: ChipBatch, placements: Sequence[Placement]) -> DetectorOutput:
        """Detect in each filled row of a batch, on its true pixels alone: padding is the detector's own."""
        crops = [
            np.ascontiguousarray(chips.pixels[row, :height, :width])
            for row, (height, width) in enumerate(np.asarray(chips.size)[: len(placements)])
        ]
        with self._lock:
            found, spent = self._find(crops, placements)
            self.spent += spent
        output = as_output(found, len(chips.pixels), self.detector.categories)
        if self.where is None:
            height, width = chips.pixels.shape[1:3]
            return output._replace(focus=np.zeros((len(chips.pixels), -(-height // 16), -(-width // 16)), np.float32))
        return output._replace(focus=self.where(chips, placements, output))

    def _find(self, crops: list[np.ndarray], placements: Sequence[Placement]) -> tuple[list[Found], Spent]:
        """Chips of one image and scale share canvases; those of others never lie beside them."""
        groups: dict[tuple, list[int]] = {}
        for row, place in enumerate(placements):
            groups.setdefault((place.image, place.scale), []).append(row)
        found: list[Found] = [None] * len(crops)
        spent = Spent()
        for rows in groups.values():
            answers, cost = find_in_chips(self.detector, [crops[row] for row in rows], self.canvases)
            spent += cost
            for row, answer in zip(rows, answers):
                found[row] = answer
        return found, spent


def as_output(found: Sequence[Found], batch: int, categories: Sequence[str] | None) -> DetectorOutput:
    """Turn what was found in the first rows of a batch into padded arrays, without a focus map.

    categories: their number is the number of score columns; None takes as many as the labels want.
    """
    most = max([1, *(len(answer.scores) for answer in found)])
    labels = [int(answer.labels.max(initial=0)) for answer in found]
    classes = len(categories) if categories is not None else 1 + max([0, *labels])
    boxes, scores = np.zeros((batch, most, 4), np.float32), np.zeros((batch, most, classes), np.float32)
    valid = np.zeros((batch, most), bool)
    for row, answer in enumerate(found):
        count = len(answer.scores)
        boxes[row, :count] = answer.boxes
        scores[row, np.arange(count), answer.labels] = answer.scores
        valid[row, :count] = True
    return DetectorOutput(boxes, scores, valid, None)
