"""benchmarks/training.py: what it prints, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*options):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "training.py"), *map(str, options)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--batch", 0), "batch 0, rounds 3; want at least 1"), (("--dtype", "float8"), "compute_dtype 'float8'")],
)
def test_what_cannot_run_is_one_line(options, message):
    done = run(*options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr


@pytest.mark.slow
def test_prints_both_types():
    """With a peak that is given, its share is FLOP over time over peak, as printed."""
    options = ("--dtype", "float32", "bfloat16", "--batch", 1, "--rounds", 1, "--peak", 0.5)
    done = run("--config", ROOT / "configs" / "demo.py", *options)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [line for line in lines if len(line) == 8 and line[0] in ("float32", "bfloat16")]
    assert [row[0] for row in rows] == ["float32", "bfloat16"]
    for _, seconds, speed, memory, flop, flops, share, _ in rows:
        assert float(speed) == pytest.approx(1 / float(seconds), rel=0.1) and float(memory) > 0 and float(flop) > 0
        assert float(share.rstrip("%")) / 100 == pytest.approx(float(flops) / 0.5, abs=0.002)
    assert "bfloat16 is" in done.stdout and "peak memory (process, compiling included)" in done.stdout
