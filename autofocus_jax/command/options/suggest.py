"""Proposes scales, valid ranges, chips and buckets for a data set, and says whether the method can help it.

autofocus suggest data/annotations/instances_train.json

looks at the sizes of images and boxes, opens no image, and writes runs/suggest/NAME.py, a config that loads, and
runs/suggest/NAME.png, a plot of the sizes. It prints what other choices would cost: --seen or --pixels takes another
one. Without boxes, for a detector that you already have,

autofocus suggest photos/ --detector model.onnx

runs it on a sample at several magnifications and writes runs/suggest/NAME.json, a plan that `autofocus compare` takes.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.detector import ModelOptions


@dataclasses.dataclass(frozen=True)
class Arguments:
    annotations: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="ANNOTATIONS")]]
    """a COCO file (.json, .json.gz), the folder of a data set, or a config file, whose data are taken; with an .onnx
    file as --detector photographs: a folder, a file or a glob"""
    split: str = "train"
    """which images, where the data have splits"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/suggest"
    """folder of the config and the plot"""
    chip: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: 256, paper: 512)")] = None
    """side of a training chip"""
    seen: Annotated[float | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: 30, paper: 60)")] = None
    """sqrt(area) of an object, as a level shows it, from which the detector sees it well; goes with --chip"""
    context: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: 160, paper: 512)")] = None
    """least side of a chip in px of the level that it shows; goes with --chip"""
    pixels: Annotated[float | None, tyro.conf.arg(metavar="SIDE", help_behavior_hint="")] = None
    """the most pixels an image, as the side of a square: takes the plan of these that shows objects largest"""
    longest: int = 2560
    """the longer side of the finest level in px, at most; memory and time grow with its square"""
    detector: str = "small"
    """small: the network of the config trains on a CPU; paper: the paper's, for GPUs; else an .onnx file, a detector
    that you already have"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """a detector that you already have"""
    photographs: int = 8
    """photographs that such a detector is tried on"""
    side: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: the detector's own)")] = None
    """the longer side of a whole photograph that such a detector sees well"""
    sample: int = 2000
    """images whose chips are worked out"""
