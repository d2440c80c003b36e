"""Finished parts of a run on disk, each whole or not at all, so that an interrupted run can go on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax import npz
from autofocus_jax.structures import AutoFocusError, Cost, Detections


class PieceError(AutoFocusError):
    """A stored piece cannot be written, or is of another run."""


class Skipped(NamedTuple):
    """An image that could not be read."""

    index: int
    file_name: str
    reason: str


class Piece(NamedTuple):
    """What a run found and spent on some of its images."""

    indices: list[int]  # images that could be read, in the order asked
    detections: list[Detections]  # one per entry of `indices`
    info: Cost | None  # summed; None when no image could be read
    seconds: float  # wall time between the end of the piece before and the end of this one
    skipped: list[Skipped]


def save(path: Path, piece: Piece) -> None:
    """Writes a piece (npz); raises PieceError when that is not possible."""
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    boxes, scores, labels = (np.concatenate(parts) for parts in zip(empty, *piece.detections))
    counts = [len(found.scores) for found in piece.detections]
    info = {} if piece.info is None else {f"info_{name}": value for name, value in piece.info._asdict().items()}
    temporary = path.with_name(path.name + ".partial")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(
                file, indices=np.array(piece.indices, np.int64), counts=np.array(counts, np.int64), boxes=boxes,
                scores=scores, labels=labels, seconds=piece.seconds, skipped=json.dumps(piece.skipped), **info,
            )  # fmt: skip
        os.replace(temporary, path)
    except OSError as error:
        raise PieceError(f"{path} cannot be written ({error.strerror}); check the space on the disk") from None


def load(path: Path) -> Piece:
    """Reads a piece that `save` wrote; raises PieceError when it is damaged."""
    try:
        content = npz.load(path)
        bounds = np.cumsum(content["counts"])[:-1]
        fields = zip(*(np.split(content[name], bounds) for name in Detections._fields))
        info = {name: content[f"info_{name}"] for name in Cost._fields if f"info_{name}" in content}
        info |= {"images": int(info["images"])} if info else {}
        return Piece(
            content["indices"].tolist(),
            [Detections(*part) for part in fields] if len(content["counts"]) else [],
            Cost(**info) if info else None,
            float(content["seconds"]),
            [Skipped(*entry) for entry in json.loads(str(content["skipped"]))],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PieceError(f"{path} is damaged ({error}); remove it and its images are processed again") from None


def open_folder(folder: Path, run: dict[str, Any], resume: bool) -> None:
    """Makes the folder of a run's pieces, empty unless it is resumed.

    run: what the pieces depend on, as JSON data; a folder of another run is not resumed. Raises PieceError then, with
    the differences, and when the folder cannot be made.
    """
    path = folder / "run.json"
    try:
        if resume and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [f"{key}: {before.get(key)} -> {run.get(key)}" for key in sorted({*before, *run})
                       if before.get(key) != run.get(key)]  # fmt: skip
            if changed:
                raise PieceError(f"{folder} is of another run ({'; '.join(changed)}); run again without --resume")
            return
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        path.write_text(json.dumps(run, indent=1), encoding="utf-8")
    except OSError as error:
        raise PieceError(f"folder {folder} cannot be made ({error.strerror}); choose another --workdir") from None
    except ValueError as error:
        raise PieceError(f"{path} is damaged ({error}); run again without --resume") from None
