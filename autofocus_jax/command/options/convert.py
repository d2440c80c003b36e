"""Turns a file of weights into this program's format: weights for one config, in one file.

Reads MXNet checkpoints and backbones of the paper's authors (.params), ResNets of torchvision and timm (.pth,
.safetensors) and this program's own files. A file of a backbone alone gives heads that are drawn at random, to train
from.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Arguments:
    file: tyro.conf.Positional[str]
    """.params, .pth or .safetensors"""
    config: str
    """config file: Python that defines get_config()"""
    output: str
    """the .safetensors file to write"""
    dtype: Literal["float32", "float16"] = "float32"
    """of the kernels in the output; float16 halves it"""
    folded_boxes: bool = False
    """an MXNet file's bbox_pred_weight has the box deviations folded in (bbox_pred_weight_test is known to have)"""
    pixels: Literal["auto", "imagenet", "half", "config"] = "auto"
    """what a PyTorch file was trained with: ImageNet's mean and deviation, 127.5 for both, or what the config says"""
