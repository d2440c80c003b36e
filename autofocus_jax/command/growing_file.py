"""One file of many images that keeps what is finished when its disk is full."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from autofocus_jax.files import WriteError, reason, whole_file


class GrowingFile:
    """A file that grows image by image. When its disk is full it ends with the images that fit, and stays readable."""

    def __init__(self, path: Path, head: str, tail: Callable[[int], str] = lambda count: ""):
        """head: begins the file. tail(n): ends it after n images; the longer, the more images."""
        self._path, self._tail, self._ends = path, tail, [0]  # _ends[n]: bytes up to the end of image n
        self._stack = contextlib.ExitStack()
        draft = self._stack.enter_context(whole_file(path))
        try:
            self._file = self._stack.enter_context(draft.open("wb", buffering=0))
            self._write(head)
        except OSError as error:
            self._fail(error)
        self._ends = [self._file.tell()]

    def add(self, text: str) -> None:
        """Append an image. Raises WriteError, and closes the file, if that fails."""
        try:
            self._write(text)
        except OSError as error:
            self._end_early(error)
        self._ends.append(self._file.tell())

    def close(self) -> None:
        """End the file, unless it has ended. Raises WriteError as `add` does."""
        if self._file.closed:
            return
        try:
            self._write(self._tail(len(self._ends) - 1))
        except OSError as error:
            self._end_early(error)
        self._stack.close()

    def _write(self, text: str) -> None:
        content = memoryview(text.encode("utf-8", "backslashreplace"))
        while content:
            content = content[self._file.write(content) :]

    def _end_early(self, error: OSError) -> NoReturn:
        """End the file after as many images as fit into the bytes that the disk has taken, and raise WriteError."""
        room = os.fstat(self._file.fileno()).st_size
        while room > 0:
            count = bisect.bisect(range(len(self._ends)), room, key=lambda n: self._ends[n] + len(self._tail(n))) - 1
            if count < 0:
                break
            try:
                self._file.seek(self._ends[count])  # over bytes that the disk has: needs no room
                self._write(self._tail(count))
                self._file.truncate()
                self._stack.close()
            except OSError:  # some file systems want room even for that
                self._file.truncate(self._ends[count])
                room //= 2
                continue
            raise WriteError(f"{self._path} cannot be written further ({reason(error)}); it holds the first {count} "
                             "images") from None  # fmt: skip
        self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        self._stack.__exit__(type(error), error, error.__traceback__)
        raise error
