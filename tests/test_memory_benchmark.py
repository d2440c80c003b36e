"""benchmarks/memory.py: a process for each count of images, and what it prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*options):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "memory.py"), *map(str, options)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--counts", 0), "counts (0,); want"),
        (("--parts", 0), "parts must be at least 1, got 0"),
        (("--detector", "m.onnx"), "--detector and --photos belong together"),
        (("--counts", 1, "--detector", "m.onnx", "--photos", "none"), "none does not exist"),
        (("--counts", 1, "--config", ROOT / "configs" / "coco_r101.py"), "ships no weights"),
    ],
)
def test_what_cannot_run_is_one_line(options, message):
    done = run(*options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr


@pytest.mark.slow
def test_prints_both_counts_and_what_grew():
    done = run("--counts", 2, 4)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    counts = [line for line in lines if len(line) == 11 and line[0].isdigit()]
    assert [line[0] for line in counts] == ["2", "4"]
    for _, _, compiled, peak, running, _, *parts in counts:
        assert 0 < float(compiled) <= float(running) <= 1.05 * float(peak)
        assert abs(max(map(float, parts)) - float(running)) <= 0.6  # printed with other digits
    assert "from 2 to 4 images" in done.stdout
