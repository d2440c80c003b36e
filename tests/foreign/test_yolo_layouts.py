"""Layouts of the YOLO families, each on a tiny model whose rows are the colours of its cells."""

import math

import numpy as np
import pytest

from autofocus_jax.foreign.onnx_model import OnnxSettings, load_onnx

SIZE = (64, 96)
NAMES = "{0: 'cat', 1: 'dog', 2: 'cow'}"
ULTRALYTICS = {"names": NAMES, "stride": "32", "task": "detect"}


def told(detector):
    return dict(detector.about)["layout"].split(":")[0]


def centres(size, repeat=1):
    """Centre of each cell of strides 8, 16, 32 as a model's rows have them, and their stride: [N, 3]."""
    rows = []
    for stride in (8, 16, 32):
        ys, xs = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells = np.stack([(xs.ravel() + 0.5) * stride, (ys.ravel() + 0.5) * stride, np.full(xs.size, stride)], axis=1)
        rows += [cells] * repeat
    return np.concatenate(rows).astype(np.float32)


def black_with(color, x, y, side, size=SIZE):
    """A black crop with a square of one colour."""
    crop = np.zeros((*size, 3), np.uint8)
    crop[y : y + side, x : x + side] = color
    return crop


def only_found(detector, crop):
    """Best row; beside it there is one at most of each coarser grid, whose cells the square fills in part."""
    (found,) = detector.find([crop])
    assert 1 <= len(found.scores) <= 3 and (found.scores[1:] < 0.3 * found.scores[0]).all(), found
    return found.boxes[0].tolist(), float(found.scores[0]), int(found.labels[0])


def yolox(grid_model, size, **options):
    """BGR 0..255 in. Objectness 0.9 where blue, then classes by green and red; boxes of 2 cells by 1."""
    weights = np.zeros((3, 8))
    weights[0, 4], weights[1, 5], weights[2, 6] = 0.9 / 255, 0.8 / 255, 0.5 / 255
    return grid_model(weights, [0.5, 0.5, math.log(2), 0, 0, 0, 0, 0], size, **options)


@pytest.mark.parametrize("size", [SIZE, None])
def test_yolox_not_decoded(grid_model, size):
    detector = load_onnx(yolox(grid_model, size))
    assert told(detector) == "yolox" and detector.fixed == size and detector.padding == (114, 114, 114)
    box, score, label = only_found(detector, black_with((0, 255, 255), 32, 16, 8))  # green and blue: class 0
    assert box == pytest.approx([36 - 8, 20 - 4, 36 + 8, 20 + 4]) and label == 0
    assert score == pytest.approx(0.9 * 0.8, abs=1e-5)
    _, score, label = only_found(detector, black_with((255, 0, 255), 32, 16, 8))  # red and blue: class 1
    assert label == 1 and score == pytest.approx(0.9 * 0.5, abs=1e-5)


def test_a_free_size_that_is_no_multiple_is_padded(grid_model):
    detector = load_onnx(yolox(grid_model, None), OnnxSettings(padding=(0, 0, 0)))
    assert (detector.fixed, detector.multiple) == (None, 32)
    box, *_ = only_found(detector, black_with((0, 255, 255), 40, 48, 8, (57, 77)))
    assert box == pytest.approx([36, 48, 52, 56])


def test_yolox_decoded(grid_model):
    rows = centres(SIZE)
    bias = np.zeros((len(rows), 8))
    bias[:, :2], bias[:, 2], bias[:, 3] = rows[:, :2], 2 * rows[:, 2], rows[:, 2]
    weights = np.zeros((3, 8))
    weights[0, 4], weights[1, 5] = 0.9 / 255, 0.8 / 255
    detector = load_onnx(grid_model(weights, bias, SIZE))
    assert told(detector) == "yolox-decoded"
    box, score, label = only_found(detector, black_with((0, 255, 255), 32, 16, 8))
    assert box == pytest.approx([28, 16, 44, 24]) and label == 0 and score == pytest.approx(0.72, abs=1e-5)


