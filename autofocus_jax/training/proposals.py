"""The file of proposals: boxes of every training image, the source of negative chips."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax import files
from autofocus_jax.errors import ProposalsError
from autofocus_jax.ledger import data_identity, differences
from autofocus_jax.structures import Dataset

_AGAIN = "remove the file and run the stage of the proposals again"


def write(path: str | Path, boxes: Sequence[np.ndarray], dataset: Dataset, origin: Mapping[str, str]) -> None:
    """Write the proposals of each image, whole or not at all.

    Boxes are rounded outward to whole px, which halves the file: 8 bytes a proposal.

    Args:
        path: the file.
        boxes: [p, 4] of each image (image px), in the order of the data set.
        dataset: the images.
        origin: everything else that the boxes depend on, for `origin_of`.

    Raises:
        WriteError: the file cannot be written.
        ProposalsError: an array does not hold boxes.
    """
    path = Path(path)
    flat = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    flat = np.concatenate([np.floor(flat[:, :2]), np.ceil(flat[:, 2:])], axis=1)
    if not (np.isfinite(flat).all() and (flat >= 0).all()):
        raise ProposalsError("proposals lie outside of their images or are not numbers; want boxes in image px")
    kind = np.uint16 if flat.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    starts = np.cumsum([0, *(len(of_image) for of_image in boxes)], dtype=np.int64)
    notes = {"data": json.dumps(data_identity(dataset)), "origin": json.dumps(dict(origin))}
    files.write_npz(path, {"boxes": flat.astype(kind), "starts": starts} | notes)


def origin_of(path: str | Path) -> dict[str, str]:
    """Return what the boxes of a file depend on beside the images. Raises ProposalsError as `read` does."""
    return _note(Path(path), _content(Path(path)), "origin")


def read(path: str | Path, dataset: Dataset) -> Callable[[int], np.ndarray]:
    """Read the file that `write` wrote for the images of a dataset.

    Returns:
        Function from an image's index to its proposals [p, 4], float32, image px.

    Raises:
        ProposalsError: the file is missing, damaged, or of images of other names, sizes or number.
    """
    path = Path(path)
    content = _content(path)
    boxes, starts = content["boxes"], content["starts"]
    whole = boxes.ndim == 2 and boxes.shape[1:] == (4,) and starts.ndim == 1 and len(starts) > 0
    if not whole or starts[0] != 0 or starts[-1] != len(boxes) or (np.diff(starts) < 0).any():
        raise ProposalsError(f"proposals {path} are damaged; {_AGAIN}")
    changed = differences(_note(path, content, "data"), data_identity(dataset))
    if changed:
        raise ProposalsError(f"proposals {path} are of other images ({'; '.join(changed)}); {_AGAIN}")

    def of_image(index: int) -> np.ndarray:
        return boxes[starts[index] : starts[index + 1]].astype(np.float32)

    return of_image


def _content(path: Path) -> dict[str, np.ndarray]:
    try:
        content = files.read_npz(path)
        if missing := {"boxes", "starts"} - content.keys():
            raise ValueError(f"{sorted(missing)} are not in it")
    except FileNotFoundError:
        raise ProposalsError(f"proposals {path} do not exist; run the stage of the proposals first") from None
    except (OSError, ValueError) as error:
        raise ProposalsError(f"proposals {path} cannot be read ({files.reason(error)}); {_AGAIN}") from None
    return content


def _note(path: Path, content: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    if name not in content:
        raise ProposalsError(f"proposals {path} are of an older version, which did not say of which images; {_AGAIN}")
    try:
        return dict(json.loads(str(content[name])))
    except (ValueError, TypeError, RecursionError) as error:
        raise ProposalsError(f"proposals {path} are damaged ({files.reason(error)}); {_AGAIN}") from None
