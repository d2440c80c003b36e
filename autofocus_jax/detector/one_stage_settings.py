"""Settings of the one-stage detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from autofocus_jax.config import AnchorConfig, DetectorSettings


@dataclasses.dataclass(frozen=True)
class OneStageConfig(DetectorSettings):
    """A detector of the RetinaNet type (Lin et al. 2017): dense anchors and the focal loss, on one map at stride 16.

    Two subnets, for classes and for boxes, each have head_layers 3x3 convolutions after a 1x1 convolution.

    - candidates, nms_iou: number of anchors of a chip that are decoded and thinned by class-agnostic NMS, and its IoU.
    - detections_area: chips of at least this area (chip px^2) get all `detections`. Smaller chips get their share, but
      at least detections_least. None gives all to all chips.
    - positive_iou, negative_iou: in training, the overlap with an object from which an anchor is an object, and below
      which it is background.
    - ignore_iou: the overlap with an out-of-range box above which an anchor is ignored.
    """

    anchors: AnchorConfig = AnchorConfig()
    head_channels: int = 256
    head_layers: int = 4
    focus_channels: int = 256
    candidates: int = 1000
    detections: int = 100
    detections_area: int | None = None
    detections_least: int = 16
    nms_iou: float = 0.6
    box_deviations: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    box_weight: float = 1.0
    positive_iou: float = 0.5
    negative_iou: float = 0.4
    ignore_iou: float = 0.3

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        most_of = {"head_layers": 16, "candidates": 2**15, "detections": 2**13, "detections_least": 2**13}
        for name, most in most_of.items():
            if not 1 <= getattr(self, name) <= most:
                yield f"detector.{name} {getattr(self, name)}; want 1 to {most}"
        if self.detections_area is not None and self.detections_area < 256:
            yield f"detector.detections_area {self.detections_area}; want at least one cell, 256 px^2, or None"
        for name in ("nms_iou", "focal_alpha", "positive_iou", "negative_iou", "ignore_iou"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"detector.{name} {getattr(self, name)}; want 0 to 1"
        if self.negative_iou > self.positive_iou:
            yield f"detector.negative_iou {self.negative_iou}; want at most positive_iou, {self.positive_iou}"
        if self.focal_gamma < 0 or self.box_weight < 0:
            yield f"detector.focal_gamma {self.focal_gamma}, box_weight {self.box_weight}; want 0 or more"
