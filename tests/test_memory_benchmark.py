"""benchmarks/memory.py: a process for each count of images, and what it prints."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
def test_a_detector_of_one_s_own(tmp_path):
    onnx = pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")
    rows = onnx.numpy_helper.from_array(np.array([[[1, 2, 30, 40, 0.9, 0]]], np.float32), "rows")
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in (("images", [1, 3, 64, 64]), ("found", [1, 1, 6]))
    )
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["rows"], ["found"])], "tiny", inputs, outputs,
                                   [rows])  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.new("RGB", (160, 120)).save(tmp_path / "photos" / f"{name}.png")
    done = run("--counts", 5, "--parts", 2, "--detector", tmp_path / "m.onnx", "--photos", tmp_path / "photos")
    assert done.returncode == 0, done.stderr
    (row,) = (line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["5"])
    assert len(row) == 8 and "m.onnx" in done.stdout, "two parts"


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
