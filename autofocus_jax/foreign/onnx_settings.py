"""How an ONNX file is used: OnnxSettings."""

from __future__ import annotations

import dataclasses
from typing import Literal

from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.foreign.preparation import Numbers


@dataclasses.dataclass(frozen=True)
class OnnxSettings:
    """How an ONNX file is used. None leaves a setting to what the file says or to its layout.

    Attributes:
      layout: paddle, torchvision, mmdeploy, rtdetr, rfdetr, detr, detr-sigmoid, rtdetr-ultralytics, end2end, yolov8,
        yolov5, yolox or yolox-decoded.
      channels: order of the channels in the input, RGB or BGR.
      mean: an input value is (pixel - mean) / deviation; of pixels 0..255, in the order R, G, B.
      deviation: see mean; 255 255 255 alone gives 0..1.
      padding: RGB of what surrounds a crop.
      fit: letterbox keeps a crop's aspect, stretch fills the input.
      centred: whether a letterboxed crop lies in the centre of the input, or in its upper left corner.
      categories: names of the classes, by label.
      only: names of the classes that count; they become labels 0, 1, ... in this order.
      score_threshold: least score of a detection.
      nms_iou: of NMS inside each class, for layouts without NMS of their own; None leaves it out.
      most: detections of a crop at most.
      batch: crops of one run.
      side: (height, width) of the canvas for a file that takes any size, px; it then counts as fixed.
      providers: what to run on, best first ("cpu", "cuda", "tensorrt", or onnxruntime's own names). The first one must
        start: there is no fall-back to the CPU.
      threads: of one run; 0 leaves it to onnxruntime.
    """

    layout: str | None = None
    channels: Literal["RGB", "BGR"] | None = None
    mean: Numbers | None = None
    deviation: Numbers | None = None
    padding: tuple[int, int, int] | None = None
    fit: Literal["letterbox", "stretch"] | None = None
    centred: bool | None = None
    categories: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    score_threshold: float = 0.01
    nms_iou: float | None = 0.65
    most: int = 300
    batch: int | None = None
    side: tuple[int, int] | None = None
    providers: tuple[str, ...] = ("cpu",)
    threads: int = 0

    def __post_init__(self):
        if not 0 <= self.score_threshold <= 1:
            raise ForeignError(f"score_threshold must be in [0, 1], got {self.score_threshold}")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ForeignError(f"nms_iou must be in (0, 1], got {self.nms_iou}")
        if self.side is not None and not (len(self.side) == 2 and min(self.side) >= 1):
            raise ForeignError(f"side must be (height, width) in px, got {self.side}")
        for name in ("most", "batch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ForeignError(f"{name} must be at least 1, got {getattr(self, name)}")
