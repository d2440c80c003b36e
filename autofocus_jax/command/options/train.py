"""Train a detector.

autofocus train --config configs/demo.py --workdir runs/demo

The training continues from the newest checkpoint of the workdir. Without a checkpoint it starts from random weights, or
from --initial. It ends with model.safetensors in the workdir and an evaluation on the validation images. SIGTERM and
Ctrl-C save and stop. The same command then continues, to the bit as without the stop.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from autofocus_jax.command.options.processes import Processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Processes):
    config: str
    """config file: Python that defines get_config()"""
    workdir: str | None = None
    """folder of checkpoints, log and weights; default: runs/NAME with the config's name"""
    validation_images: int | None = None
    """images of a validation, at the end and every training.validate_every steps; 0 for none; default: 100, or none if
    the data have one split only"""
    validation_split: str = "val"
    """split of the validation; give "tune", if there is one, to choose the best checkpoint"""
    initial: str | None = None
    """weights to start from: a .safetensors file (a converted backbone, a whole detector) or "demo" (shipped, for the
    small network of `autofocus suggest`). Arrays that do not fit stay random. A resumed workdir does not need it"""
    stage: Literal["all", "proposals", "detector"] = "all"
    """proposals: train region proposals and write proposals.npz, for negative chips; detector: the main training; all:
    both"""
    accept_changes: bool = False
    """continue a workdir that was trained with another config or other data, with the present ones"""
    strict: bool = False
    """refuse training data with faults before training; by default faults are only reported"""
