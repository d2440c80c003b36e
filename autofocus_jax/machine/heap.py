"""Settings of glibc's heap for programs that run long. Other C libraries are left alone.

glibc gives each thread a malloc arena, and each arena keeps freed memory. Images, crops and arrays of compiled programs
come and go in many threads and sizes. So a stream of images holds much more memory than it uses. Results do not depend
on these settings.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_* in malloc.h


def share_one() -> bool:
    """Limit glibc to one malloc arena. Call it before threads start.

    Use one arena for work that keeps its memory. Threads that allocate much wait for one another, and searching one
    arena with many gaps is slow. So inference keeps separate arenas and calls give_back (docs/benchmarks.md has the
    numbers).

    Returns:
        True if the limit was set; False on other systems or if MALLOC_ARENA_MAX is set.
    """
    library = _glibc()
    return library is not None and "MALLOC_ARENA_MAX" not in os.environ and bool(library.mallopt(_ARENA_MAX, 1))


def give_back() -> bool:
    """Return unused heap memory to the operating system (`malloc_trim`). Takes milliseconds.

    Returns:
        True if any memory was released.
    """
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))


def keep_freed() -> bool:
    """Make glibc keep all freed memory, also arrays above 32 MB, which are otherwise new memory every time.

    The system zeroes new memory page by page on first use. That costs programs that allocate the same large arrays
    again and again much of their time. Use it for repetitive work such as training, because used memory stays with the
    process.

    Returns:
        True if the setting was made.
    """
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, 2**30)) and bool(library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
