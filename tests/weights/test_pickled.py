"""PyTorch's files without PyTorch: two that PyTorch 2 wrote (in today's form and in that of before 1.6), and bad ones.

tests/golden/state_zip.pth and state_old.pth hold what `state` below makes, under "state_dict":
torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=...).
"""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from autofocus_jax.weights import pickled
from autofocus_jax.weights.safetensors import WeightsError

GOLDEN = Path(__file__).parent.parent / "golden"


def numbers():
    """What the files hold: plain, half, turned round, a part of a larger storage, an integer, an empty one."""
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7
    return {"conv.weight": base, "half": base[0].astype(np.float16), "turned": base[0].T, "part": base[1, 1:, ::2],
            "count": np.array(7), "none": np.zeros((0, 3), np.float32)}  # fmt: skip


@pytest.mark.parametrize("name", ["state_zip.pth", "state_old.pth"])
def test_files_of_pytorch(name):
    found = pickled.read(GOLDEN / name)
    assert found.keys() == numbers().keys()
    for key, array in numbers().items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], array.astype(np.float32))


class Code:
    def __reduce__(self):
        return (print, ("executed",))


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, 2))
    return file.getvalue()


def refused(path, words):
    with pytest.raises(WeightsError, match=words) as error:
        pickled.read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_nothing_is_executed(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(zipped({"a": Code()}))
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Code(), 2))
    for name in ("a.pth", "b.pth"):
        refused(tmp_path / name, "names (__builtin__|builtins).print")
    assert capsys.readouterr().out == ""


def test_what_is_no_state_dict(tmp_path):
    for content in ({"a": 3}, [1], {"state_dict": {"a": "b"}}):
        (tmp_path / "w.pth").write_bytes(zipped(content))
        refused(tmp_path / "w.pth", "no state dict")
    refused(tmp_path / "absent.pth", "cannot be read")


@pytest.mark.parametrize("name", ["state_zip.pth", "state_old.pth"])
def test_files_that_end_early(tmp_path, name):
    whole = (GOLDEN / name).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / name).write_bytes(whole[:length])
        refused(tmp_path / name, "cannot be read")


def test_a_tensor_past_its_storage(tmp_path):
    """The shape in the pickle is made larger; a reader that believes it shows foreign memory."""
    whole = (GOLDEN / "state_old.pth").read_bytes()
    shape = b"K\x02K\x03K\x04\x87"  # (2, 3, 4)
    assert whole.count(shape) == 1
    (tmp_path / "w.pth").write_bytes(whole.replace(shape, b"K\x7fK\x03K\x04\x87"))
    refused(tmp_path / "w.pth", "cut off")
