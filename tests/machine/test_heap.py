"""The heap of the C library: what is freed below a pin stays with the process until it is given back."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autofocus_jax.machine import heap

ROOT = Path(__file__).parents[2]
GLIBC = heap._glibc() is not None


def run(program, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout.split()  # fmt: skip


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_gives_back_what_lies_below_a_pin():
    """Blocks of 64 KB, below the size that gets pages of its own; the last one pins the top of the heap."""
    before, freed, after = map(int, run(
        "import psutil\n"
        "from autofocus_jax.machine import heap\n"
        "size = lambda: psutil.Process().memory_info().rss\n"
        "heap.give_back()\n"
        "blocks = [bytearray(64 * 1024) for _ in range(1600)]\n"
        "pin, before = blocks[-1], size()\n"
        "del blocks\n"
        "freed = size()\n"
        "assert heap.give_back()\n"
        "print(before, freed, size())\n"
    ))  # fmt: skip
    assert before - freed < 0.1 * 1600 * 64 * 1024 and before - after > 0.9 * 1600 * 64 * 1024


# Each thread leaves a mapping of its own in /proc/self/maps when it has a heap of its own; 64 MB of address space.
THREADS = (
    "import re, threading\n"
    "from autofocus_jax.machine import heap\n"
    "print(int(heap.share_one()))\n"
    "gate, kept = threading.Barrier(9), []\n"
    "def work():\n"
    "    gate.wait()\n"
    "    kept.append([bytearray(2000) for _ in range(100)])\n"
    "    gate.wait()\n"
    "threads = [threading.Thread(target=work) for _ in range(8)]\n"
    "[thread.start() for thread in threads]\n"
    "gate.wait(); gate.wait()\n"
    "[thread.join() for thread in threads]\n"
    "ends = [[int(end, 16) for end in line.split()[0].split('-')] for line in open('/proc/self/maps')]\n"
    "starts = {start for start, _ in ends}\n"
    "print(sum(start % 2**26 == 0 and end in starts for start, end in ends))\n"
)


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_threads_share_one_heap_unless_the_environment_says_otherwise():
    shared, heaps = map(int, run(THREADS))
    assert shared == 1 and heaps <= 1
    shared, heaps = map(int, run(THREADS, MALLOC_ARENA_MAX="64"))
    assert shared == 0 and heaps >= 4


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_kept_arrays_are_not_new_memory():
    """100 arrays of 48 MB, one after the other: each touches 12 000 new pages, unless the freed one is used again."""
    program = (
        "import resource\n"
        "import numpy as np\n"
        "from autofocus_jax.machine import heap\n"
        "KEEP\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "np.ones(6_000_000)\n"
        "before = faults()\n"
        "for _ in range(20):\n"
        "    np.ones(6_000_000)\n"
        "print(faults() - before)\n"
    )
    (new,), (kept,) = (map(int, run(program.replace("KEEP", line))) for line in ("", "assert heap.keep_freed()"))
    assert kept < 0.1 * new


def test_does_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "win32")
    heap._glibc.cache_clear()
    try:
        assert [heap.share_one(), heap.give_back(), heap.keep_freed()] == [False] * 3
    finally:
        heap._glibc.cache_clear()
    assert np.ones(3).sum() == 3