def test_yolov5(grid_model):
    rows = centres(SIZE, repeat=3)
    bias = np.zeros((len(rows), 8))
    bias[:, :2], bias[:, 2:4] = rows[:, :2], rows[:, 2:]
    weights = np.zeros((3, 8))
    weights[0, 4], weights[1, 7] = 0.9, 0.8  # RGB 0..1
    detector = load_onnx(grid_model(weights, bias, SIZE, repeat=3, metadata={"names": NAMES, "stride": "32"}))
    assert told(detector) == "yolov5" and detector.categories == ("cat", "dog", "cow")
    box, score, label = only_found(detector, black_with((255, 255, 0), 32, 16, 8))  # three equal rows, one after NMS
    assert box == pytest.approx([32, 16, 40, 24]) and label == 2 and score == pytest.approx(0.72, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_yolov8(grid_model, dtype):
    rows = centres(SIZE)
    bias = np.zeros((len(rows), 7))
    bias[:, :2], bias[:, 2:4] = rows[:, :2], rows[:, 2:]
    weights = np.zeros((3, 7))
    weights[0, 5], weights[1, 6] = 0.7, 0.6
    detector = load_onnx(grid_model(weights, bias, SIZE, transposed=True, dtype=dtype, metadata=ULTRALYTICS))
    assert told(detector) == "yolov8"
    box, score, label = only_found(detector, black_with((255, 0, 0), 32, 16, 8))
    assert box == pytest.approx([32, 16, 40, 24], abs=0.01) and label == 1 and score == pytest.approx(0.7, abs=1e-3)


def test_yolov8_letterboxes_in_the_centre(grid_model):
    rows = centres((64, 64))
    bias = np.zeros((len(rows), 7))
    bias[:, :2], bias[:, 2:4] = rows[:, :2], rows[:, 2:]
    weights = np.zeros((3, 7))
    weights[0, 5] = 0.7
    settings = OnnxSettings(padding=(0, 0, 0))
    detector = load_onnx(grid_model(weights, bias, (64, 64), transposed=True, metadata=ULTRALYTICS), settings)
    crop = black_with((255, 0, 0), 64, 32, 16, (64, 128))  # halved it is 32x64, 16 px below the canvas' border
    found = detector.find([crop])[0]
    assert found.boxes[0].tolist() == pytest.approx([64, 32, 80, 48], abs=0.01) and found.scores[0] > 0.6


def test_end_to_end(constant_model):
    rows = np.zeros((1, 5, 6), np.float32)
    rows[0, 0], rows[0, 1] = [10, 20, 30, 40, 0.9, 2], [10, 20, 30, 40, 0.8, 2]  # NMS is done, so both stay
    detector = load_onnx(constant_model({"output0": rows}, metadata={**ULTRALYTICS, "end2end": "True"}))
    assert told(detector) == "end2end"
    (found,) = detector.find([np.zeros((*SIZE, 3), np.uint8)])
    np.testing.assert_allclose(found.boxes, [[10, 20, 30, 40]] * 2)
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
    assert found.labels.tolist() == [2, 2]


@pytest.mark.parametrize("columns", [6, 7])
def test_rtdetr_of_ultralytics_is_normalised(constant_model, columns):
    rows = np.zeros((1, 5, columns), np.float32)
    rows[0, 0, :4] = [0.5, 0.25, 0.25, 0.5]
    rows[0, 0, 4:] = [0.9, 2] if columns == 6 else [0.1, 0.2, 0.9]
    detector = load_onnx(constant_model({"output0": rows}, metadata={**ULTRALYTICS, "head": "RTDETRDecoder"}))
    assert told(detector) == "rtdetr-ultralytics"
    found = detector.find([np.zeros((128, 96, 3), np.uint8)])[0]  # stretched: twice as high as the canvas
    np.testing.assert_allclose(found.boxes[0], [36, 0, 60, 64], atol=1e-4)
    assert found.scores[0] == pytest.approx(0.9) and found.labels[0] == 2


def test_one_class_has_six_columns_too(grid_model):
    weights = np.zeros((3, 6))
    weights[0, 4] = 0.9 / 255
    path = grid_model(weights, [0.5, 0.5, 0, 0, 0, 1], SIZE)
    detector = load_onnx(path, OnnxSettings(categories=("cat",)))
    assert told(detector) == "yolox" and detector.categories == ("cat",)
    assert only_found(detector, black_with((0, 0, 255), 32, 16, 8))[0] == pytest.approx([32, 16, 40, 24])
