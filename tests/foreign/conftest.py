"""What tests of foreign detectors share: tiny ONNX models that the tests write, and the folder of ready-made ones."""

import os
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="wants onnx and onnxruntime: pip install -e '.[test]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ROOT = Path(__file__).parents[2]
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


@pytest.fixture(scope="session")
def shared():
    """The folder with ready-made models and photographs, which lies beside the checkout."""
    places = [os.environ.get("AUTOFOCUS_SHARED"), ROOT.parent / "shared", ROOT.parent.parent / "shared"]
    for place in places:
        if place and (Path(place) / "models").is_dir():
            return Path(place)
    pytest.skip("wants the ready-made models and photographs, which are not here; AUTOFOCUS_SHARED may name the folder")


def write(path, nodes, image, constants, outputs, metadata=None, extras=()):
    """Writes a model. image: shape of the input. outputs: name -> (ONNX type, shape). extras: further inputs."""
    inputs = [helper.make_tensor_value_info("images", TYPES[image[1]], image[0])]
    inputs += [helper.make_tensor_value_info(*extra) for extra in extras]
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, values, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def grid_model(tmp_path):
    """Makes a model with a row for each cell of strides 8, 16, 32: mean colour of the cell @ weights + bias.

    weights [3, C], bias [C] or, for a fixed size, [N, C]. repeat: rows a cell. transposed: [B, C, N] in place of
    [B, N, C]. size None: free sides. Returns the path.
    """

    def make(weights, bias, size=None, repeat=1, transposed=False, dtype="float32", batch=1, metadata=None):
        nodes, parts = [], []
        image = [batch, 3, *(size or ("height", "width"))]
        source = "images"
        if dtype != "float32":
            nodes.append(helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT))
            source = "wide"
        for stride in (8, 16, 32):
            pool, flat, rows = (f"{name}{stride}" for name in ("pool", "flat", "rows"))
            sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            nodes += [
                helper.make_node("AveragePool", [source], [pool], **sides),
                helper.make_node("Reshape", [pool, "shape"], [flat]),
                helper.make_node("Transpose", [flat], [rows], perm=[0, 2, 1]),
            ]
            parts += [rows] * repeat
        nodes += [
            helper.make_node("Concat", parts, ["all"], axis=1),
            helper.make_node("MatMul", ["all", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["sum"]),
        ]
        last = "sum"
        if transposed:
            nodes.append(helper.make_node("Transpose", ["sum"], ["turned"], perm=[0, 2, 1]))
            last = "turned"
        nodes.append(helper.make_node("Cast", [last], ["output"], to=TYPES[dtype]))
        constants = {
            "shape": np.array([0, 3, -1], np.int64), "weights": np.asarray(weights, np.float32),
            "bias": np.asarray(bias, np.float32),
        }  # fmt: skip
        outputs = {"output": (TYPES[dtype], [None, None, None])}
        return write(tmp_path / "grid.onnx", nodes, (image, dtype), constants, outputs, metadata)

    return make


@pytest.fixture
def constant_model(tmp_path):
    """Makes a model that answers the same whatever it sees. outputs: name -> array. Returns the path."""

    def make(outputs, size=(64, 96), metadata=None, batch=1, rank=4, image=None):
        shape = image or [batch, 3, *size][-rank:]
        nodes, constants, declared = [], {}, {}
        for name, value in outputs.items():
            constants[f"{name}_value"] = value
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
            declared[name] = (helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))
        return write(tmp_path / "constant.onnx", nodes, (shape, "float32"), constants, declared, metadata)

    return make


@pytest.fixture
def written():
    """`write` of this file, for models of a test's own."""
    return write
