"""A file of an object store as Python's readers want it, patient with a store that does not answer at once."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


class StoredFile(io.RawIOBase):
    """Each read is a request of its own, so that it can be repeated."""

    def __init__(self, opened: Callable[[], Any], ask: Callable[[Callable[[], Any]], Any]):
        """opened: opens a pyarrow.NativeFile that is seekable. ask: what a call returns, which it repeats or gives up.

        Raises what `ask` raises, here and in every read.
        """
        self._ask, self._at = ask, 0
        self._file = ask(opened)
        self._size = ask(self._file.size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, target: Any) -> int:
        wanted = max(0, min(len(target), self._size - self._at))
        content = self._ask(lambda: self._file.read_at(wanted, self._at)) if wanted else b""
        target[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):  # there is none where the constructor raised
            self._file.close()
        super().close()
