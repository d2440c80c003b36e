"""Trains a detector.

autofocus train --config configs/demo.py --workdir runs/demo

Goes on from the newest checkpoint of the workdir, if there is one; else starts from random weights, or from those of
--initial. Ends with model.safetensors in the workdir and with an evaluation of AutoFocus on the validation images.
SIGTERM and Ctrl-C save and stop; the same command goes on, to the bit as if it had not been stopped.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from autofocus_jax.command.options.processes import Processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Processes):
    config: str
    """Config file, as configs/demo.py."""
    workdir: str | None = None
    """Where checkpoints, log and weights go; default runs/NAME of the config."""
    validation_images: int | None = None
    """Images of a validation, at the end and every training.validate_every steps; 0 for none. Default: 100, or none
    where the data have one split alone."""
    validation_split: str = "val"
    """Which images of the data source those are; "tune", where there is one, when the best checkpoint is to be used."""
    initial: str | None = None
    """A .safetensors file to start from, as a converted backbone or a whole detector, or "demo", the shipped weights of
    rendered scenes, for the small network of `autofocus suggest`. What does not fit stays random.
    A workdir that was started from it goes on without reading it again."""
    stage: Literal["all", "proposals", "detector"] = "all"
    """Only train region proposals and write proposals.npz, for negative chips; or only what follows; or both."""
    accept_changes: bool = False
    """Go on in a workdir that was trained with another config, with the settings of this one."""
    strict: bool = False
    """Refuse training data that have something wrong in them, before training; else it is only reported."""
