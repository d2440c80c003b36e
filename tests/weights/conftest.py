"""What the tests of foreign weights share: a writer of MXNet's format, the authors' names, a config of few channels."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent.parent / "golden"
FLAGS = [
    "float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool", "int16", "uint16", "uint32", "uint64",
]  # fmt: skip

CONFIG = """
import math
from autofocus_jax.config import *
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.structures import *

def get_config():
    return Config(
        name="narrow", data=CocoSource("FOLDER"),
        scales=(
            Scale(32, 48, ValidRange(20, math.inf), ChipRule(0.3, 1, 16)),
            Scale(64, 96, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(5, 64, 90), buckets=(Bucket(64, 96, 2),),
        detector=DetectorConfig(
            num_classes=80, backbone=BackboneConfig(units=(1, 1, 1, 2), channels=(4, 16, 32, 64, 128),
                                                    deformable_groups=4),
            rpn_channels=32, proposals_before_nms=16, proposals=4, roi_channels=16, head_channels=64,
            focus_channels=16, roi_pooling="deformable",
        ),
        training=TrainingConfig(steps=10, batch=2, ranges=(ValidRange(20, math.inf), ValidRange(0, 50))),
        stacking=StackingConfig(score_threshold=0.0),
    )
"""


def write(path, arrays, version=2, storage=0):
    """The list format, written from its description; `version` 0 is the oldest, whose magic number is the ndim."""
    out = [struct.pack("<3Q", 0x112, 0, len(arrays))]
    for array in arrays.values():
        flag = FLAGS.index(array.dtype.name)
        if version == 0:
            out.append(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape))
        else:
            out.append(struct.pack("<I", {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}[version]))
            out += [struct.pack("<i", storage)] if version > 1 else []
            out.append(struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape))
        out.append(struct.pack("<iii", 1, 0, flag))
        out.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
    out.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        out.append(struct.pack("<Q", len(name.encode())) + name.encode())
    Path(path).write_bytes(b"".join(out))


@pytest.fixture(scope="session")
def write_params():
    """write_params(path, arrays, version) writes an MXNet .params file."""
    return write


def _narrow(size):
    """A size of the real network with 16 times fewer channels; classes, anchors, offsets and deltas stay."""
    kept = {2, 3, 4, 42, 84, 72, 98, 81, 1, 7}
    return size if size in kept else 16 * 49 if size == 256 * 49 else size // 16


@pytest.fixture(scope="session")
def sniper_arrays():
    """sniper_arrays(units, narrow) -> the authors' arrays by name (538 for 3, 4, 23, 3 units), of real
    shapes or, narrow, of 16 times fewer channels.
    """

    def make(units=(1, 1, 1, 2), narrow=True):
        random, arrays = np.random.default_rng(3), {}
        with np.load(GOLDEN / "sniper_r101_names.npz") as names:
            for name in names.files:
                unit = re.search(r"stage(\d)_unit(\d+)_", name)
                if unit and int(unit[2]) > units[int(unit[1]) - 1]:
                    continue
                shape = tuple(int(size) for size in names[name])
                if narrow:
                    kernel = shape[2:]
                    shape = tuple(_narrow(size) for size in shape[:2]) + kernel
                values = random.standard_normal(shape, np.float32)
                arrays[name] = np.exp(0.1 * values) if name.endswith(("_var", "_gamma")) else 0.05 * values
        return arrays

    return make


@pytest.fixture(scope="session")
def narrow_config(tmp_path_factory):
    """The path of a config for sniper_arrays(): the paper's detector with fewer channels and units."""
    path = tmp_path_factory.mktemp("narrow") / "config.py"
    path.write_text(CONFIG)
    return path
