"""Files are whole or not there, JSON is JSON, damaged archives are one line, and the cache has one place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax import files
from autofocus_jax.files import WriteError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3) | st.just(np.float32(0.5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.whole_file(path) as draft:
        draft.write_text("x")
        assert not path.exists() and draft.suffix == ".txt" and draft.parent == path.parent
    assert path.read_text() == "x"
    with pytest.raises(ValueError, match="stop"), files.whole_file(path) as draft:
        draft.write_text("y")
        raise ValueError("stop")
    assert path.read_text() == "x" and [item.name for item in path.parent.iterdir()] == ["a.txt"]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    with files.whole_file(path) as first, files.whole_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    seen, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append("rename"), replace(*paths)))
    files.write_text(tmp_path / "a", "x")
    assert seen == ["sync", "rename"]
    files.write_text(tmp_path / "b", "x", sync=False)
    assert seen == ["sync", "rename", "rename"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_text(path, "x"),
        lambda path: files.write_json(path, {}),
        lambda path: files.write_npz(path, {"a": np.zeros(1)}),
        lambda path: files.make_folder(path),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path, write):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match=r"file/below cannot be (written|made) \(") as caught:
        write(tmp_path / "file" / "below")
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = files.write_text(tmp_path / ("n" * 251 + ".txt"), "x")
    assert path.read_text() == "x"


def test_a_name_that_is_not_utf8(tmp_path):
    path = files.write_text(tmp_path / os.fsdecode(b"caf\xe9.txt"), "x")
    assert path.read_text() == "x"


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """The limit on a file's size stands for a full disk, in a process of its own."""
    files.write_json(tmp_path / "a.json", {"old": 1})
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom autofocus_jax import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    files.write_json(Path(sys.argv[1]), ['x' * 5000])\n"
        "except files.WriteError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "a.json cannot be written (File too large); check the folder and the free space" in done.stdout
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_when_it_is_whole(tmp_path):
    with pytest.raises(ValueError, match="stop"), files.whole_folder(tmp_path / "a") as draft:
        (draft / "x").touch()
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    for content in ("first", "second"):  # the second comes too late
        with files.whole_folder(tmp_path / "a") as draft:
            (draft / "x").write_text(content)
    assert [item.name for item in tmp_path.iterdir()] == ["a"] and (tmp_path / "a" / "x").read_text() == "first"
    (tmp_path / "file").touch()
    with pytest.raises(OSError), files.whole_folder(tmp_path / "file") as draft:
        pass


@given(VALUES)
def test_any_content_becomes_json(tmp_path_factory, content):
    path = files.write_json(tmp_path_factory.getbasetemp() / "a.json", content)

    def never(name):
        raise AssertionError(f"{name} is no JSON")

    again = json.loads(path.read_text(encoding="utf-8"), parse_constant=never)
    assert again == files.plain(content)


def test_numpy_and_numbers_that_json_lacks(tmp_path):
    content = {"a": np.arange(2), "b": np.float32(0.5), "c": (float("nan"), -np.inf), 3: Path("x")}
    path = files.write_json(tmp_path / "a.json", content)
    assert json.loads(path.read_text()) == {"a": [0, 1], "b": 0.5, "c": [None, None], "3": "x"}


def test_archives(tmp_path):
    for compress in (True, False):
        path = files.write_npz(tmp_path / "a.npz", {"a": np.arange(3), "b": "text"}, compress)
        found = files.read_npz(path)
        assert found["a"].tolist() == [0, 1, 2] and str(found["b"]) == "text"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged, or no archive") as caught:
        files.read_npz(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError):
        files.read_npz(tmp_path / "none")


def test_the_cache_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("AUTOFOCUS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert files.cache_folder() == Path("/home/me/.cache/autofocus_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/elsewhere")
    assert files.cache_folder() == Path("/home/me/elsewhere/autofocus_jax")
    monkeypatch.setenv("AUTOFOCUS_CACHE", "~/cache")  # from a file of settings, where no shell expands it
    assert files.cache_folder() == Path("/home/me/cache")
