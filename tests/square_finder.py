"""A tiny ONNX detector whose answers are known: it finds red and green squares of 8 px on black."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_square_finder(path: Path, side: int | None = None) -> Path:
    """Write the detector and return its path. Padding must be black.

    YOLOX's layout, not decoded: each cell of strides 8, 16 and 32 answers for itself by its mean colour, so a square
    that fills a part of a cell is found weakly there.

    Args:
        path: of the ONNX file.
        side: of a fixed input, px; None takes any.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights, bias = np.zeros((3, 7), np.float32), np.array([0.5, 0.5, 0, 0, 0, 0.5, 0.5], np.float32)
    weights[1, 4] = weights[2, 4] = 1 / 255  # objectness by green and red of BGR
    weights[2, 5], weights[1, 6] = 1 / 510, 1 / 510
    nodes = []
    for stride in (8, 16, 32):
        sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["images"], [f"pool{stride}"], **sides),
            helper.make_node("Reshape", [f"pool{stride}", "shape"], [f"flat{stride}"]),
            helper.make_node("Transpose", [f"flat{stride}"], [f"rows{stride}"], perm=[0, 2, 1]),
        ]
    nodes += [
        helper.make_node("Concat", ["rows8", "rows16", "rows32"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["output"]),
    ]
    constants = {"shape": np.array([0, 3, -1], np.int64), "weights": weights, "bias": bias}
    image = [1, 3, *((side, side) if side else ("height", "width"))]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("images", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, None, None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"names": "{0: 'red', 1: 'green'}"})
    onnx.save(model, str(path))
    return path
