"""The heap of the C library, for programs that run long; does nothing where it is not glibc's.

glibc gives a thread a heap of its own, and every one of them keeps what was freed in it. Images, crops and the arrays
of compiled programs come and go in many threads and sizes, so a stream of images holds much more than it uses, and
more with every gap that a later array does not fit into. Results do not depend on any of this.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_* in malloc.h


def share_one() -> bool:
    """Lets all threads use one heap, of those that have none yet: to be called before the work begins.

    For work that keeps what it frees: threads that allocate much wait for one another, and searching one heap with many
    gaps takes long, so inference keeps heaps apart and gives back instead (docs/benchmarks.md has the numbers).

    Whether it does; not where the environment says how many there are to be (MALLOC_ARENA_MAX).
    """
    library = _glibc()
    return library is not None and "MALLOC_ARENA_MAX" not in os.environ and bool(library.mallopt(_ARENA_MAX, 1))


def give_back() -> bool:
    """Gives free pages back to the system, those between used ones too; whether there were any. Takes milliseconds."""
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))


def keep_freed() -> bool:
    """Keeps all that is freed, arrays above 32 MB too, which otherwise are new memory every time; whether it does.

    New memory is filled with zeros page by page when it is first touched, which costs a program that allocates the
    same large arrays again and again a good part of its time. For work that repeats itself, such as training: what
    was once used stays with the process.
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
