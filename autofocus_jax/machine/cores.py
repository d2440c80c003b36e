"""The number of cores of this process."""

from __future__ import annotations

import os


def cores() -> int:
    """Return the number of cores that the process is allowed to run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
