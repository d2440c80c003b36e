"""benchmarks/detect.py runs, and the programs that it compares find the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CONFIG = """
import dataclasses
from autofocus_jax import ScenesSource, load_config
from autofocus_jax.focus.buckets import holding

def get_config():
    demo = load_config({demo!r})
    data = ScenesSource(train=1, tune=1, val=2, folder={folder!r})
    return dataclasses.replace(demo, data=data, buckets=holding((), demo.scales))
"""


@pytest.mark.slow
def test_prints_its_table(tmp_path):
    demo = str(ROOT / "configs" / "demo.py")
    (tmp_path / "few.py").write_text(CONFIG.format(demo=demo, folder=str(tmp_path / "scenes")))
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "detect.py"), "--config", str(tmp_path / "few.py"), "--images", "4",
         "--rounds", "1"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 programs ready after" in done.stdout and done.stdout.count("turn 1, ") == 3
    for name in ("evaluate.py, autofocus", "detect, json", "detect, json and pictures"):
        assert len(re.findall(rf"│ {re.escape(name)} +│", done.stdout)) == 1
    assert re.search(r"\n4 images, \d+ detections of score 0.5 or more in each", done.stdout)
