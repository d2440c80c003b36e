"""Evaluate a detector: every scale alone, the full image pyramid and AutoFocus, with a table, metrics and panels."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.processes import Processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Processes):
    config: str
    """config file: Python that defines get_config()"""
    weights: str | None = None
    """a .safetensors file, a training's --workdir, or "demo" (shipped); default: the weights shipped for the config"""
    output: str | None = None
    """folder of the results; default: evaluation/ in the training folder of --weights, else runs/NAME/evaluation with
    the config's name"""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW...", help_behavior_hint="(default: all)")] = ()
    """rows of the table to make, as scale3 pyramid autofocus"""
    limit: int | None = None
    """number of first images to evaluate"""
    split: str = "val"
    """split of the data source"""
    max_detections: int | None = None
    """detections of an image that COCO's AP counts; at least as many are kept; default: COCO's 100"""
    panels: int = 4
    """number of images to draw panels of, and to show in report.html"""
    resume: bool = False
    """continue an interrupted evaluation in the same --output; finished images are not processed again"""
    pixels: float | None = None
    """choose the thresholds, on --tune-split, for so many pixels an image, given as the side of a square"""
    drop: float | None = None
    """choose the thresholds, on --tune-split, for the fewest pixels within so many points of AP below the pyramid"""
    tune_split: str = "tune"
    """split that --pixels and --drop choose on; never the reported split"""
