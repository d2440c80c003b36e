"""The settings shared by all detectors, and those of the two-stage detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from autofocus_jax.structures import STRIDE


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """ResNet of bottleneck units; stage 4 keeps stride 16 (dilated). Defaults are those of a plain ResNet-101.

    - units: bottleneck units of stages 1..4 (conv2..conv5).
    - channels: output channels of the stem and of the stages.
    - deformable_groups: groups of offsets of stage 4's 3x3 convolutions, which are then deformable; 0 leaves them
      plain.
    - kind: "v2" is pre-activation (He et al. 2016, the authors' release), "v1" torchvision's post-activation v1.5.
      "lite0" and "lite0-short" are EfficientNet-Lite0, with fixed sizes. detector.backbone.BACKBONES has all kinds.
    - folded: batch norms are part of the convolutions before them (detector/folding), for inference only.
    """

    units: tuple[int, int, int, int] = (3, 4, 23, 3)
    channels: tuple[int, int, int, int, int] = (64, 256, 512, 1024, 2048)
    dilation: int = 2
    deformable_groups: int = 0
    kind: str = "v2"
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class AnchorConfig:
    """Anchor shapes: every size (sqrt of area, chip px) with every ratio (height over width), at every cell."""

    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    sizes: tuple[float, ...] = (32, 64, 112, 160, 208, 256, 384)


@dataclasses.dataclass(frozen=True)
class DetectorSettings:
    """Settings that every detector has; one subclass for each kind of detector (detector/kinds).

    - compute_dtype: type of convolutions and fully connected layers. Parameters, scores, boxes and NMS are always
      float32.
    - frozen_norm: batch norms keep their statistics, scales and shifts in training.
    """

    num_classes: int = 80
    backbone: BackboneConfig = BackboneConfig()
    pixel_mean: tuple[float, float, float] = (123.68, 116.779, 103.939)
    pixel_deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    frozen_norm: bool = False

    def faults(self) -> Iterator[str]:
        """Yield the faults of these settings, a line each."""
        backbone = self.backbone
        groups, width = backbone.deformable_groups, backbone.channels[-1] // 4
        if groups < 0:
            yield f"backbone.deformable_groups {groups}; want 0 (plain) or more"
        if groups > 0 and width % groups:
            yield f"backbone.deformable_groups {groups} must divide stage 4's {width} channels"
        if self.num_classes < 1:
            yield f"detector.num_classes {self.num_classes}; want at least 1"
        if self.compute_dtype not in ("float32", "bfloat16"):
            yield f"compute_dtype {self.compute_dtype!r} is not known; want one of float32, bfloat16"


@dataclasses.dataclass(frozen=True)
class DetectorConfig(DetectorSettings):
    """The two-stage detector. Defaults follow the paper except that nothing is deformable.

    `configs/coco_r101.py` turns deformable layers on.

    - roi_pooling: "align" is RoIAlign, "deformable" the release's position-sensitive pooling with learnt offsets.
    - proposal_least_side: proposals past a border keep this many chip px inside the border. 1 equals the release, which
      clips inclusive boxes to the last pixel.
    - proposals_area: in detection, chips of at least this area (chip px^2) get all `proposals`. Smaller chips get their
      share, but at least proposals_least. None gives all to all chips, as the release does.
    """

    anchors: AnchorConfig = AnchorConfig()
    rpn_channels: int = 512
    proposals_before_nms: int = 6000
    proposals: int = 300
    proposal_nms_iou: float = 0.7
    roi_channels: int = 256
    roi_size: int = 7
    head_channels: int = 1024
    box_deviations: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    focus_channels: int = 256
    roi_pooling: Literal["align", "deformable"] = "align"
    proposal_least_side: float = 0.0
    proposals_area: int | None = None
    proposals_least: int = 16

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if self.roi_pooling not in ("align", "deformable"):
            yield f"roi_pooling {self.roi_pooling!r} is not known; want one of align, deformable"
        least, area, fewest = self.proposal_least_side, self.proposals_area, self.proposals_least
        if least < 0:
            yield f"proposal_least_side {least}; want 0 px or more"
        if area is not None and area < STRIDE**2:
            yield f"proposals_area {area}; want at least one cell, {STRIDE**2} px^2, or None"
        if fewest < 1:
            yield f"proposals_least {fewest}; want at least 1"
