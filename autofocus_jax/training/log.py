"""The log of a training: TensorBoard, the same numbers as JSON lines, and pictures. A resumed run continues the log."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from tensorboardX import SummaryWriter

from autofocus_jax import files
from autofocus_jax.structures import AutoFocusError

LINES, EVENTS, PICTURES = "log.jsonl", "tensorboard", "panels"  # in the workdir


class Log(Protocol):
    """Log that a training writes its measurements to."""

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write numbers of a step.

        None stands for values that cannot be measured, such as the AP of a class without objects.
        """

    def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Write pictures [H, W, 3] uint8 RGB of a step."""


@contextlib.contextmanager
def open_log(workdir: str | os.PathLike, first_step: int, write: bool = True) -> Iterator[Log]:
    """Open the log of a workdir for a run that continues from first_step; 0 for a new run.

    Entries of a killed run after first_step are dropped first, because this run takes those steps again: lines and
    pictures are deleted, TensorBoard's events are hidden.

    Args:
        workdir: folder of the training.
        first_step: the step to continue from.
        write: False returns a log that writes nothing, for processes other than the first.

    Raises:
        OSError: the workdir cannot be written to.
        AutoFocusError: a picture has another type.
    """
    if not write:
        yield _Nothing()
        return
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    drop_after(workdir, first_step)
    # The suffix keeps two runs apart that start within a second.
    suffix = f".{first_step}.{os.getpid()}"
    with (
        open(workdir / LINES, "ab", buffering=0) as lines,
        SummaryWriter(str(workdir / EVENTS), purge_step=first_step + 1, filename_suffix=suffix) as board,
    ):
        yield _Files(workdir / PICTURES, lines, board, _failures(board))


def _failures(board: SummaryWriter) -> list[OSError]:
    """Errors of TensorBoard's thread, as they come.

    The thread would print a traceback and end at the first, on a full disk, and everybody would wait for it for ever.
    """
    failed: list[OSError] = []
    events = board.file_writer.event_writer._ev_writer
    for name in ("write_event", "flush", "close"):

        def guarded(*given, action=getattr(events, name)):
            try:
                return action(*given)
            except OSError as error:
                failed.append(error)

        setattr(events, name, guarded)
    return failed


def drop_after(workdir: Path, step: int) -> None:
    """Drop lines and pictures of later steps, and broken lines. The file of lines is replaced at once."""
    path = workdir / LINES
    if path.exists():
        before = path.read_bytes()
        after = b"".join(line for line in before.splitlines(keepends=True) if _step(line) <= step)
        if after != before:
            files.write_bytes(path, after)
    for picture in (workdir / PICTURES).glob("*.png"):
        number = re.match(r"\d+", picture.name)
        if number and int(number[0]) > step:
            picture.unlink()


def read(workdir: str | os.PathLike) -> list[dict]:
    """Return the lines of a workdir's log, oldest first; [] without a log. A broken last line is left out."""
    path = Path(workdir) / LINES
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if _step(line) < math.inf]


def seconds(workdir: str | os.PathLike, batch: int) -> float:
    """Return the seconds that all steps of a workdir's log took, without validations, earlier runs included."""
    total, before = 0.0, 0
    for entry in read(workdir):
        if entry.get("chips_per_second"):
            total += (entry["step"] - before) * batch / entry["chips_per_second"]
            before = entry["step"]
    return total


def _step(line: bytes) -> float:
    """The step of a whole line; infinity for anything else."""
    try:
        step = json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except (ValueError, TypeError, KeyError):
        return math.inf
    return step if isinstance(step, int) else math.inf


class _Nothing:
    """A Log that writes nothing."""

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        pass

    def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        pass


class _Files:
    """A Log on disk."""

    def __init__(self, folder: Path, lines, board: SummaryWriter, failed: list[OSError]):
        """failed: errors of the thread that writes what the board is given."""
        self._folder, self._lines, self._board, self._failed = folder, lines, board, failed

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        plain = {name: None if value is None else float(value) for name, value in values.items()}
        entry = {name: value if value is not None and math.isfinite(value) else None for name, value in plain.items()}
        # One write a line, so that a kill leaves at most one of them unfinished.
        line = json.dumps({"step": int(step)} | entry, allow_nan=False).encode() + b"\n"
        try:
            whole = self._lines.write(line) == len(line)
            why: str | None = "" if whole else os.strerror(errno.ENOSPC)
        except OSError as error:
            whole, why = False, error.strerror
        if not whole or self._failed:
            where = self._folder.parent / EVENTS if whole else self._lines.name
            why = self._failed[0].strerror if whole else why
            raise files.WriteError(f"{where} cannot be written ({why}); check the space on the disk")
        for name, value in plain.items():
            if value is not None:
                self._board.add_scalar(name, value, int(step))

    def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise AutoFocusError(
                    f"picture {name!r} is {picture.dtype} {list(picture.shape)}; want uint8 [height, width, 3]"
                )
            png = cv2.imencode(".png", picture[..., ::-1])[1]
            files.write_bytes(self._folder / f"{int(step):07d}_{re.sub(r'[^0-9A-Za-z_.-]', '_', name)}.png", png)
            self._board.add_image(name, picture, int(step), dataformats="HWC")
