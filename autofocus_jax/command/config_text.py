"""A config file as text, from a suggestion."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from typing import Any

from autofocus_jax.config import AnchorConfig, BackboneConfig, DataSource, DetectorConfig
from autofocus_jax.planning.candidates import CHIP
from autofocus_jax.planning.suggestion import Suggestion

_TEMPLATE = '''"""{name}: settings that `autofocus suggest` made from the sizes of images and objects.

{verdict}

{reasons}
"""

from __future__ import annotations

import math

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DetectorConfig, StackingConfig, TrainingConfig
from {module} import {kind}
from autofocus_jax.structures import Bucket, ChipRule, FocusRange, Scale, ValidRange


def get_config() -> Config:
    return Config(
        name={name!r},
        data={source},
        scales=(
{scales}        ),
        focus_range={focus_range},
        # Height, width, chips a batch.
        buckets=tuple(Bucket(*sizes) for sizes in (
{buckets}        )),
        detector={detector},
        stacking=StackingConfig(border_tolerance={tolerance:g}),
        training=TrainingConfig(
            steps={steps},
            batch=16,
            chip={chip},
            ranges=({ranges},),
            max_boxes={max_boxes},
            learning_rate=0.02,
            warmup_learning_rate=0.001,
            warmup_steps=200,
            drop_at=None,
        ),
    )
'''


def small_detector(num_classes: int, chip: int) -> DetectorConfig:
    """Return a network that trains on a CPU in hours; anchors fit chips of `chip` px."""
    sizes = tuple(round(size * chip / CHIP, 1) for size in (24, 40, 72, 128, 224, 384))
    return DetectorConfig(
        num_classes=num_classes,
        backbone=BackboneConfig(units=(1, 2, 3, 2), channels=(16, 64, 128, 256, 256)),
        anchors=AnchorConfig(sizes=sizes),
        rpn_channels=64, proposals_before_nms=1000, proposals=128, roi_channels=32, head_channels=128,
        focus_channels=64, pixel_deviation=(58.4, 57.1, 57.4),
    )  # fmt: skip


def paper_detector(num_classes: int, chip: int) -> DetectorConfig:
    """Return the paper's network (ResNet-101, deformable), for GPUs, as in configs/coco_r101.py."""
    sizes = tuple(round(size * chip / CHIP, 1) for size in DetectorConfig().anchors.sizes)
    return DetectorConfig(
        num_classes=num_classes, backbone=BackboneConfig(deformable_groups=4), anchors=AnchorConfig(sizes=sizes),
        proposal_least_side=1.0, roi_pooling="deformable",
    )  # fmt: skip


def config_text(
    suggestion: Suggestion, name: str, source: DataSource, detector: DetectorConfig, images: int, most_objects: int
) -> str:
    """Return Python whose get_config() gives the suggested Config.

    `images`: number of images of the data set, for the length of a training.
    """
    return _TEMPLATE.format(
        name=name, verdict=textwrap.fill(suggestion.verdict, 118),
        reasons="\n".join(textwrap.fill(f"- {r}", 118, subsequent_indent="  ") for r in suggestion.reasons),
        module=type(source).__module__, kind=type(source).__name__, source=_code(source),
        scales="".join(f"            {_code(scale)},\n" for scale in suggestion.scales),
        focus_range=_code(suggestion.candidate.focus_range), detector=_code(detector),
        buckets="".join(f"            ({b.height}, {b.width}, {b.batch}),\n" for b in suggestion.buckets),
        tolerance=suggestion.candidate.plan.stacking.border_tolerance, chip=suggestion.needs.chip,
        steps=max(2000, round(images * 1.5, -2)), ranges=", ".join(map(_code, suggestion.training_ranges)),
        max_boxes=min(400, max(60, 20 * math.ceil(most_objects / 20))),
    )  # fmt: skip


def _code(value: Any) -> str:
    """Python that gives a setting again; what has its default is left out."""
    if dataclasses.is_dataclass(value):
        shown = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        words = [f"{field.name}={_code(item)}" for field, item in shown if item != field.default]
        return f"{type(value).__name__}({', '.join(words)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_code, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and math.isinf(value):
        return "math.inf"
    return f"{value:g}" if isinstance(value, float) else repr(value)
