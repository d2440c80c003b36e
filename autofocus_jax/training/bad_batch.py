"""A batch that made the loss infinite or NaN, kept on disk so that a person can look at it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import files, visualize
from autofocus_jax.structures import AutoFocusError, ChipBatch, TrainBatch
from autofocus_jax.training.panels import panels

_CHIPS = ("pixels", "size", "valid")
_TARGETS = ("boxes", "labels", "present", "trainable", "focus")
_INFO = "info_"


class BadBatch(NamedTuple):
    """What `save` kept."""

    batch: TrainBatch  # of NumPy arrays
    info: dict[str, np.ndarray]  # what the step returned: parts of the loss, gradient norm


def save(path: str | os.PathLike, batch: TrainBatch, info: Mapping[str, Any]) -> Path:
    """Writes a batch and what the step returned for it to an .npz file, and a picture of the chips beside it (.png).

    batch, info: of arrays on the host. The file holds the arrays of TrainBatch and its ChipBatch by their names
    (pixels, size, valid, boxes, labels, present, trainable, focus), and each value of info as info_NAME. Returns the
    path.
    """
    path = Path(path)
    arrays = {name: np.asarray(value) for name, value in zip(_CHIPS, batch.chips, strict=True)}
    arrays |= {name: np.asarray(value) for name, value in zip(_TARGETS, batch[1:], strict=True)}
    arrays |= {_INFO + name: np.asarray(value) for name, value in info.items()}
    files.write_npz(path, arrays)
    host = TrainBatch(ChipBatch(*(arrays[name] for name in _CHIPS)), *(arrays[name] for name in _TARGETS))
    visualize.write_picture(path.with_suffix(".png"), panels(host, count=len(host.boxes)))
    return path


def load(path: str | os.PathLike) -> BadBatch:
    """What save wrote; raises AutoFocusError when the file is missing or something else."""
    try:
        file = files.read_npz(path)
        chips = ChipBatch(*(file[name] for name in _CHIPS))
        batch = TrainBatch(chips, *(file[name] for name in _TARGETS))
        return BadBatch(batch, {name.removeprefix(_INFO): file[name] for name in file if name.startswith(_INFO)})
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise AutoFocusError(f"{path} is no saved batch ({reason}); give the .npz file that a training named") from None
