"""evaluate.py with a config whose detector is not ours: tiny ONNX files that find squares of 8 px."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.command import thresholds
from autofocus_jax.command.main import main
from autofocus_jax.command.options.detector import ModelOptions
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.inference import interval
from autofocus_jax.structures import Detections

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")

ALWAYS = ("--padding", "0", "0", "0", "--threads", "1")
SMALL = ("--side", "96")

CONFIG = """
from autofocus_jax.command.foreign_config import ForeignConfig
from autofocus_jax.data.coco import CocoSource

def get_config():
    return ForeignConfig("squares", CocoSource(".", "boxes.json", "photos"))
"""


@pytest.fixture
def run(autofocus, squares, tmp_path, capsys):
    """run(model, *words) -> (exit code, stdout, stderr) of evaluate.py on the squares; its results lie in runs/."""
    (tmp_path / "config.py").write_text(CONFIG)

    def go(model, *words, small=SMALL):
        words = ("--config", "config.py", "--split", "all", "--detector", str(model), *ALWAYS, *small, *words)
        code = main(["evaluate", *words, "--panels", "1"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return go


def results(name="metrics.json"):
    return json.loads(Path("runs/squares/evaluation", name).read_text())


def test_rows_are_those_of_compare(run, square_finder, autofocus):
    model = square_finder()
    code, out, err = run(model)
    assert (code, err) == (0, "") and "2 scales of 96, 384 px, looking again from scores of 0.02" in out
    rows = results()
    assert list(rows) == ["scale1", "scale2", "pyramid", "autofocus", "perfect"]
    code, _, err = autofocus("compare", "photos", "--detector", model, "--annotations", "boxes.json",
                             *ALWAYS, *SMALL, "--canvases", "160")  # fmt: skip
    assert (code, err) == (0, "")
    compared = json.loads(Path("runs/compare/comparison.json").read_text())["rows"]
    for ours, theirs in (("pyramid", "pyramid"), ("autofocus", "weak focus 0.02"), ("perfect", "perfect focus")):
        assert rows[ours]["AP"] == pytest.approx(compared[theirs]["AP"]) and rows[ours]["AP"] > 0
        assert rows[ours]["side"] == pytest.approx(compared[theirs]["side"])
    assert rows["perfect"]["AP"] == 100 and rows["scale1"]["AP"] < 50
    assert list(Path("runs/squares/evaluation/panels").glob("*.png"))
    found = {(entry["image_id"], entry["category_id"]) for entry in results("detections_autofocus.json")}
    wanted = json.loads(Path("boxes.json").read_text())["annotations"]
    assert {(entry["image_id"], entry["category_id"]) for entry in wanted} <= found


def test_a_focus_network(run, square_finder, autofocus, bright_network):
    model, focus = square_finder(), ("--focus", "either", "--focus-weights", str(bright_network(gain=20, bias=-10)))
    code, _, err = run(model, *focus, "--rows", "autofocus", "perfect")
    assert (code, err) == (0, "")
    rows = results()
    code, _, err = autofocus("compare", "photos", "--detector", model, "--annotations", "boxes.json", *ALWAYS, *SMALL,
                             *focus, "--canvases", "160")  # fmt: skip
    assert (code, err) == (0, "")
    compared = json.loads(Path("runs/compare/comparison.json").read_text())["rows"]
    for ours, theirs in (("autofocus", "either focus 0.02"), ("perfect", "perfect focus")):
        assert rows[ours]["AP"] == pytest.approx(compared[theirs]["AP"]) and rows[ours]["AP"] > 0
        assert rows[ours]["side"] == pytest.approx(compared[theirs]["side"])


def test_resume_knows_a_focus_network_by_its_content(run, square_finder, bright_network, tmp_path):
    weights = [bright_network(gain=20, bias=-10), bright_network(gain=0, bias=-200)]
    moved = shutil.copy(weights[0], tmp_path / "moved.safetensors")
    go = lambda file, *words: run(square_finder(), "--rows", "autofocus", "--focus", "network", "--focus-weights",  # noqa: E731
                                  str(file), *words)  # fmt: skip
    assert go(weights[0])[0] == 0
    found = results()["autofocus"]["AP"]
    code, _, err = go(moved, "--resume")
    assert (code, err) == (0, "") and results()["autofocus"]["AP"] == found
    code, _, err = go(weights[1], "--resume")
    assert code == 1 and "weights: " in err and "focus_weights" not in err and err.count("\n") == 1
    code, _, err = run(square_finder(), "--rows", "autofocus", "--focus", "either", "--focus-weights", str(moved),
                       "--resume")  # fmt: skip
    assert code == 1 and "detector.focus: network -> either" in err


def test_resume_does_nothing_again_and_another_model_is_refused(run, square_finder, tmp_path):
    model = shutil.copy(square_finder(), tmp_path / "model.onnx")
    assert run(model)[0] == 0
    first = results()
    seconds = {name: row["images_per_second"] for name, row in first.items()}
    moved = shutil.copy(model, tmp_path / "moved.onnx")
    code, _, err = run(moved, "--resume")
    assert (code, err) == (0, ""), "the file's content counts, not its name"
    assert {name: row["images_per_second"] for name, row in results().items()} == pytest.approx(seconds)
    (Path("runs/squares/evaluation/pieces/autofocus") / "000000.npz").unlink()
    assert run(moved, "--resume")[0] == 0 and results()["autofocus"]["AP"] == first["autofocus"]["AP"]
    shutil.copy(square_finder(96), moved)
    code, _, err = run(moved, "--resume")
    assert code == 1 and "weights: " in err and "run again without --resume" in err and err.count("\n") == 1
    code, _, err = run(model, "--resume", "--focus-score", "0.5")
    assert code == 1 and "scales.0.chips.threshold: 0.02 -> 0.5" in err and err.count("\n") == 1


def test_weights_beside_the_file_count_too(run, square_finder, tmp_path):
    model = shutil.copy(square_finder(), tmp_path / "model.onnx")
    (tmp_path / "model.onnx.data").write_bytes(b"one")
    assert run(model, "--limit", "1")[0] == 0
    (tmp_path / "model.onnx.data").write_bytes(b"two")
    code, _, err = run(model, "--limit", "1", "--resume")
    assert code == 1 and "weights: " in err


def test_classes_that_both_know(run, square_finder, tmp_path):
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    boxes["categories"] = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    code, out, err = run(square_finder())
    assert (code, err) == (0, "") and "classes that the detector does not know are left out: blue" in out
    assert list(results("details.json")["perfect"]["AP_per_category"]) == ["red"] and results()["perfect"]["AP"] == 100
    boxes["categories"] = [{"id": 1, "name": "pink"}, {"id": 2, "name": "blue"}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    code, _, err = run(square_finder())
    assert code == 1 and "knows none of the classes pink, blue; it knows red, green" in err


def test_an_image_that_the_detector_cannot_bear_is_named_and_the_run_goes_on(run, squares, monkeypatch):
    def find(crops):
        if crops[0].max() == 13:
            raise ForeignError("no good")
        return [Detections.none() for _ in crops]

    detector = CropDetector(find, None, 32, (0, 0, 0), ("red", "green"))
    monkeypatch.setattr(ModelOptions, "load", lambda self, path: detector)
    cv2.imwrite(str(squares / "3.png"), np.full((256, 384, 3), 13, np.uint8))
    (squares / "4.png").write_bytes(b"no picture")
    Path("m.onnx").write_bytes(b"")
    code, out, err = run("m.onnx")
    assert (code, err) == (0, "") and "2 of 4 images failed and were skipped:" in out
    assert "  3.png: no good\n" in out and "  4.png: image " in out
    assert results("details.json")["autofocus"]["skipped"][0]["reason"] == "no good"


@pytest.mark.parametrize(("words", "says"), [
    (("--focus", "none"), "--focus none is the pyramid, which is always a row"),
    (("--weights", "w.safetensors"), "--weights are of our own detector"),
    (("--only", "blue"), "have no class 'blue'"),
    (("--data.images", "none"), "none of 4 images could be processed"),
    (("--plan", "none.json"), "plan none.json cannot be read"),
])  # fmt: skip
def test_mistakes_are_one_line(run, square_finder, words, says):
    code, _, err = run(square_finder(), *words, small=())
    assert code == 1 and err.startswith("autofocus evaluate: ") and says in err and err.count("\n") == 1, err


def test_no_detector(run, capsys):
    assert main(["evaluate", "--config", "config.py", "--split", "all"]) == 1
    assert capsys.readouterr().err == "autofocus evaluate: --detector is missing; give an .onnx file\n"


def test_it_cannot_be_trained(run, capsys):
    assert main(["train", "--config", "config.py"]) == 1
    err = capsys.readouterr().err
    assert "returned ForeignConfig; this program wants a Config" in err and err.count("\n") == 1


def test_thresholds_for_a_budget(run, square_finder, monkeypatch):
    monkeypatch.setattr(thresholds, "LEAST", 4)
    monkeypatch.setattr(interval, "GROUPS", 4)
    Path("config.py").write_text(CONFIG.replace('"boxes.json"', '"{split}.json"'))
    for split in ("all", "tune"):
        shutil.copy("boxes.json", f"{split}.json")
    code, out, err = run(square_finder(), "--pixels", "130")
    assert (code, err) == (0, "") and "chosen on 4 images of tune" in out
    assert results()["autofocus"]["side"] <= 130
