"""autofocus check-detector: what is understood of a file, what can be said otherwise, the picture."""

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def model(tmp_path):
    """An end-to-end model that always answers two boxes of a 64x64 canvas."""
    rows = np.zeros((1, 3, 6), np.float32)
    rows[0, :2] = [[8, 8, 40, 32, 0.9, 1], [0, 0, 8, 8, 0.1, 0]]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["output0"])], "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 3, 6])],
        [numpy_helper.from_array(rows, "rows")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(made, {"names": "{0: 'cat', 1: 'dog'}", "stride": "32"})
    onnx.save(made, str(tmp_path / "m.onnx"))
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((128, 128, 3), np.uint8))
    return tmp_path / "m.onnx"


def test_what_is_understood_and_a_picture(autofocus, model, tmp_path):
    code, out, err = autofocus("check-detector", model, "photo.png")
    assert (code, err) == (0, "")
    lines = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert lines["inputs"].strip() == "images float32 [1, 3, 64, 64]"
    assert lines["layout"].strip().startswith("end2end:") and lines["input side"].strip() == "64x64 px"
    assert lines["classes"].strip() == "2, named in the file: cat, dog"
    assert lines["found"].strip() == "1 dog with scores from 0.3; 2 boxes with scores from 0.01"
    picture = cv2.imread(str(tmp_path / "runs/check-detector/photo.jpg"))
    assert picture.shape == (128, 128, 3)
    green = (picture[..., 1] > 150) & (picture[..., 2] < 100)
    assert green[24:64, 15:18].any(axis=1).all(), "the left side of the box, at twice the canvas' px, below its caption"
    assert not green[:, 90:].any()


def test_what_the_options_say(autofocus, model, tmp_path):
    (tmp_path / "names.txt").write_text("x\ny\n")
    code, out, _ = autofocus("check-detector", model, "photo.png", "--names", "names.txt", "--only", "y", "--channels",
                             "BGR", "--deviation", "1", "1", "1", "--shown", "0")  # fmt: skip
    assert code == 0 and "BGR, (pixel - (0.0, 0.0, 0.0)) / (1.0, 1.0, 1.0)" in out
    assert "1, as given: y" in out and "1 y with scores from 0" in out


@pytest.mark.parametrize(("words", "says"), [
    (("--layout", "yolo"), "there is no layout 'yolo'; want one of "),
    (("--score-threshold", "2"), "score_threshold must be in [0, 1], got 2.0"),
    (("--shown", "2"), "--shown must be in [0, 1], got 2.0"),
    (("--names", "n.txt"), "names n.txt cannot be read"),
    (("--canvas", "32", "32"), "whose input is fixed to (64, 64)"),
    (("--chanels", "BGR"), "did you mean --channels?"),
])  # fmt: skip
def test_options_that_are_wrong(autofocus, model, words, says):
    code, _, err = autofocus("check-detector", model, "photo.png", *words)
    assert code == 1 and err.startswith("autofocus check-detector: ") and says in err and err.count("\n") == 1


def test_files_that_are_not_there(autofocus, model):
    assert "none.onnx does not exist" in autofocus("check-detector", "none.onnx", "photo.png")[2]
    assert "none.png" in autofocus("check-detector", model, "none.png")[2]
