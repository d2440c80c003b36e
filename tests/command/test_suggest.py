"""autofocus suggest from annotations to a config that loads and a plot."""

import json
import shutil

import cv2
import pytest

from autofocus_jax.command.plan_file import plan_text, read_plan
from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import load_config
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.foreign.found import CropDetector
from autofocus_jax.foreign.proposal import proposal


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "mine" / "annotations" / "instances_train.json"
    path.parent.mkdir(parents=True)
    boxes = [[100, 100, 12, 12], [130, 110, 20, 16], [10, 200, 300, 250]]
    path.write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 480, "width": 640} for n in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes, 1)],
    }))  # fmt: skip
    return path


def test_writes_a_config_that_loads(autofocus, annotations, tmp_path):
    code, out, err = autofocus("suggest", annotations, "--chip", "256")
    assert code == 0 and err == "" and "The method helps here" in out and "scale 3" in out
    config = load_config(tmp_path / "runs/suggest/mine_train.py")
    assert config.name == "mine_train" and config.data == CocoSource(str(tmp_path / "mine"))
    assert config.detector.num_classes == 2 and config.scales[0].max_side == 256
    assert len(config.data.open("train")) == 2
    assert cv2.imread(str(tmp_path / "runs/suggest/mine_train.png")).shape[1] > 1000
    for scale in config.scales:
        assert f"{scale.min_side} x {scale.max_side}" in out


def test_another_choice_and_a_path_that_holds_from_any_folder(autofocus, annotations, tmp_path, monkeypatch):
    given = "mine/annotations/instances_train.json"
    code, out, err = autofocus("suggest", given, "--pixels", "5000", "--output", "out")
    assert (code, err) == (0, "") and "objects seen with 15 px instead of 21 save" in out and "shown uncut" in out
    monkeypatch.chdir(tmp_path / "mine")
    assert len(load_config(tmp_path / "out" / "mine_train.py").data.open("train")) == 2
    words = ("suggest", annotations, "--pixels", "20")
    assert "the cheapest plan takes" in autofocus(*words)[2]
    assert "--pixels and --seen both choose the plan" in autofocus(*words, "--seen", "20")[2]


def test_a_plain_file_and_a_config_as_annotations(autofocus, annotations, tmp_path):
    plain = tmp_path / "boxes.json"
    plain.write_bytes(annotations.read_bytes())
    assert autofocus("suggest", plain, "--detector", "paper", "--output", "out")[0] == 0
    (made,) = (tmp_path / "out").glob("*.py")
    config = load_config(made)
    assert len(config.data.open("all")) == 2 and config.detector.backbone.deformable_groups == 4
    assert autofocus("suggest", annotations)[0] == 0
    assert autofocus("suggest", tmp_path / "runs/suggest/mine_train.py", "--output", "again")[0] == 0
    assert (tmp_path / "again" / "mine_train.py").is_file()


def test_a_plan_for_a_detector_without_boxes(autofocus, square_finder, squares, tmp_path):
    """Squares of 8 px: found at the photographs' own 384 px alone, suspected at 96 px, where they have 2 px."""
    words = ("--detector", square_finder(), "--padding", "0", "0", "0", "--side", "48", "--photographs", "20")
    for number in range(5, 9):  # ten objects are the least
        shutil.copy(squares / f"{number - 4}.png", squares / f"{number}.png")
    code, out, err = autofocus("suggest", "photos", *words)
    assert (code, err) == (0, "")
    assert "16 objects in 8 photographs" in out and "384 (1x)" in out and "64 (0.17x)" in out
    assert "the finest scale is 384 px" in out and "scale 1 is 96 px" in out
    plan = read_plan("runs/suggest/photos.json")
    assert [scale.max_side for scale in plan.scales] == [96, 384] and plan.scales[0].chips.threshold == 0.02
    code, out, err = autofocus("compare", "photos", "--plan", "runs/suggest/photos.json", *words[:6])
    assert (code, err) == (0, "") and "the plan is that of runs/suggest/photos.json" in out


def test_options_of_a_plan_for_a_detector(autofocus, square_finder, squares, tmp_path):
    words = ("suggest", "photos", "--detector", square_finder(), "--padding", "0", "0", "0")
    code, _, err = autofocus(*words, "--side", "96", "--photographs", "4")
    assert code == 1 and "8 objects are found surely at any magnification; that is too little" in err
    assert "--photographs must be at least 1, got 0" in autofocus(*words, "--photographs", "0")[2]
    assert "--side must be at least 16, got 1" in autofocus(*words, "--side", "1")[2]
    for number in range(5, 13):
        shutil.copy(squares / f"{1 + number % 4}.png", squares / f"{number}.png")
    (squares / "0.png").write_bytes(b"nonsense")
    code, out, _ = autofocus(*words, "--side", "96", "--photographs", "10", "--output", "other")
    assert code == 0 and "in 10 photographs" in out and "skipped: image" in out and "48 (" not in out
    assert read_plan("other/photos.json").scales[-1].max_side == 384
    assert "want small, paper or an .onnx file" in autofocus("suggest", "photos", "--detector", "large")[2]


def test_a_plan_file_is_read_as_it_was_written_and_others_are_refused(tmp_path):
    detector = CropDetector(None, None, 32, (0, 0, 0), None)
    plan = proposal(detector, [(2160, 3840)]).plan
    path = tmp_path / "plan.json"
    path.write_text(plan_text(plan))
    assert read_plan(str(path)) == plan
    for text, says in (("[1", "is not JSON"), ('{"scales": []}', "stacking is missing"), ("{}", "scales is missing")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            read_plan(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="only a plan of loose chips"):
        plan_text(plan.pyramid())
