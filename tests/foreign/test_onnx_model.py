"""From a file to a detector: what is read, what can be said otherwise, what is refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from autofocus_jax.foreign.found import ForeignError, Raw
from autofocus_jax.foreign.onnx_model import LAYOUTS, OnnxSettings, load_onnx
from autofocus_jax.foreign.onnx_session import Session

SIZE = (64, 96)
COLOR = (10, 20, 40)  # RGB


@pytest.fixture
def mean_model(written, tmp_path):
    """[1, 3, 6] rows whose score is the mean of a channel / 100, so that what a network gets can be read."""

    def make(shape=(1, 3, *SIZE), dtype="float32"):
        axes = [2, 3] if shape[1] == 3 else [1, 2]
        nodes = [
            helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["wide"], ["mean"], axes=axes, keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
            helper.make_node("Mul", ["column", "score"], ["scores"]),
            helper.make_node("Add", ["scores", "rows"], ["output"]),
        ]
        rows = np.zeros((1, 3, 6), np.float32)
        rows[0, :, :4], rows[0, :, 5] = [[0, 0, 8, 8], [16, 0, 24, 8], [32, 0, 40, 8]], [0, 1, 2]
        score = np.zeros((1, 1, 6), np.float32)
        score[..., 4] = 0.01
        constants = {"last": np.array([2]), "score": score, "rows": rows}
        outputs = {"output": (TensorProto.FLOAT, [None, 3, 6])}
        return written(tmp_path / "mean.onnx", nodes, (list(shape), dtype), constants, outputs)

    return make


def channels(detector):
    """Mean of each channel of the input, by what the model answers for an even crop."""
    (found,) = detector.find([np.full((*SIZE, 3), COLOR, np.uint8)])
    return (100 * found.scores[np.argsort(found.labels)]).tolist()


ONE = (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("settings", "expected"), [
    ({"deviation": ONE}, [10, 20, 40]),
    ({"deviation": ONE, "channels": "BGR"}, [40, 20, 10]),
    ({"mean": (5.0, 6.0, 8.0), "deviation": (1.0, 2.0, 4.0)}, [5, 7, 8]),
    ({"mean": (5.0, 6.0, 8.0), "deviation": (1.0, 2.0, 4.0), "channels": "BGR"}, [8, 7, 5]),
])  # fmt: skip
def test_pixels_as_the_network_gets_them(mean_model, settings, expected):
    assert channels(load_onnx(mean_model(), OnnxSettings(**settings))) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("shape", "dtype"), [
    ((1, *SIZE, 3), "float32"), ((1, *SIZE, 3), "uint8"), ((1, 3, *SIZE), "uint8"), ((1, 3, *SIZE), "float16"),
])  # fmt: skip
def test_channels_last_and_other_types(mean_model, shape, dtype):
    assert channels(load_onnx(mean_model(shape, dtype), OnnxSettings(deviation=ONE))) == pytest.approx(COLOR, abs=0.05)


def test_only_some_classes_are_numbered_anew(mean_model):
    settings = OnnxSettings(categories=("a", "b", "c"), only=("c", "a"), deviation=ONE)
    detector = load_onnx(mean_model(), settings)
    (found,) = detector.find([np.full((*SIZE, 3), COLOR, np.uint8)])
    assert detector.categories == ("c", "a") and found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.4, 0.1], abs=1e-4)


def test_threshold_and_most(mean_model):
    crop = np.full((*SIZE, 3), COLOR, np.uint8)
    (found,) = load_onnx(mean_model(), OnnxSettings(score_threshold=0.15, deviation=ONE)).find([crop])
    assert found.scores.tolist() == pytest.approx([0.4, 0.2], abs=1e-4)
    (found,) = load_onnx(mean_model(), OnnxSettings(most=1, deviation=ONE)).find([crop])
    assert found.labels.tolist() == [2]


def rows_of(batch):
    rows = np.zeros((batch, 2, 6), np.float32)
    rows[:, 0] = [0, 0, 8, 8, 0.9, 1]
    rows[:, 0, 0] = np.arange(batch)
    return rows


def test_a_fixed_batch_is_filled(constant_model):
    detector = load_onnx(constant_model({"output": rows_of(4)}, batch=4))
    found = detector.find([np.zeros((*SIZE, 3), np.uint8)] * 6)  # two runs, the second of two crops
    assert [answer.boxes[0, 0] for answer in found] == [0, 1, 2, 3, 0, 1]
    with pytest.raises(ForeignError, match=r"a batch of 2 for model .*, which takes 4; leave batch out"):
        load_onnx(constant_model({"output": rows_of(4)}, batch=4), OnnxSettings(batch=2))


def test_a_free_batch_is_that_of_the_settings(grid_model, monkeypatch):
    sizes = []
    answer = Session.answer
    monkeypatch.setattr(Session, "answer", lambda self, pixels, size: sizes.append(len(pixels)) or answer(
        self, pixels, size))  # fmt: skip
    weights = np.zeros((3, 8))
    weights[0, 4] = 1 / 255
    detector = load_onnx(grid_model(weights, [0, 0, 0, 0, 0, 1, 0, 0], batch="batch"), OnnxSettings(batch=3))
    crops = [np.full((64, 64, 3), value, np.uint8) for value in (250, 200, 150, 100)]
    crops.insert(1, np.zeros((32, 64, 3), np.uint8))  # of another size
    found = detector.find(crops)
    assert sizes == [1, 3, 1, 1]  # the look at the model, then the crops
    best = [answer.scores[0] if len(answer.scores) else 0 for answer in found]
    assert best == pytest.approx([250 / 255, 0, 200 / 255, 150 / 255, 100 / 255], abs=1e-4)


def test_a_side_for_a_free_input(grid_model):
    path = grid_model(np.zeros((3, 8)), np.zeros(8))
    detector = load_onnx(path, OnnxSettings(side=(64, 128)))
    assert detector.fixed == (64, 128)
    with pytest.raises(ForeignError, match=r"side must be of multiples of 32 px, got \(64, 100\)"):
        load_onnx(path, OnnxSettings(side=(64, 100)))
    with pytest.raises(ForeignError, match=r"a side of \(32, 32\) for model .*, whose input is fixed"):
        load_onnx(grid_model(np.zeros((3, 8)), np.zeros(8), SIZE), OnnxSettings(side=(32, 32)))


def test_the_multiple_is_the_file_s_or_found(grid_model, written, tmp_path):
    assert load_onnx(grid_model(np.zeros((3, 8)), np.zeros(8), metadata={"stride": "64"})).multiple == 64
    # two branches that agree at multiples of 64 px only, as the necks of networks with four grids do
    nodes = [
        helper.make_node("MaxPool", ["images"], ["down"], kernel_shape=[64, 64], strides=[64, 64]),
        helper.make_node("MaxPool", ["images"], ["half"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Resize", ["down", "", "scales"], ["up"], mode="nearest"),
        helper.make_node("Sub", ["half", "up"], ["zero"]),
        helper.make_node("ReduceMax", ["zero"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "rows"], ["output"]),
    ]
    constants = {
        "scales": np.array([1, 1, 2, 2], np.float32), "nothing": np.array(0, np.float32), "rows": rows_of(1),
    }  # fmt: skip
    outputs = {"output": (TensorProto.FLOAT, [None, None, 6])}
    image = ([1, 3, "height", "width"], "float32")
    path = written(tmp_path / "neck.onnx", nodes, image, constants, outputs)
    detector = load_onnx(path)
    assert detector.multiple == 64
    assert detector.find([np.zeros((70, 130, 3), np.uint8)])[0].labels.tolist() == [1]


def test_a_decode_function_of_the_user_s(constant_model):
    seen = []

    def decode(outputs, size):
        seen.append(({name: value.shape for name, value in outputs.items()}, size))
        return [Raw(np.array([[0, 0, 10, 10]]), np.array([[0.2, 0.7]]))]

    path = constant_model({"strange": np.zeros((1, 7, 2, 3), np.float32)})
    settings = OnnxSettings(categories=("a", "b"), fit="stretch")
    (found,) = load_onnx(path, settings, decode).find([np.zeros((128, 96, 3), np.uint8)])
    assert found.boxes.tolist() == [[0, 0, 10, 20]] and found.labels.tolist() == [1]
    assert seen[-1] == ({"strange": (1, 7, 2, 3)}, SIZE)


def test_a_layout_that_cannot_be_told_lists_what_was_seen(constant_model):
    path = constant_model({"strange": np.zeros((1, 7, 2, 3), np.float32)})
    with pytest.raises(ForeignError) as error:
        load_onnx(path)
    text = str(error.value)
    assert "inputs images float32 [1, 3, 64, 96]" in text and "outputs strange float32 [1, 7, 2, 3]" in text
    assert "yolov8: wants one output of rank 3" in text and "decode function" in text and "\n" not in text


def test_a_layout_that_does_not_fit(constant_model):
    path = constant_model({"strange": np.zeros((1, 7, 2, 3), np.float32)})
    with pytest.raises(ForeignError, match=r"layout yolox cannot read the outputs strange \[1, 7, 2, 3\]"):
        load_onnx(path, OnnxSettings(layout="yolox"))
    with pytest.raises(ForeignError, match="there is no layout 'yolo'; want one of paddle, "):
        load_onnx(path, OnnxSettings(layout="yolo"))


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(ForeignError, match=r"none\.onnx does not exist; give an \.onnx file"):
        load_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ForeignError, match=r"text\.onnx cannot be loaded; "):
        load_onnx(tmp_path / "text.onnx")


def test_an_operator_that_is_not_known(tmp_path):
    import onnx

    node = helper.make_node("NMSRotated", ["images"], ["output"], domain="mmdeploy")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("images", "output")]
    graph = helper.make_graph([node], "custom", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mmdeploy", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "custom.onnx"))
    with pytest.raises(ForeignError, match=r"custom\.onnx cannot be loaded; .*NMSRotated"):
        load_onnx(tmp_path / "custom.onnx")


def test_a_provider_that_is_not_there(mean_model):
    with pytest.raises(ForeignError, match=r"provider 'tpu' is not in this onnxruntime; it has .*cpu"):
        load_onnx(mean_model(), OnnxSettings(providers=("tpu", "cpu")))
    assert dict(load_onnx(mean_model(), OnnxSettings(providers=("CPU",))).about)["runs on"] == "CPUExecutionProvider"


def test_a_provider_that_does_not_start_is_no_fall_back(mean_model, monkeypatch):
    import onnxruntime

    # onnxruntime lists a provider whose libraries do not load, and goes on with the CPU.
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    start = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession",
        lambda path, options, providers: start(path, options, providers=["CPUExecutionProvider"]),
    )  # fmt: skip
    with pytest.raises(ForeignError, match="was to run on CUDAExecutionProvider, which does not start"):
        load_onnx(mean_model(), OnnxSettings(providers=("cuda",)))


def test_inputs_that_cannot_be_filled(written, tmp_path, constant_model):
    nodes = [helper.make_node("Identity", ["threshold"], ["output"])]
    image, extras = ([1, 3, *SIZE], "float32"), [("threshold", TensorProto.FLOAT, [1])]
    outputs = {"output": (TensorProto.FLOAT, [1])}
    path = written(tmp_path / "m.onnx", nodes, image, {}, outputs, extras=extras)
    with pytest.raises(ForeignError, match=r"wants other inputs .*threshold float32 \[1\]"):
        load_onnx(path)
    with pytest.raises(ForeignError, match="takes no picture of three channels"):
        load_onnx(constant_model({"output": rows_of(1)}, image=[1, 1, 28, 28]))


def test_names_and_classes_that_do_not_agree(grid_model, constant_model):
    path = grid_model(np.zeros((3, 8)), np.zeros(8), SIZE)
    assert load_onnx(path).categories == ("class 0", "class 1", "class 2")
    with pytest.raises(ForeignError, match=r"yolox: wants 5 \+ 2 columns for 2 names, has 8"):
        load_onnx(path, OnnxSettings(categories=("a", "b")))
    with pytest.raises(ForeignError, match="the model has 3 classes, and there are 2 names"):
        load_onnx(path, OnnxSettings(categories=("a", "b"), layout="yolox"))
    with pytest.raises(ForeignError, match="there is no class 'd'; want some of a, b, c"):
        load_onnx(path, OnnxSettings(categories=("a", "b", "c"), only=("d",)))
    with pytest.raises(ForeignError, match="names that cannot be read"):
        load_onnx(constant_model({"output": rows_of(1)}, metadata={"names": "{0: cat"}))
    detector = load_onnx(constant_model({"output": rows_of(1)}), OnnxSettings(categories=("a",)))
    with pytest.raises(ForeignError, match="answers label 1 where 1 classes are known"):
        detector.find([np.zeros((*SIZE, 3), np.uint8)])


@pytest.mark.parametrize("column", [0, 4])
def test_answers_that_are_no_numbers(constant_model, column):
    rows = rows_of(1)
    rows[0, 0, column] = np.nan
    detector = load_onnx(constant_model({"output": rows}))
    with pytest.raises(ForeignError, match=r"no (finite )?numbers; try 32-bit weights"):
        detector.find([np.zeros((*SIZE, 3), np.uint8)])


def test_crops_that_are_none(constant_model):
    detector = load_onnx(constant_model({"output": rows_of(1)}))
    with pytest.raises(ForeignError, match=r"crop 1 is float64 \[64, 96, 3\]; give uint8 RGB"):
        detector.find([np.zeros((*SIZE, 3), np.uint8), np.zeros((*SIZE, 3))])
    assert detector.find([]) == []


@pytest.mark.parametrize("wrong", [
    {"score_threshold": 2}, {"nms_iou": 0}, {"most": 0}, {"batch": 0}, {"side": (0, 32)},
])  # fmt: skip
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ForeignError, match=f"{next(iter(wrong))} must be "):
        OnnxSettings(**wrong)


@pytest.mark.parametrize("wrong", [
    {"channels": "GBR"}, {"fit": "crop"}, {"deviation": (0, 1, 1)}, {"padding": (0, 0, 300)}, {"mean": (0, 0)},
])  # fmt: skip
def test_preparations_that_make_no_sense(constant_model, wrong):
    with pytest.raises(ForeignError, match=f"{next(iter(wrong))} must be "):
        load_onnx(constant_model({"output": rows_of(1)}), OnnxSettings(**wrong))


def test_the_settings_name_every_layout():
    assert all(layout.name in OnnxSettings.__doc__ for layout in LAYOUTS)
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_a_free_input_is_made_for_what_its_file_says(grid_model):
    metadata = {"names": "{0: 'a', 1: 'b', 2: 'c'}", "stride": "32", "imgsz": "[480, 640]"}
    weights, bias = np.zeros((3, 7)), np.zeros(7)
    assert load_onnx(grid_model(weights, bias, transposed=True, metadata=metadata)).made_for == 640
    fixed = grid_model(weights, bias, (64, 96), transposed=True, metadata=metadata)
    assert load_onnx(fixed).made_for is None
    del metadata["imgsz"]
    assert load_onnx(grid_model(weights, bias, transposed=True, metadata=metadata)).made_for is None
