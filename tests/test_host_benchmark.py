"""benchmarks/host.py runs: it compares the program with a naive reference and stops with an error where they differ."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*options):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "host.py"), "--rounds", "1", *map(str, options)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("drawn", [True, False])
def test_prints_its_tables(tmp_path, drawn):
    file = tmp_path / "boxes.json.gz"
    images = [{"id": 7, "file_name": "a.jpg", "height": 100, "width": 90}]
    boxes = [
        {"image_id": 7, "category_id": 3, "bbox": [5, 5, side, side], "iscrowd": side % 2} for side in (20, 31, 60)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 3, "name": "cat"}]}
    file.write_bytes(gzip.compress(json.dumps(content).encode()))
    done = run("--images", 1, *([] if drawn else ["--annotations", file]))
    assert done.returncode == 0, done.stderr
    for stage in ("chips, usual", "stacking, usual", "chips, crowded", "stacking, crowded", "a grid, all merging"):
        assert stage in done.stdout


def test_a_missing_file_is_one_line(tmp_path):
    done = run("--annotations", tmp_path / "missing.json")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "missing.json cannot be read" in done.stderr
