"""MXNet's list format: every version and type comes back, every broken file is one clear line."""

import struct
import time
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.weights import mxnet
from autofocus_jax.weights.safetensors import WeightsError

GOLDEN = Path(__file__).parent.parent / "golden"
TYPES = [
    "float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool", "int16", "uint16", "uint32", "uint64",
]  # fmt: skip


def same(one, other):
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].shape == other[name].shape
        np.testing.assert_array_equal(one[name], other[name])


def fails(path, *words):
    with pytest.raises(WeightsError) as error:
        mxnet.read(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message


def test_a_file_that_mxnet_wrote():
    with np.load(GOLDEN / "format_check.npz") as expected:
        same(mxnet.read(GOLDEN / "format_check.params"), dict(expected))


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_version_and_type(tmp_path, write_params, version):
    random = np.random.default_rng(version)
    arrays = {f"arg:{kind}": random.integers(0, 2, (2, 3, 1)).astype(kind) for kind in TYPES} | {
        "aux:größe": np.arange(7, dtype=np.float32),
        "big": random.standard_normal((3, 4, 5, 6)).astype(np.float16),
    }
    write_params(tmp_path / "w.params", arrays, version)
    steps = []
    same(mxnet.read(tmp_path / "w.params", lambda *step: steps.append(step)), arrays)
    assert steps == [(index + 1, len(arrays)) for index in range(len(arrays))]


ARRAYS = arrays_of.arrays(st.sampled_from(["<f4", "<f8", "<i8"]), arrays_of.array_shapes(max_dims=5))


@given(st.lists(ARRAYS, max_size=4))
def test_any_arrays(tmp_path_factory, write_params, values):
    path = tmp_path_factory.getbasetemp() / "any.params"
    write_params(path, {f"a{index}": array for index, array in enumerate(values)})
    read = mxnet.read(path)
    assert len(read) == len(values)
    for ours, theirs in zip(read.values(), values):
        np.testing.assert_array_equal(ours, theirs)


def test_scalars_and_sides_of_zero_have_values_only_since_version_3(tmp_path, write_params):
    write_params(tmp_path / "w", {"scalar": np.float32(3).reshape(()), "none": np.zeros((2, 0), np.float32)}, 3)
    read = mxnet.read(tmp_path / "w")
    assert read["scalar"].shape == () and read["scalar"] == 3 and read["none"].shape == (2, 0)
    for version, start in ((2, struct.pack("<Iii", mxnet.V2, 0, 0)), (3, struct.pack("<Iii", mxnet.V3, 0, -1))):
        (tmp_path / "e").write_bytes(struct.pack("<3Q", 0x112, 0, 1) + start + struct.pack("<2Q", 1, 1) + b"a")
        fails(tmp_path / "e", "array 1 of 1 is empty")
        assert version


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_truncated_anywhere(tmp_path, write_params, version):
    write_params(tmp_path / "w", {"arg:one": np.ones((2, 3), np.float32), "aux:two": np.ones(3, np.int8)}, version)
    content = (tmp_path / "w").read_bytes()
    path = tmp_path / "cut"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        fails(path, "truncated or damaged", "get the file anew")
    path.write_bytes(content + b"more")
    fails(path, "4 bytes after its end")


def test_what_cannot_be_read(tmp_path, write_params):
    fails(tmp_path / "none.params", "cannot be read")
    fails(tmp_path, "cannot be read")
    path = tmp_path / "w.params"
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(60), b"hello " * 40):
        path.write_bytes(content)
        fails(path, "no list of MXNet arrays")
    for storage, kind in ((1, "row_sparse"), (2, "csr"), (-1, "undefined"), (9, "unknown storage type 9")):
        write_params(path, {"a": np.ones(2, np.float32)}, 2, storage)
        fails(path, "array 1 of 1", kind, "want dense")
    write_params(path, {"a": np.ones(2, np.float32)})
    good = bytearray(path.read_bytes())
    flag = 24 + 4 + 4 + 4 + 8 + 8
    assert good[flag : flag + 4] == struct.pack("<i", 0)
    for unknown in (12, -1, 99):
        path.write_bytes(good[:flag] + struct.pack("<i", unknown) + good[flag + 4 :])
        fails(path, f"unknown type {unknown}", "float16, float32, float64")


def test_damage_inside(tmp_path, write_params):
    path = tmp_path / "w"
    write_params(path, {"ab": np.ones((2, 2), np.float32), "cd": np.ones(2, np.float32)})
    good = path.read_bytes()
    dimension, names = 24 + 12, len(good) - 2 * 10 - 8
    for place, value, words in (
        (dimension, struct.pack("<q", -2), "the shape"),
        (dimension, struct.pack("<q", 1 << 60), "ends inside the values"),
        (dimension - 4, struct.pack("<i", 77), "77 dimensions"),
        (dimension - 4, struct.pack("<i", -7), "-7 dimensions"),
        (16, struct.pack("<Q", 1 << 62), "truncated or damaged"),
        (names, struct.pack("<Q", 1), "1 names for 2 arrays"),
        (len(good) - 2, b"\xff\xff", "no text"),
        (len(good) - 2, b"ab", "names two arrays 'ab'"),
    ):
        path.write_bytes(good[:place] + value + good[place + len(value) :])
        fails(path, words)


def test_equal_names_among_very_many_are_found_in_time(tmp_path):
    """Counting each name among all took 41 s for these."""
    count = 60_000
    arrays = struct.pack("<IiiqiiIf", mxnet.V2, 0, 1, 1, 1, 0, 0, 0.0) * count
    names = [b"arg:%07d" % number for number in (*range(count - 1), count - 2)]
    listed = b"".join(struct.pack("<Q", len(name)) + name for name in names)
    head = struct.pack("<QQQ", mxnet.LIST_MAGIC, 0, count)
    (tmp_path / "w.params").write_bytes(head + arrays + struct.pack("<Q", count) + listed)
    begun = time.process_time()
    with pytest.raises(WeightsError, match=f"names two arrays 'arg:{count - 2:07d}'"):
        mxnet.read(tmp_path / "w.params")
    assert time.process_time() - begun < 10
