"""What the drop-ins share: the cascade on one image, arguments that have no meaning here, packages that are missing."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from autofocus_jax.errors import DropInError
from autofocus_jax.focus.cascade import cascade
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.canvases import CanvasConfig
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.proposal import THRESHOLD, proposal
from autofocus_jax.structures import Cost, Detections, Where
from autofocus_jax.where.weak import weak

# Settings of StackingConfig that keep all there is.
_UNMERGED: dict[str, Any] = {"nms_iou": 1.0, "max_detections": 100_000}


def plan_for(detector: CropDetector, image: np.ndarray, plan: Plan | None) -> Plan:
    """Return the plan that was given, else the one proposed for an image [h, w, 3]."""
    return proposal(detector, [image.shape[:2]]).plan if plan is None else plan


def weakest(plan: Plan) -> float:
    """Return the least score that a chip rule of the plan reads, for a focus map of the detector's own scores."""
    return min((scale.chips.threshold for scale in plan.scales if scale.chips is not None), default=THRESHOLD)


def look(
    image: np.ndarray,
    detector: CropDetector,
    plan: Plan,
    where: Where | None,
    overlap: float,
    least: float,
    merged: bool,
) -> tuple[Detections, Cost]:
    """Run the cascade on one image.

    Args:
        image: uint8 [h, w, 3].
        detector: crops to boxes.
        plan: scales and rules, of loose chips.
        where: where to look next; None for weak focus.
        overlap: of windows of a chip that is larger than the detector's canvas, as a share of it.
        least: score of a detection that comes back. Weaker ones still say where to look.
        merged: whether the plan's NMS joins what the scales found; else all of it comes back.

    Returns: the detections, image px, best first, and what they cost.
    """
    if not 0 <= least <= 1:
        raise DropInError(f"the least score must be in [0, 1], got {least}")
    # Scores above the threshold count, so `least` itself needs the number before it.
    threshold = max(0.0, float(np.nextafter(np.float32(least), np.float32(-1))))
    stacking = dataclasses.replace(plan.stacking, score_threshold=threshold, **({} if merged else _UNMERGED))
    plan = dataclasses.replace(plan, stacking=stacking)
    detect = ForeignDetect(detector, weak() if where is None else where, CanvasConfig(overlap=overlap))
    (found,), cost, _ = cascade([image], detect, plan)
    return found, cost


def refuse(of: str, arguments: Mapping[str, tuple[Any, Any]], why: str) -> None:
    """Raise DropInError for the first argument that does not have its default.

    Args:
        of: what takes the arguments.
        arguments: name -> (value, default).
        why: what an argument of them has no meaning for.
    """
    for name, (value, default) in arguments.items():
        if value is not default and value != default:
            raise DropInError(f"{name}={value!r} has no meaning for {of}, {why}; leave it out")


def package(module: str, name: str, install: str) -> ModuleType:
    """Return a module of a package that we do without; DropInError, which says how to install it, without it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DropInError(f"{name} is needed and cannot be imported ({error}); pip install {install}") from None
