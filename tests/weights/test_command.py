"""The command from a file of any kind to weights that evaluate.py takes, its table, and its one-line complaints."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config, to_dict
from autofocus_jax.weights import safetensors


def evaluate_main(words):
    return main(["evaluate", *words])


ROOT = Path(__file__).parent.parent.parent

# The paper's detector with a single bucket, since each takes a minute to compile.
REAL = f"""
import dataclasses
from autofocus_jax.config.load import load_config
from autofocus_jax.structures import Bucket

def get_config():
    paper = load_config({str(ROOT / "configs" / "coco_r101.py")!r})
    return dataclasses.replace(paper, buckets=(Bucket(128, 192, 2),))
"""
DEPTH = ["--detector.backbone.units", "3", "4", "23", "3"]


def run(capsys, *words):
    """(exit code, standard output, standard error)."""
    code = main(["convert", *map(str, words)])
    return (code, *capsys.readouterr())


def test_all_538_arrays(tmp_path, capsys, write_params, sniper_arrays, narrow_config):
    arrays = sniper_arrays((3, 4, 23, 3))
    assert len(arrays) == 538
    write_params(tmp_path / "net.params", arrays)
    out = tmp_path / "out" / "model.safetensors"
    code, text, error = run(capsys, tmp_path / "net.params", "--config", narrow_config, "--output", out, *DEPTH)
    assert code == 0 and error == ""
    assert "net.params: MXNet, AutoFocus" in text and "538 arrays in the file: 537 used, 1 unused; 0 missing" in text
    assert "unused, the network fixes it to 1: bn_data_gamma" in text and f"written: {out}" in text
    rows = [line.split()[:2] for line in text.splitlines()]
    assert ["backbone/stage3", str(23 * (3 * 4 + 3) + 1)] in rows and ["box_head", "12"] in rows
    variables, metadata = safetensors.load(out)
    assert metadata["kind"] == "MXNet, AutoFocus" and metadata["untrained"] == []
    assert metadata["config"] == to_dict(load_config(narrow_config, DEPTH))
    kernel = variables["params"]["backbone"]["stage3_unit23"]["conv2"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["arg:stage3_unit23_conv2_weight"].transpose(2, 3, 1, 0))
    code, _, error = run(capsys, tmp_path / "net.params", "--config", narrow_config, "--output", out, *DEPTH,
                         "--detector.num-classes", "20")  # fmt: skip
    assert code == 1 and error.count("\n") == 1
    assert "the file has 81 class scores, the config 21" in error and "(64, 81) instead of (64, 21)" in error


def write_folder(folder, count):
    """A COCO folder of 80 categories: `count` images of 60x90 px for validation, the first with an object."""
    (folder / "val").mkdir(parents=True)
    (folder / "annotations").mkdir()
    random, numbers = np.random.default_rng(0), range(1, count + 1)
    for number in numbers:
        cv2.imwrite(str(folder / "val" / f"{number}.png"), random.integers(0, 255, (60, 90, 3), np.uint8))
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 60, "width": 90} for n in numbers],
        "categories": [{"id": n, "name": f"c{n}"} for n in range(1, 81)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [9, 9, 30, 30], "area": 900, "iscrowd": 0}],
    }
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def test_from_the_file_to_evaluate(tmp_path, capsys, write_params, sniper_arrays, narrow_config):
    config = tmp_path / "config.py"
    config.write_text(narrow_config.read_text().replace("FOLDER", str(write_folder(tmp_path / "data", 2))))
    write_params(tmp_path / "net.params", sniper_arrays())
    out = tmp_path / "model.safetensors"
    assert run(capsys, tmp_path / "net.params", "--config", config, "--output", out, "--dtype", "float16")[0] == 0
    words = ["--config", config, "--weights", out, "--output", tmp_path / "e", "--panels", "0"]
    assert evaluate_main([str(word) for word in words]) == 0
    assert json.loads((tmp_path / "e" / "details.json").read_text())["autofocus"]["images"] == 2
    assert json.loads((tmp_path / "e" / "detections_autofocus.json").read_text())


def test_a_backbone_and_our_own_file(tmp_path, capsys, sniper_arrays, narrow_config):
    """A file without heads says that they are random; what the command wrote, it reads."""
    state = {}  # of the kind that timm keeps
    from_theirs = {"bn1": "norm1", "bn2": "norm2", "bn3": "norm3", "sc": "downsample.conv"}
    leaves = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
    for name, array in sniper_arrays().items():
        _, unit, layer = name[4:].split("_", 2) if name[4:].startswith("stage") else ("", "", "")
        if unit and not layer.startswith("offset"):
            module, leaf = layer.split("_", 1)
            module, leaf = from_theirs.get(module, module), leaves.get(leaf, leaf)
            state[f"stages.{int(name[9]) - 1}.blocks.{int(unit[4:]) - 1}.{module}.{leaf}"] = np.ascontiguousarray(array)
    state["stem.conv.weight"] = np.ones((4, 3, 7, 7), np.float32)
    state["norm.weight"] = np.ones(128, np.float32)
    save_file(state, tmp_path / "timm.safetensors", metadata={"format": "pt"})
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    code, text, error = run(capsys, tmp_path / "timm.safetensors", "--config", narrow_config, "--output", first)
    assert code == 0, error
    assert "PyTorch, pre-activation ResNet" in text and "drawn at random, so train before you evaluate" in text
    assert safetensors.load(first)[1]["untrained"] == ["backbone/stage4", "box_head", "focus_head", "proposal_head"]
    code, text, error = run(capsys, first, "--config", narrow_config, "--output", second)
    assert code == 0, error
    assert "drawn at random, so train before you evaluate" in text
    assert safetensors.load(second)[1]["untrained"] == safetensors.load(first)[1]["untrained"]
    one, other = (safetensors.flatten(safetensors.load(path)[0]) for path in (first, second))
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_complaints_are_one_line(tmp_path, capsys, narrow_config, write_params):
    out = tmp_path / "out.safetensors"
    write_params(tmp_path / "other.params", {"resnetv10_conv0_weight": np.ones(3, np.float32)})
    (tmp_path / "cut.params").write_bytes((tmp_path / "other.params").read_bytes()[:-4])
    (tmp_path / "picture.pth").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    (tmp_path / "empty").touch()
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-2])
    for name, words in {
        "other.params": "names that are not known (resnetv10_conv0_weight", "cut.params": "ends inside name 1 of 1",
        "picture.pth": "of no known kind (first bytes 89 50", "empty": "of no known kind (first bytes none)",
        "a.safetensors": "names that are not known (a, ", "cut.safetensors": "damaged", "none": "cannot be read",
    }.items():  # fmt: skip
        code, _, error = run(capsys, tmp_path / name, "--config", narrow_config, "--output", out)
        assert code == 1 and error.count("\n") == 1 and words in error and name in error
    assert not out.exists()
    code, _, error = run(capsys, tmp_path / "a.safetensors", "--config", narrow_config)
    assert code == 1 and "output" in error and error.count("\n") == 1


def test_output_that_cannot_be_written(tmp_path, capsys, write_params, sniper_arrays, narrow_config):
    write_params(tmp_path / "net.params", sniper_arrays())
    (tmp_path / "file").touch()
    code, _, error = run(capsys, tmp_path / "net.params", "--config", narrow_config, "--output", tmp_path / "file/o")
    assert code == 1 and "cannot be written" in error and error.count("\n") == 1


def test_help_and_the_module(narrow_config):
    words = [sys.executable, "-m", "autofocus_jax.weights", "--config", str(narrow_config), "--help"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and "--folded-boxes" in result.stdout and "--output" in result.stdout


@pytest.mark.slow
def test_the_real_network(tmp_path, capsys, write_params, sniper_arrays):
    """324 MB in, every one of its 80.9 million numbers out, and on through the evaluation of the paper's detector."""
    config = tmp_path / "config.py"
    config.write_text(REAL)
    arrays = sniper_arrays((3, 4, 23, 3), narrow=False)
    write_params(tmp_path / "net.params", arrays)
    out = tmp_path / "model.safetensors"
    code, text, error = run(capsys, tmp_path / "net.params", "--config", config, "--output", out)
    assert code == 0, error
    assert "537 used" in text
    flat = safetensors.flatten(safetensors.load(out)[0])
    assert sum(array.size for array in flat.values()) == sum(array.size for array in arrays.values()) - 3
    del arrays, flat

    words = ["--config", config, "--data.root", write_folder(tmp_path / "data", 3), "--weights", out]
    words += ["--output", tmp_path / "e", "--panels", "0", "--stacking.score-threshold", "0"]
    for number, sides in enumerate(((64, 96), (96, 144), (128, 192))):
        words += [f"--scales.{number}.min-side", sides[0], f"--scales.{number}.max-side", sides[1]]
    assert evaluate_main([str(word) for word in words]) == 0, capsys.readouterr().err
    details, metrics, found = (
        json.loads((tmp_path / "e" / f"{name}.json").read_text())
        for name in ("details", "metrics", "detections_autofocus")
    )
    rows = ["scale1", "scale2", "scale3", "pyramid", "autofocus"]
    assert list(metrics) == list(details) == rows and all(details[row]["images"] == 3 for row in rows)
    assert {entry["image_id"] for entry in found} == {1, 2, 3}
    numbers = np.array([[entry["score"], *entry["bbox"]] for entry in found])
    assert np.isfinite(numbers).all() and (numbers[:, 0] <= 1).all() and (numbers[:, 3:] >= 0).all()
