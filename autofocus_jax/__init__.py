"""AutoFocus: efficient multi-scale inference (Najibi, Singh, Davis, ICCV 2019) in JAX and Flax.

The public names are looked up when they are first used, so that importing the package, or a part that runs on the host
alone, does not import JAX: the processes that render data should start at once and stay small.
"""

from __future__ import annotations

import importlib
from typing import Any

# Module below the package -> the names that it makes public. No name may be that of a module of the package. What else
# a module holds is imported from there. Checkers and editors read __init__.pyi.
_PUBLIC = {
    "config": ("BackboneConfig", "Config", "DataSource", "DetectorConfig", "StackingConfig", "TrainingConfig"),
    "config.load": ("load_config",),
    "data.coco": ("CocoSource",),
    "data.image": ("read_image",),
    "data.tfds": ("TfdsSource",),
    "data.voc": ("VocSource",),
    "data.yolo": ("YoloSource",),
    "detector.api": ("Backbone", "Detector"),
    "detector.backbone": ("BACKBONES",),
    "detector.kinds": ("DETECTORS", "detector_of"),
    "detector.one_stage_settings": ("OneStageConfig",),
    "errors": ("AutoFocusError",),
    "focus.buckets": ("Multiple",),
    "focus.cascade": ("cascade",),
    "focus.chips": ("focus_chips",),
    "focus.oracle": ("oracle_detect",),
    "focus.plan": ("Plan",),
    "inference.compiled": ("compile_detector",),
    "inference.measure": ("measure",),
    "inference.model": ("Model", "load"),
    "scenes.source": ("ScenesSource", "render_scene"),
    "structures": (
        "STRIDE", "Bucket", "ChipBatch", "ChipRule", "Dataset", "Detections", "DetectorOutput", "FocusRange",
        "GroundTruth", "ImageInfo", "Scale", "ValidRange",
    ),
    "visualize.panels": ("panel",),
    "weights.variables": ("load_variables",),
    "weights.safetensors": ("shipped",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("autofocus_jax")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
