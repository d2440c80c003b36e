"""Finished parts of a run on disk, each whole or not at all, so that an interrupted run can continue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import files
from autofocus_jax.errors import PieceError
from autofocus_jax.structures import Cost, Detections


class Skipped(NamedTuple):
    """An image that could not be read, or that the detector failed on."""

    index: int  # type: ignore[assignment]
    file_name: str
    reason: str


class Piece(NamedTuple):
    """Detections and cost of some images of a run."""

    indices: list[int]  # images that were processed, in the order asked
    detections: list[Detections]  # one per entry of `indices`
    info: Cost | None  # summed; None when no image was processed
    seconds: float  # wall time between the end of the piece before and the end of this one
    skipped: list[Skipped]


def save(path: Path, piece: Piece) -> None:
    """Write a piece as npz. Raises WriteError."""
    boxes, scores, labels = (np.concatenate(parts) for parts in zip(Detections.none(), *piece.detections))
    counts = [len(found.scores) for found in piece.detections]
    info = {} if piece.info is None else {f"info_{name}": value for name, value in piece.info._asdict().items()}
    images = {"indices": np.array(piece.indices, np.int64), "counts": np.array(counts, np.int64)}
    found = {"boxes": boxes, "scores": scores, "labels": labels}
    rest = {"seconds": piece.seconds, "skipped": json.dumps(piece.skipped)}
    files.write_npz(path, images | found | rest | info)


def load(path: Path) -> Piece:
    """Read a piece that `save` wrote.

    Raises:
        PieceError: the piece is damaged.
    """
    try:
        content = files.read_npz(path)
        bounds = np.cumsum(content["counts"])[:-1]
        fields = zip(*(np.split(content[name], bounds) for name in Detections._fields))
        info: dict[str, Any] = {name: content[f"info_{name}"] for name in Cost._fields if f"info_{name}" in content}
        info |= {"images": int(info["images"])} if info else {}
        return Piece(
            content["indices"].tolist(),
            [Detections(*part) for part in fields] if len(content["counts"]) else [],
            Cost(**info) if info else None,
            float(content["seconds"]),
            [Skipped(*entry) for entry in json.loads(str(content["skipped"]))],
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise PieceError(f"{path} is damaged ({error}); remove it and its images are processed again") from None
