"""Propose scales, valid ranges, chips and buckets for a data set, and say whether the method can help.

autofocus suggest data/annotations/instances_train.json

looks at the sizes of images and boxes, without opening images. It writes the config runs/suggest/NAME.py and the plot
runs/suggest/NAME.png, and prints the cost of other choices. Take another choice with --seen or --pixels. Without boxes,
for a detector that you already have,

autofocus suggest photos/ --detector model.onnx

runs the detector on a sample at several magnifications and writes the plan runs/suggest/NAME.json for
`autofocus compare`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.detector import ModelOptions


@dataclasses.dataclass(frozen=True)
class Arguments:
    annotations: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="ANNOTATIONS")]]
    """a COCO file (.json, .json.gz), the folder of a data set, or a config file; with an .onnx file as
    --detector: photographs, as a folder, a file or a glob"""
    split: str = "train"
    """which split, if the data have splits"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/suggest"
    """folder of the config and the plot"""
    chip: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: 256, paper: 512)")] = None
    """side of a training chip"""
    seen: Annotated[float | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: 30, paper: 60)")] = None
    """sqrt(area) of an object, in level px, from which the detector sees it well; scales with --chip"""
    context: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: 160, paper: 512)")] = None
    """least side of a chip, in px of the level that it shows; scales with --chip"""
    pixels: Annotated[float | None, tyro.conf.arg(metavar="SIDE", help_behavior_hint="")] = None
    """most pixels an image, as the side of a square: of the plans within it, take the one that shows objects largest"""
    longest: int = 2560
    """longest longer side of the finest level, px; memory and time grow with its square"""
    detector: str = "small"
    """small: a network that trains on a CPU; paper: the paper's network, for GPUs; else an .onnx file, a detector that
    you already have"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """a detector that you already have"""
    photographs: int = 8
    """number of photographs to try an .onnx detector on"""
    side: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: the detector's own)")] = None
    """longer side at which an .onnx detector sees a whole photograph well"""
    sample: int = 2000
    """number of images whose chips are computed"""
