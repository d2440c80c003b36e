"""The detections of one image, and their forms for other programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from autofocus_jax.structures import AutoFocusError


@dataclasses.dataclass(frozen=True)
class Result:
    """Detections of one image, best first, and their cost.

    Attributes:
        boxes: [n, 4] float32 xyxy, half-open, image frame (pixels of the image as given).
        scores: [n] float32.
        labels: [n] int32, positions in `categories`.
        categories: names of the classes.
        size: (height, width) of the image.
        pixels: level pixels that AutoFocus processed.
        pyramid_pixels: level pixels of the full image pyramid.
        name: path of the image, if it came from a file.
        stages: chips and focus maps of every scale (focus.cascade.Stage), if they were asked for.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    categories: tuple[str, ...]
    size: tuple[int, int]
    pixels: int
    pyramid_pixels: int
    name: str | None = None
    stages: list | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """Return the name of the category of each detection."""
        return [self.categories[label] for label in self.labels]

    def above(self, score: float) -> Result:
        """Return the detections with at least this score."""
        keep = self.scores >= score
        return dataclasses.replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep])

    def to_numpy(self) -> np.ndarray:
        """Return an [n] structured array of x1, y1, x2, y2, score (float32) and label (int32)."""
        fields = [(name, np.float32) for name in ("x1", "y1", "x2", "y2", "score")] + [("label", np.int32)]
        rows = np.empty(len(self), np.dtype(fields))
        for column, name in enumerate(("x1", "y1", "x2", "y2")):
            rows[name] = self.boxes[:, column]
        rows["score"], rows["label"] = self.scores, self.labels
        return rows

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return entries of COCO's results format: bbox as x, y, width, height.

        Args:
            image_id: id of the image.
            category_ids: id of each category; by default label k becomes k + 1.

        Raises:
            AutoFocusError: the number of ids is not the number of categories.
        """
        ids = range(1, len(self.categories) + 1) if category_ids is None else category_ids
        if len(ids) != len(self.categories):
            raise AutoFocusError(f"{len(ids)} category ids for {len(self.categories)} categories; give one for each")
        corners = self.boxes.astype(np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
        return [
            {"image_id": int(image_id), "category_id": int(ids[label]), "bbox": box, "score": score}
            for box, label, score in zip(boxes, self.labels.tolist(), self.scores.astype(np.float64).tolist())
        ]

    def to_supervision(self) -> Any:
        """Return supervision.Detections with the names of the categories in its data.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision needs the package supervision; pip install supervision") from None
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32), confidence=self.scores.copy(), class_id=self.labels.astype(int),
            data={"class_name": np.array(self.names, dtype=str)},
        )  # fmt: skip
