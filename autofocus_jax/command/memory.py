"""Telling that the memory of the host or the device was used up, in one line."""

from __future__ import annotations

USED_UP = (
    "the memory is used up; make smaller what it holds: training.batch in a training, else the finest scale or the "
    "batches of the buckets"
)


def used_up(error: MemoryError | RuntimeError) -> bool:
    """Whether an error says so: Python's MemoryError, or the RuntimeError that JAX raises."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
