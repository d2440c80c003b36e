"""Convert a weights file into this program's format: one file, for one config.

Reads MXNet checkpoints and backbones of the paper's authors (.params), ResNets of torchvision and timm (.pth,
.safetensors) and this program's own files. For a backbone-only file the heads are drawn at random; train from such a
file.
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
    """type of the kernels in the output; float16 halves the file"""
    folded_boxes: bool = False
    """bbox_pred_weight of the MXNet file has the box deviations folded in (bbox_pred_weight_test always has)"""
    pixels: Literal["auto", "imagenet", "half", "config"] = "auto"
    """normalisation that a PyTorch file was trained with: ImageNet's, 127.5 for mean and deviation, or the config's"""
