"""Models that cannot be used: each ends in one line that says what is wrong, or in boxes that make sense."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.cascade import stream
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.callback import PythonSettings, from_callback
from autofocus_jax.foreign.canvases import find_in_chips
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.foreign.found import CropDetector, ForeignError, Raw
from autofocus_jax.foreign.onnx_model import load_onnx
from autofocus_jax.foreign.onnx_settings import OnnxSettings
from autofocus_jax.structures import Detections, DetectorError, Scale, ValidRange

SIZE = (64, 96)
CROP = np.zeros((*SIZE, 3), np.uint8)
TWO = OnnxSettings(categories=("cat", "dog"))
ONE_SCALE = Plan([Scale(64, 96, ValidRange(0, math.inf), None)], Loose(), window=4)


def rows(*boxes, score=0.9, label=0):
    """[1, n, 6], an end-to-end answer."""
    return np.array([[(*box, score, label) for box in boxes]], np.float32)


def refused(path, message, settings=TWO, decode=None):
    """Loading a file, or its first crop, ends in one line."""
    with pytest.raises(ForeignError, match=message) as error:
        load_onnx(path, settings, decode).find([CROP])
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000


def test_a_classifier(constant_model):
    path = constant_model({"probabilities": np.full((1, 1000), 0.001, np.float32)}, size=(224, 224))
    refused(path, r"of no layout that is known; seen: .*probabilities float32 \[1, 1000\]", OnnxSettings())


def test_a_segmenter(constant_model):
    refused(constant_model({"mask": np.zeros((1, 21, 64, 96), np.float32)}), "of no layout that is known")


def test_a_layout_that_is_named_wrongly(grid_model, constant_model):
    """Logits read as scores, and boxes that have no area."""
    weights = np.zeros((3, 7))
    refused(grid_model(weights, [0, 0, 9, 9, 5, 5, 5], SIZE), "answers a score of 25, above 1; choose another layout",
            OnnxSettings(layout="yolox-decoded"))  # fmt: skip
    other = grid_model(weights, np.zeros(7), SIZE)
    about = dict(load_onnx(other, OnnxSettings(layout="yolov5")).about)
    assert "three rows a cell; as asked, but wants 378 rows, three a cell" in about["layout"]
    assert "as asked" not in dict(load_onnx(other, OnnxSettings(layout="yolox")).about)["layout"]
    swapped = rows(*[(50, 50, 10, 10)] * 12)
    refused(constant_model({"output": swapped}), r"12 boxes and all of them without an area, as \[50.0, 50.0, 10.0")


def test_boxes_without_an_area_are_left_out_beside_others(constant_model):
    detector = load_onnx(constant_model({"output": rows((50, 50, 10, 10), (5, 5, 9, 9), (7, 7, 7, 9))}), TWO)
    assert detector.find([CROP])[0].boxes.tolist() == [[5, 5, 9, 9]]


@pytest.mark.parametrize("size", [(100, 70), (33, 500)])
def test_a_fixed_input_of_strange_sides(constant_model, size):
    detector = load_onnx(constant_model({"output": rows((5, 5, 9, 9))}, size=size), TWO)
    assert detector.fixed == size
    (found,), spent = find_in_chips(detector, [np.zeros((90, 60, 3), np.uint8)])
    assert spent.pixels == spent.canvases * size[0] * size[1] and [5, 5, 9, 9] in found.boxes.tolist()


@pytest.mark.parametrize("sides", [["height", 96], [64, "width"]])
def test_one_side_that_is_free_takes_the_other_s_length(constant_model, sides):
    detector = load_onnx(constant_model({"output": rows((5, 5, 9, 9))}, image=[1, 3, *sides]), TWO)
    assert detector.fixed == ((96, 96) if sides[1] == 96 else (64, 64))


def test_sides_that_are_told_to_be_free_and_are_not(tmp_path):
    """A Reshape inside holds the side of the export, whatever the declaration says."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *sides])
             for name, sides in (("images", ["height", "width"]), ("output", [416, 416]))]  # fmt: skip
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [1, 3, 416, 416])
    graph = helper.make_graph([helper.make_node("Reshape", ["images", "shape"], ["output"])], "held", value[:1],
                              value[1:], [shape])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    refused(tmp_path / "m.onnx", "does not run on a canvas of sides of multiples of 32, 64, 128; give the side of its")
    decode = lambda outputs, size: [Raw(np.float32([[1, 2, 30, 40]]), np.float32([[0.5]]))]  # noqa: E731
    told = OnnxSettings(categories=("cat",), side=(416, 416))
    detector = load_onnx(tmp_path / "m.onnx", told, decode)
    assert detector.fixed == (416, 416) and len(detector.find([np.zeros((416, 416, 3), np.uint8)])[0].boxes) == 1


def test_an_input_of_a_few_pixels(constant_model):
    refused(constant_model({"output": rows((1, 1, 2, 2))}, size=(8, 96)), "takes 8x96 px; want sides of at least 32 px")


