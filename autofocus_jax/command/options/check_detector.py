"""Show how an ONNX file is understood as a detector, and its detections in one photograph.

autofocus check-detector model.onnx photo.jpg

prints the inputs, the layout of the outputs, the preparation of pixels and the classes, and writes
runs/check-detector/PHOTO.jpg with the boxes. Options correct a wrong guess.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.detector import ModelOptions


@dataclasses.dataclass(frozen=True)
class Arguments:
    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """an .onnx file"""
    photo: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PHOTO")]]
    """an image file"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """corrections of what the file says"""
    shown: float = 0.3
    """least score of a box in the picture"""
    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/check-detector"
    """folder of the picture"""
