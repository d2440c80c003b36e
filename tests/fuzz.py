"""Mutated files for every reader: python -m tests.fuzz --minutes 10

Each file is a good one (tests/readers.py) with a few damages, drawn from a seed that is printed. A reader may read on
or raise an AutoFocusError of one line. Any other exception, more than 5 s of work, more than 1 GB of memory and a crash
are faults. The file of each fault is kept in --keep, and the exit code is 1.

Files are read in a process of their own, which is started again after a crash.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import logging
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

SECONDS, MEMORY = 5, 10**9  # of one file
_HANG = 120  # s of waiting after which the process is ended
_NUMBERS = [0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_TOKENS = [b"-1", b"0", b"1e999", b"nan", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"9" * 40, b"1.0", b"\xff\xfe",
           b"\0", b"\n", b"\r", b"../", b"/dev/zero", b"\x1b[2J", b"<", b"&a", b"*a", b"'", b"[" * 2000, b"e", b"-",
           "ü".encode(), b"\xed\xa0\x80", b'"bbox"', b"Infinity", b"0x10", b"1_0"]  # fmt: skip


def mutated(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file with one to six damages; `other` is a second good file, which parts are taken from."""
    data = bytearray(content)
    for _ in range(int(random.choice([1, 1, 1, 2, 3, 6]))):
        at = int(random.integers(0, len(data) + 1))
        length = int(min(len(data) - at, random.choice([1, 1, 2, 4, 8, 16, 64, 512])))
        kind = random.integers(0, 9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            data[at : at + length] = random.bytes(length)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * int(random.choice([1, 2, 50]))
        elif kind == 4:
            form = str(random.choice(list("BHIQ"))).join(("<>"[int(random.integers(2))], ""))
            number = _NUMBERS[int(random.integers(len(_NUMBERS)))] & (2 ** (8 * struct.calcsize(form)) - 1)
            data[at : at + struct.calcsize(form)] = struct.pack(form, number)
        elif kind == 5:
            token = _TOKENS[int(random.integers(len(_TOKENS)))]
            spots = [match.span() for match in re.finditer(rb"[\w.+-]+", data)] or [(at, at)]
            start, end = spots[int(random.integers(len(spots)))]
            data[start:end] = token
        elif kind == 6:
            data[at : at + length] = bytes(length)
        elif kind == 7:
            start = int(random.integers(0, len(other) + 1))
            data[at : at + length] = other[start : start + length]
        else:
            del data[at:]
    return bytes(data)


def peak() -> int:
    """Most bytes of memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def verdict(reader, folder: Path) -> str | None:
    """What is wrong with what a reader does about a folder; None where all is as it should be."""
    from autofocus_jax.structures import AutoFocusError

    begun, before = time.process_time(), peak()
    wrong = None
    try:
        reader.read(folder)
    except AutoFocusError as error:
        if "\n" in str(error):
            wrong = f"an error of several lines: {str(error)!r}"
        elif re.search(r"\bmemory\b", str(error)):
            wrong = f"out of memory: {error}"
    except Exception:
        wrong = traceback.format_exc()
    spent = time.process_time() - begun
    if spent > SECONDS:
        wrong = f"{spent:.1f} s of work"
    if peak() - before > MEMORY:
        wrong = f"{(peak() - before) / 1e9:.1f} GB of memory"
    return wrong


def worker(seed: int, until: float, keep: Path, only: str) -> int:
    """Read mutated files until a time; returns 1 where there was a fault."""
    from tests.readers import readers

    logging.getLogger("autofocus_jax").setLevel(logging.CRITICAL)
    random, counts, faults = np.random.default_rng(seed), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as scratch:
        known = {name: reader for name, reader in readers(Path(scratch)).items() if only in name}
        order = list(known)
        current = keep / f"current-{seed}"
        for reader in known.values():  # a first call imports modules, which is no work on a file
            shutil.rmtree(current, ignore_errors=True)
            reader.put(current, reader.seeds[0])
            reader.read(current)
        while time.time() < until:
            name = order[sum(counts.values()) % len(order)]
            reader = known[name]
            seeds = [*reader.seeds, *known[order[int(random.integers(len(order)))]].seeds]
            content = mutated(seeds[int(random.integers(len(reader.seeds)))], seeds[int(random.integers(len(seeds)))],
                              random)  # fmt: skip
            shutil.rmtree(current, ignore_errors=True)
            reader.put(current, content)
            (keep / f"reader-{seed}").write_text(name)
            faulthandler.dump_traceback_later(_HANG, exit=True)
            wrong = verdict(reader, current)
            faulthandler.cancel_dump_traceback_later()
            counts[name] += 1
            if wrong:
                faults += 1
                kept = keep / f"fault-{seed}-{sum(counts.values())}"
                shutil.copytree(current, kept, dirs_exist_ok=True)
                print(f"{name}: {kept}\n{wrong}", flush=True)
        shutil.rmtree(current, ignore_errors=True)
    print(f"seed {seed}: {sum(counts.values())} files for {len(known)} readers, {faults} faults")
    return int(faults > 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    if given.worker:
        return worker(given.seed, given.worker, given.keep, given.only)
    until, seed, failed = time.time() + 60 * given.minutes, given.seed, 0
    while time.time() < until:
        words = [sys.executable, "-m", "tests.fuzz", "--seed", seed, "--keep", given.keep, "--only", given.only,
                 "--worker", repr(until)]  # fmt: skip
        quiet = os.environ | {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
        code = subprocess.run([*map(str, words)], stderr=subprocess.DEVNULL, env=quiet).returncode
        if code not in (0, 1):
            name = (given.keep / f"reader-{seed}").read_text()
            print(f"{name}: the process ended with {code}; the file is in {given.keep / f'current-{seed}'}", flush=True)
        failed, seed = failed or int(code != 0), seed + 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