def test_inputs_without_any_dimension_told(constant_model):
    path = constant_model({"output": rows((5, 5, 9, 9))}, image=["b", "c", "h", "w"])
    assert load_onnx(path, TWO).find([CROP])[0].boxes.tolist() == [[5, 5, 9, 9]]


def test_weights_of_16_bits_run_with_16_bits_in_and_out(grid_model):
    weights = np.zeros((3, 6))
    weights[0, 4] = 1
    path = grid_model(weights, [32, 32, 16, 16, 0, 0], SIZE, transposed=True, dtype="float16")
    (found,) = load_onnx(path, TWO).find([np.full((*SIZE, 3), 250, np.uint8)])
    np.testing.assert_allclose(found.boxes, [[24, 24, 40, 40]])
    assert found.scores.dtype == np.float32 and found.scores[0] == pytest.approx(250 / 255, abs=2e-3)


def test_16_bits_that_run_over(grid_model):
    refused(grid_model(np.zeros((3, 6)), [32, 32, 16, 16, np.nan, 0], SIZE, transposed=True, dtype="float16"),
            "scores that are no numbers; try 32-bit weights")  # fmt: skip


def test_a_type_of_numbers_that_numpy_lacks(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [1, 3, 64, 96]) for name in ("images", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["output"])], "wide", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    refused(tmp_path / "m.onnx", r"m\.onnx: images is of type tensor\(bfloat16\); want one of tensor\(float\)")


def test_operators_of_a_package_of_its_own(tmp_path):
    node = helper.make_node("BatchedNMSDynamic_TRT", ["images"], ["output"], domain="trt.plugins")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 96]) for name in ("images", "output")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("trt.plugins", 1)]
    graph = helper.make_graph([node], "custom", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "m.onnx"))
    refused(tmp_path / "m.onnx", r"m\.onnx cannot be loaded; .*BatchedNMSDynamic_TRT")


def test_class_names_that_are_missing(constant_model, grid_model):
    """Counted where the outputs tell how many, COCO's where there may be 80, asked for where nothing tells."""
    assert load_onnx(grid_model(np.zeros((3, 6)), np.zeros(6), SIZE)).categories == ("class 0",)
    assert load_onnx(constant_model({"output": rows((5, 5, 9, 9))})).categories[16] == "dog"
    path = constant_model({"strange": np.zeros((1, 7, 2, 3), np.float32)})
    answer = Raw(np.zeros((1, 4)), np.zeros(1), np.zeros(1))
    refused(path, "the number of classes is not known; give their names", OnnxSettings(), lambda *_: [answer])


@pytest.mark.parametrize("label", [2, -1, np.nan, np.inf, 1e9])
def test_labels_that_no_class_has(constant_model, label):
    refused(constant_model({"output": rows((5, 5, 9, 9), label=label)}), "answers label .* where 2 classes are known")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off(grid_model, tmp_path, share):
    content = grid_model(np.ones((3, 6)), np.zeros(6), SIZE, transposed=True).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "cut.onnx", r"cut\.onnx (cannot be loaded|wants|does not run)|of no layout")


