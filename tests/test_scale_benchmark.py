"""benchmarks/scale.py: its formulae by hand, and its table in docs/scale.md."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # where dataclasses look names up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["scale"]


def test_by_hand(scale):
    """36 000 images at 10 a second are an hour of one worker; in half an hour that takes two, each with its start."""
    found = scale.plan(scale.Options(10, images=36_000, hours=0.5, efficiency=1, start_seconds=90, piece=1000,
                                     bytes_in=1e6, bytes_out=1e3, corrupt=0.01))  # fmt: skip
    assert (found.machines, found.worker_hours, found.wall_hours) == (2, 1.0, 0.525)
    assert (found.bytes_in, found.bytes_out, found.network_each) == (36e9, 36e6, 10e6)
    assert (found.pieces, found.piece_seconds, found.error_rows, found.get_rate) == (36, 100, 360, 20)


def test_whole_machines_and_lost_ones(scale):
    few = scale.plan(scale.Options(10, images=36_000, hours=0.5, efficiency=1, workers_per_machine=8, start_seconds=0))
    assert few.machines == 1 and few.wall_hours == pytest.approx(1 / 8)
    lost = scale.plan(scale.Options(1, images=86_400, hours=24, efficiency=1, start_seconds=0, piece=100,
                                    failures_per_machine_day=0.5))  # fmt: skip
    assert lost.machines_lost == pytest.approx(0.5) and lost.repeated_images == pytest.approx(25)


def test_the_table_of_the_guide():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    command = re.search(r"`python (benchmarks/scale\.py [^`]*)`", text)[1].split()
    (table,) = re.findall(r"^```\n(images .*?)^```$", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.strip() for line in done.stdout.splitlines() if line.strip()] == table.splitlines()
