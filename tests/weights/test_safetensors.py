"""Weights on disk: what goes in comes out, and every broken or foreign file is one clear line."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from autofocus_jax.command.main import main
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.torch import read_safetensors


@pytest.fixture
def variables():
    random = np.random.default_rng(1)
    return {
        "params": {
            "stem": {"conv": {"kernel": random.normal(0, 0.1, (3, 3, 3, 8)).astype(np.float32)}},
            "head": {"bias": random.normal(size=5).astype(np.float32), "scale": np.float32(2.5).reshape(())},
        },
        "batch_stats": {"stem": {"var": np.array([1e-3, 7e5], np.float32)}},
    }


def same(one, other, **tolerance):
    one, other = safetensors.flatten(one), safetensors.flatten(other)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype == np.float32 and one[name].shape == other[name].shape
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)


def test_round_trip(tmp_path, variables):
    path = tmp_path / "new" / "w.safetensors"
    safetensors.save(path, variables, {"name": "demo", "scales": [1, 2]}, {"seed": 3})
    loaded, metadata = safetensors.load(path)
    same(loaded, variables, rtol=0)
    assert metadata == {"seed": 3, "config": {"name": "demo", "scales": [1, 2]}}
    assert [item.name for item in path.parent.iterdir()] == ["w.safetensors"]


def test_float16_halves_kernels_only(tmp_path, variables):
    variables["params"]["wide"] = {"kernel": np.full((2, 2), 1e6, np.float32)}  # beyond half precision
    safetensors.save(tmp_path / "w", variables, {}, dtype=np.float16)
    loaded, _ = safetensors.load(tmp_path / "w")
    same(loaded, variables, rtol=1e-3, atol=1e-7)
    assert not np.array_equal(loaded["params"]["stem"]["conv"]["kernel"], variables["params"]["stem"]["conv"]["kernel"])
    for exact in (("params", "head"), ("batch_stats", "stem"), ("params", "wide")):
        same(loaded[exact[0]][exact[1]], variables[exact[0]][exact[1]], rtol=0)
    safetensors.save(tmp_path / "full", variables, {})
    saved = (tmp_path / "full").stat().st_size - (tmp_path / "w").stat().st_size
    assert saved > 2 * 3 * 3 * 3 * 8 * 0.9


def test_a_failed_save_leaves_the_old_file(tmp_path, variables):
    path = tmp_path / "w"
    safetensors.save(path, variables, {})
    with pytest.raises(TypeError):
        safetensors.save(path, variables, {"not json": object()})
    same(safetensors.load(path)[0], variables, rtol=0)


def broken_files(good: bytes):
    yield "empty", b""
    yield "truncated header", good[:40]
    yield "truncated data", good[:-9]
    yield "picture", b"\x89PNG\r\n\x1a\n" + bytes(200)
    yield "text", b"hello " * 50
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()
    yield "lying header", struct.pack("<Q", len(header)) + header + bytes(4)


def test_broken_files_are_one_line(tmp_path, variables):
    safetensors.save(tmp_path / "good", variables, {})
    for name, content in broken_files((tmp_path / "good").read_bytes()):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(safetensors.WeightsError) as error:
            safetensors.load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_foreign_and_missing_files(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "foreign", metadata={"format": "pt"})
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "bare")
    for name in ("foreign", "bare"):
        with pytest.raises(safetensors.WeightsError, match="not in this program's format"):
            safetensors.load(tmp_path / name)
    header = {"format": safetensors._FORMAT, "config": "{}", "metadata": "{}"}
    arrays = {"a": np.zeros(3, np.float32), "a/b": np.zeros(3, np.float32)}
    save_file(arrays, tmp_path / "nested", metadata=header)
    save_file({"a": arrays["a"]}, tmp_path / "settings", metadata={**header, "config": "null"})
    for name in ("nested", "settings"):
        with pytest.raises(safetensors.WeightsError, match="damaged"):
            safetensors.load(tmp_path / name)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(safetensors.WeightsError, match="do not exist"):
            safetensors.load(path)


def test_values_that_are_not_finite_are_refused(variables, tmp_path):
    for value in (np.nan, np.inf):
        bad = {"params": {"stem": {"kernel": np.array([1, value], np.float32)}}}
        safetensors.save(tmp_path / "w", bad, {})
        with pytest.raises(safetensors.WeightsError, match="params/stem/kernel holds NaN or infinite values"):
            safetensors.load(tmp_path / "w")


def written(path, arrays, config="{}", body=b"\0" * 64):
    """A file made by hand: arrays as the header names them."""
    metadata = {"format": "autofocus_jax weights 1", "config": config, "metadata": "{}"}
    head = json.dumps({"__metadata__": metadata, **arrays}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return path


@pytest.mark.parametrize("arrays, says", [
    ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},
      "a/b": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]}}, "both 'a' and 'a/b' are arrays"),
    ({"a": {"dtype": "F8_E4M3", "shape": [64], "data_offsets": [0, 64]}}, "type (that )?NumPy lacks"),
    ({"a": {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]}}, "type (that )?NumPy lacks"),
])  # fmt: skip
def test_faults_of_arrays_are_one_line(tmp_path, arrays, says):
    path = written(tmp_path / "w.safetensors", arrays)
    for read in (safetensors.load, read_safetensors) if "a/b" not in arrays else (safetensors.load,):
        with pytest.raises(safetensors.WeightsError, match=says) as error:
            read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", ['{"detector": [1]}', '{"detector": {"backbone": 5}}', "[1]", "3"])
def test_settings_of_another_form_are_one_line(tmp_path, config):
    array = {"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}
    with pytest.raises(safetensors.WeightsError, match="are damaged"):
        safetensors.load(written(tmp_path / "w.safetensors", array, config))


def test_settings_nested_without_end_are_one_line(tmp_path, capsys):
    array = {"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}
    path = written(tmp_path / "w.safetensors", array, "[" * 10**5 + "]" * 10**5)
    with pytest.raises(safetensors.WeightsError, match="are damaged"):
        safetensors.load(path)
    head = b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}"
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    words = [str(path), "--config", "configs/demo.py", "--output", str(tmp_path / "out")]
    assert main(["convert", *words]) == 1 and capsys.readouterr().err.count("\n") == 1


def test_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "_SHIPPED", tmp_path)
    with pytest.raises(safetensors.WeightsError, match="none are shipped"):
        safetensors.shipped("x.safetensors")
    (tmp_path / "x.safetensors").touch()
    assert safetensors.shipped("x.safetensors") == tmp_path / "x.safetensors"
    with pytest.raises(safetensors.WeightsError, match=r"shipped are x\.safetensors"):
        safetensors.shipped("y.safetensors")