@pytest.mark.parametrize("content", [b"", b"no model\n" * 99, b"PK\x03\x04 weights", bytes(range(256)) * 40])
def test_files_that_are_no_models(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    refused(tmp_path / "m.onnx", r"m\.onnx (cannot be loaded; |wants)")


def test_a_folder_and_nothing(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for name in ("folder.onnx", "nothing.onnx"):
        refused(tmp_path / name, "does not exist; give an .onnx file")


def test_weights_beside_the_file_that_are_missing(grid_model, tmp_path):
    model = onnx.load(str(grid_model(np.ones((3, 2000)), np.zeros(2000), SIZE)))
    path = tmp_path / "split.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="split.data", size_threshold=1000)
    (tmp_path / "split.data").unlink()
    refused(path, r"split\.onnx cannot be loaded; .*split\.data")


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_model_that_answers_for_another_number_of_crops(constant_model, batch):
    path = constant_model({"output": np.concatenate([rows((5, 5, 9, 9))] * 2)}, batch=batch)
    refused(path, "answers for 2 of 1 crops; give a batch of 1")


@pytest.mark.parametrize(("answer", "message"), [
    (Raw(np.zeros((2, 5)), np.zeros((2, 2))), r"of \[2, 5\], \[2, 2\]; want"),
    (Raw(np.zeros((2, 4)), np.zeros((3, 2))), r"of \[2, 4\], \[3, 2\]; want"),
    (Raw(np.zeros((2, 4)), np.zeros(2)), r"of \[2, 4\], \[2\]; want"),
    (Raw(np.zeros((2, 4)), np.zeros(2), np.zeros(3)), r"of \[2, 4\], \[2\], \[3\]; want"),
    ((np.zeros((2, 4)), np.zeros((2, 2))), "read as tuple; want a Raw"),
    (None, "read as NoneType; want a Raw"),
])  # fmt: skip
def test_a_decode_function_that_answers_nonsense(constant_model, answer, message):
    refused(constant_model({"strange": np.zeros((1, 7, 2, 3), np.float32)}), message, TWO, lambda *_: [answer])


def test_a_decode_function_that_raises(constant_model):
    refused(constant_model({"strange": np.zeros((1, 7, 2, 3), np.float32)}), "layout own cannot read the outputs "
            r"strange \[1, 7, 2, 3\]: division by zero", TWO, lambda *_: 1 / 0)  # fmt: skip


def photographs(*values):
    """Readers of even pictures, by number."""
    return [(number, lambda value=value: np.full((*SIZE, 3), value, np.uint8)) for number, value in enumerate(values)]


BAD = [
    lambda crop: 1 / 0,
    lambda crop: int("line\nand line"),
    lambda crop: np.zeros(3) @ np.zeros(4),
    lambda crop: None,
    lambda crop: np.zeros((5, 6)),
    lambda crop: ([[1, 2, 3]], [0.5], [0]),
    lambda crop: ([[9, 9, 1, 1]], [0.5], [0]),
    lambda crop: ([[1, 1, 9, 9]], [np.nan], [0]),
    lambda crop: ([[1, 1, 9, 9]], [0.5], [np.nan]),
    lambda crop: ([[1, 1, np.inf, 9]], [0.5], [0]),
    lambda crop: ([[1, 1, 9, 9]], [0.5], [7]),
    lambda crop: ([["a", 1, 9, 9]], [0.5], [0]),
    lambda crop: ([[1, 1, 9, 9], [1]], [0.5], [0]),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_callback_that_answers_nonsense_for_one_image_ends_that_image(bad):
    def callback(crop):
        return bad(crop) if crop[0, 0, 0] == 9 else ([[5, 5, 20, 20]], [0.9], [0])

    detect = ForeignDetect(from_callback(callback, PythonSettings(("cat", "dog"))))
    outcomes = list(stream(photographs(1, 9, 1, 1, 9), detect, ONE_SCALE))
    assert [outcome.key for outcome in outcomes if outcome.error] == [1, 4]
    assert all(outcome.error.startswith("the callback ") and "\n" not in outcome.error
               for outcome in outcomes if outcome.error)  # fmt: skip
    assert all(len(outcome.detections.boxes) == 1 for outcome in outcomes if not outcome.error)


@pytest.mark.parametrize("bad", BAD)
def test_a_callback_that_answers_nonsense_for_every_image_ends_the_run(bad):
    detect = ForeignDetect(from_callback(bad, PythonSettings(("cat", "dog"))))
    with pytest.raises(DetectorError, match="the detector failed on each of the first 8 images, at last: the callback"):
        list(stream(photographs(*[1] * 50), detect, ONE_SCALE))


def test_an_onnx_model_that_fails_on_one_image_ends_that_image(grid_model):
    """Scores that run over where the picture is bright."""
    weights = np.zeros((3, 6))
    weights[0, 4] = 2
    path = grid_model(weights, [32, 32, 16, 16, 0, 0], SIZE, transposed=True)
    outcomes = list(stream(photographs(10, 250, 10), ForeignDetect(load_onnx(path, TWO)), ONE_SCALE))
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "answers a score of 1.96" in outcomes[1].error


def test_too_many_boxes_the_best_stay():
    count = 200_000
    scores = np.random.default_rng(0).random(count)
    answer = (np.tile([5, 5, 9, 9], (count, 1)), scores, np.zeros(count, int))
    (found,) = from_callback(lambda crop: answer).find([CROP])
    assert found.scores.tolist() == np.sort(scores.astype(np.float32))[::-1][:1000].tolist()
    (found,) = from_callback(lambda crop: answer, PythonSettings(most=3)).find([CROP])
    assert len(found.boxes) == 3
    with pytest.raises(ForeignError, match="most must be at least 1, got 0"):
        PythonSettings(most=0)


@pytest.mark.parametrize("fixed", [None, SIZE])
def test_boxes_outside_the_image_are_no_detections(fixed):
    """Wholly outside, in the padding around the chip, half outside, and inside."""
    boxes = [[-50, -50, -10, -10], [500, 5, 900, 20], [72, 5, 90, 20], [-6, 5, 20, 20], [30, 30, 50, 45]]
    callback = from_callback(lambda crop: (boxes, [0.9] * 5, [0] * 5), PythonSettings(side=fixed, multiple=32))
    (outcome,) = stream([(0, lambda: np.zeros((60, 70, 3), np.uint8))], ForeignDetect(callback),
                        Plan([Scale(60, 70, ValidRange(0, math.inf), None)], Loose()))  # fmt: skip
    assert sorted(outcome.detections.boxes.tolist()) == [[0, 5, 20, 20], [30, 30, 50, 45]]


def test_a_detector_that_answers_for_another_number_of_crops():
    def find(crops):
        return [Detections.none()] * 3

    for fixed in (None, SIZE):
        with pytest.raises(ForeignError, match="the detector answers for 3 of 1 crops"):
            ForeignDetect(CropDetector(find, fixed, 32, (0, 0, 0), None))([CROP], [None])
