"""The file of proposals: boxes of every training image, from which negative chips are made."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from autofocus_jax import npz
from autofocus_jax.structures import AutoFocusError


class ProposalsError(AutoFocusError):
    """A file of proposals is missing, damaged or of other images, or cannot be written."""


def write(path: str | Path, boxes: Sequence[np.ndarray]) -> None:
    """Writes the proposals [p, 4] (image px) of each image, in the order of the data set; whole or not at all.

    Boxes are rounded outward to whole px, which makes the file, and what `read` holds of it, half as large: 8 bytes a
    proposal. Raises ProposalsError when the file cannot be written.
    """
    path = Path(path)
    flat = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    flat = np.concatenate([np.floor(flat[:, :2]), np.ceil(flat[:, 2:])], axis=1)
    if not (np.isfinite(flat).all() and (flat >= 0).all()):
        raise ProposalsError("proposals lie outside of their images or are not numbers; want boxes in image px")
    kind = np.uint16 if flat.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    starts = np.cumsum([0, *(len(of_image) for of_image in boxes)], dtype=np.int64)
    temporary = path.with_name(path.name + ".partial")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, boxes=flat.astype(kind), starts=starts)
        os.replace(temporary, path)
    except OSError as error:
        raise ProposalsError(f"{path} cannot be written ({error.strerror}); check the space on the disk") from None


def read(path: str | Path, images: int) -> Callable[[int], np.ndarray]:
    """What `write` wrote: image index -> [p, 4] float32 image px. images: how many the data set has.

    Raises ProposalsError when the file is missing, damaged or of another number of images.
    """
    path = Path(path)
    try:
        content = npz.load(path)
        boxes, starts = content["boxes"], content["starts"]
    except FileNotFoundError:
        raise ProposalsError(f"proposals {path} do not exist; run train.py with --stage proposals") from None
    except (OSError, KeyError, ValueError) as error:
        raise ProposalsError(f"proposals {path} cannot be read ({' '.join(str(error).split())[:200]}); remove the file "
                             "and run train.py with --stage proposals") from None  # fmt: skip
    whole = boxes.ndim == 2 and boxes.shape[1:] == (4,) and starts.ndim == 1 and len(starts) > 0
    if not whole or starts[0] != 0 or starts[-1] != len(boxes) or (np.diff(starts) < 0).any():
        raise ProposalsError(f"proposals {path} are damaged; remove the file and run train.py with --stage proposals")
    if len(starts) - 1 != images:
        raise ProposalsError(f"proposals {path} are of {len(starts) - 1} images but the data set has {images}; remove "
                             "the file and run train.py with --stage proposals")  # fmt: skip

    def of_image(index: int) -> np.ndarray:
        return boxes[starts[index] : starts[index + 1]].astype(np.float32)

    return of_image
