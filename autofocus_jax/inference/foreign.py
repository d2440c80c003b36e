"""A foreign detector of any kind, ready for the cascade (`load(detector=...)`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from autofocus_jax.config import ConfigError
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.callback import PythonSettings
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.onnx_model import load_onnx
from autofocus_jax.foreign.onnx_settings import OnnxSettings
from autofocus_jax.foreign.proposal import proposal
from autofocus_jax.foreign.python_models import from_model
from autofocus_jax.inference.focus_network import look_of, network
from autofocus_jax.structures import Where

Propose = Callable[[Sequence[tuple[int, int]]], Plan]  # (height, width) of photographs, px -> a plan for them


def ready(
    detector: Any, focus: str | os.PathLike | Where | None = "weak", categories: Sequence[str] | None = None
) -> tuple[ForeignDetect, Propose]:
    """Make a foreign detector ready for the cascade. Return it, with its categories, and what proposes its plan.

    Args:
        detector: an .onnx file, a CropDetector, a ForeignDetect (whose own `where` replaces `focus`), or a Python
            object that foreign.python_models.from_model accepts.
        focus: where to look again: "weak", a function, or None for everywhere (the full image pyramid).
        categories: names of the classes; by default the detector's own.

    Raises:
        ForeignError: the detector cannot be used; the message says why.
        ConfigError: names are unknown or do not fit, or `focus` is another word.
    """
    names = None if categories is None else tuple(categories)
    detect = detector if isinstance(detector, ForeignDetect) else ForeignDetect(_crops(detector, names), _where(focus))
    known = detect.detector.categories
    if names is None and known is None:
        raise ConfigError("the detector does not say the names of its classes; give categories")
    if names is not None and known is not None and len(names) != len(known):
        raise ConfigError(f"{len(names)} names of categories for a detector of {len(known)}; give as many")
    detect.categories = names or known
    return detect, partial(_proposed, detect)


def _crops(detector: Any, names: tuple[str, ...] | None) -> CropDetector:
    if isinstance(detector, CropDetector):
        return detector
    if isinstance(detector, str | os.PathLike):
        return load_onnx(detector, OnnxSettings(categories=names))
    return from_model(detector, PythonSettings(categories=names))


def _where(focus: str | os.PathLike | Where | None) -> Where | None:
    if focus is None or callable(focus):
        return focus
    if isinstance(focus, os.PathLike) or str(focus).endswith(".safetensors"):
        return network(focus)
    if focus != "weak":
        raise ConfigError(f"focus must be 'weak', the .safetensors file of a focus network, a function or None, got "
                          f"{focus!r}")  # fmt: skip
    return look_of(focus)


def _proposed(detect: ForeignDetect, sizes: Sequence[tuple[int, int]]) -> Plan:
    """The plan for photographs of these sizes; the full pyramid where nothing says where to look."""
    plan = proposal(detect.detector, sizes).plan
    return plan if detect.where is not None else plan.pyramid()
