"""Videos frame by frame: reading, and writing one with its boxes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from autofocus_jax.files import whole_file
from autofocus_jax.machine.terminal import printable
from autofocus_jax.structures import AutoFocusError, ImageError


class VideoInfo(NamedTuple):
    """Facts in the header of a video."""

    height: int
    width: int
    rate: float  # frames/s
    frames: int  # 0 when it does not say


def video_info(path: Path) -> VideoInfo:
    """Return size, rate and length of a video, as displayed.

    Raises:
        ImageError: the video cannot be opened.
    """
    capture = _open(path)
    try:
        values = [capture.get(key) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FPS,
                                               cv2.CAP_PROP_FRAME_COUNT)]  # fmt: skip
    finally:
        capture.release()
    height, width, rate, frames = values
    return VideoInfo(int(height), int(width), rate if 0 < rate < 1000 else 25.0, max(0, int(frames)))


def frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, uint8 RGB [h, w, 3].

    Raises:
        ImageError: the video cannot be opened.
    """
    capture = _open(path)
    try:
        while True:
            good, frame = capture.read()
            if not good:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


class VideoWriter:
    """Writer of an .mp4 of frames of one size and rate. The video is complete after `close`.

    The codec needs even sides; the last row or column of an odd side is left out.
    """

    def __init__(self, path: Path, height: int, width: int, rate: float):
        self._path, self._size = path, (height, width)
        self._whole = whole_file(path)
        partial = self._whole.__enter__()
        self._writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
        if not self._writer.isOpened():
            raise AutoFocusError(f"video {path} cannot be written; check --output and whether OpenCV has FFmpeg")

    def add(self, frame: np.ndarray) -> None:
        """Append uint8 RGB [h, w, 3]. A frame of another size is resized to the video's."""
        if frame.shape[:2] != self._size:
            frame = cv2.resize(frame, self._size[::-1], interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
        self._whole.__exit__(None, None, None)


def _open(path: Path) -> cv2.VideoCapture:
    if not path.is_file() or not path.stat().st_size:
        raise ImageError(f"video {printable(path)} is missing or empty; give a video file")
    with contextlib.ExitStack() as stack:
        name = str(path)
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:  # OpenCV would end the process
            name = f"{stack.enter_context(tempfile.TemporaryDirectory())}/video{path.suffix}"
            os.symlink(path.absolute(), name)
        capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        raise ImageError(f"video {printable(path)} cannot be decoded; give a file that FFmpeg reads")
    return capture
