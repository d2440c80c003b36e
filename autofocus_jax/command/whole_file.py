"""Output files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from autofocus_jax.structures import AutoFocusError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives the path to write to; it becomes `path` when the block ends, and is removed when the block fails.

    The name to write to has the suffix of `path`, because some writers choose the format by it. Makes the folder.
    Raises AutoFocusError when the file system refuses.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise AutoFocusError(f"{path} cannot be written ({error.strerror or error}); check --output and the disk's "
                             "free space") from None  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
