"""AutoFocus: efficient multi-scale inference (Najibi, Singh, Davis, ICCV 2019) in JAX and Flax.

The public names are looked up when they are first used, so that importing the package, or a part that runs on the host
alone, does not import JAX: the processes that render data should start at once and stay small.
"""

from __future__ import annotations

import importlib
from typing import Any

# Module below the package -> the names that it makes public. No name may be that of a module of the package.
_PUBLIC = {
    "structures": (
        "BACKGROUND", "FOCUS", "IGNORE", "STRIDE", "AutoFocusError", "Bucket", "ChipBatch", "ChipRule", "Cost",
        "Dataset", "Detections", "DetectorError", "DetectorOutput", "FocusRange", "GroundTruth", "ImageError",
        "ImageInfo", "Placement", "RuleError", "Scale", "TrainBatch", "TrainState", "ValidRange",
    ),
    "config": (
        "AnchorConfig", "BackboneConfig", "Config", "ConfigError", "DataSource", "DetectorConfig", "StackingConfig",
        "TrainingConfig",
    ),
    "config.stored": ("from_dict",),
    "config.load": ("load_config", "to_dict"),
    "data.coco": ("CocoDataset", "CocoSource", "write_coco"),
    "data.export": ("export_coco", "export_voc", "export_yolo"),
    "data.image": ("image_size", "read_image"),
    "scenes.source": ("ScenesSource", "render_scene"),
    "data.tfds": ("TfdsSource", "write_tfds"),
    "data.voc": ("VocSource", "write_voc"),
    "data.yolo": ("YoloSource", "write_yolo"),
    "focus.buckets": ("Multiple",),
    "focus.cascade": ("Detect", "Outcome", "Stage", "cascade", "stream"),
    "focus.chips": ("ChipFunction", "focus_chips", "merge_overlapping", "whole_level"),
    "focus.labels": ("focus_labels",),
    "focus.plan": ("Plan",),
    "focus.oracle": ("oracle_detect",),
    "focus.oracle_chips": ("ScaleChips", "oracle_chips"),
    "focus.stacking": ("ScaleDetections", "soft_nms", "stack"),
    "detector.api": ("Backbone", "Detector"),
    "detector.kinds": ("DETECTORS", "detector_of"),
    "detector.backbone": ("BACKBONES",),
    "detector.focus_network": ("FocusNetworkConfig",),
    "detector.one_stage_settings": ("OneStageConfig",),
    "training.sampling": ("positive_chips",),
    "training.pipeline": ("Batches", "Position", "chip_list"),
    "training.optimizer": ("optimizer", "schedule"),
    "training.step": ("initial_state", "make_step"),
    "weights.checkpoint": ("load_variables",),
    "weights.safetensors": ("shipped",),
    "inference.compiled": ("CompiledDetector", "compile_detector"),
    "inference.focus_network": ("network",),
    "inference.measure": ("Measurement", "measure"),
    "inference.model": ("Model", "load"),
    "inference.result": ("Result",),
    "inference.settings": ("with_sides", "with_thresholds"),
    "metrics.coco": ("CocoScores", "coco_results", "evaluate"),
    "metrics.voc": ("VocScores",),
    "metrics.focus": ("FocusCurve", "chip_recall", "pixel_curve"),
    "visualize.boxes": ("draw_boxes",),
    "visualize.panels": ("panel",),
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
