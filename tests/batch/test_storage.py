"""Folders on disks and in a store: whole files, listings, names."""

import os
import time

import pytest

from autofocus_jax.batch import storage
from autofocus_jax.batch.storage import Folder, StorageError, parent, resolved, split_pattern
from autofocus_jax.structures import ImageError


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return Folder(resolved(str(tmp_path / "new folder")))
    request.getfixturevalue("s3")
    return Folder(resolved(f"s3://bucket/{tmp_path.name}"))


def test_what_is_written_is_there_and_replaces(folder):
    assert folder.files() == {}
    folder.write("a.bin", b"first")
    folder.write("below/b c#1.bin", b"xy")
    folder.write("a.bin", b"then")
    assert folder.files() == {"a.bin": 4, "below/b c#1.bin": 2}
    assert folder.read("a.bin") == b"then" and folder.read("below/b c#1.bin") == b"xy"


def test_a_missing_file_is_an_image_error(folder):
    folder.write("a", b"")
    with pytest.raises(ImageError, match=r"no\.png does not exist"):
        folder.read("no.png")


def test_hidden_files_are_passed_over_and_halves_are_swept(tmp_path):
    folder = Folder(str(tmp_path))
    half = tmp_path / f".part-1.parquet.{'0' * 32}.partial"
    half.write_bytes(b"half")
    (tmp_path / ".other").write_bytes(b"")
    assert folder.files() == {}
    new = tmp_path / f".part-2.parquet.{'1' * 32}.partial"
    new.write_bytes(b"of a run that goes on")
    os.utime(half, (time.time() - 4000, time.time() - 4000))
    folder.sweep()
    assert new.exists() and not half.exists() and (tmp_path / ".other").exists()


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    folder.write("a", b"first")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        folder.write("a", b"second")
    assert folder.read("a") == b"first" and os.listdir(tmp_path) == ["a"]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(storage.os, "fsync", lambda number: (done.append(os.fstat(number).st_size), fsync(number)))
    monkeypatch.setattr(storage.os, "replace", lambda *paths: (done.append("named"), replace(*paths)))
    Folder(str(tmp_path)).write("a", b"12345")
    assert done == [5, "named"]


def test_a_store_that_does_not_answer(s3, flaky):
    folder = Folder("s3://bucket/x")
    folder.write("a.png", b"content")
    flaky.every = 2
    assert folder.read("a.png") == b"content" and folder.files() == {"a.png": 7} and flaky.refused > 1
    flaky.every = 1
    for call in (lambda: folder.read("a.png"), folder.files, lambda: folder.write("b", b"x"), folder.info):
        with pytest.raises(StorageError, match="503"):
            call()


class Denying:
    """A file system that refuses every file, as pyarrow tells it."""

    def open_input_stream(self, path, compression):
        raise OSError("AWS Error ACCESS_DENIED during GetObject operation")

    def open_input_file(self, path):
        raise OSError("AWS Error ACCESS_DENIED during HeadObject operation")


def test_what_may_not_be_read_is_an_image_error(s3, monkeypatch):
    folder = Folder("s3://bucket/x")
    monkeypatch.setattr(folder, "fs", Denying())
    with pytest.raises(ImageError, match=r"a\.png cannot be read .*ACCESS_DENIED"):
        folder.read("a.png")
    with pytest.raises(StorageError, match=r"a\.tar: AWS Error ACCESS_DENIED"):  # with all its images, it is no damage
        folder.open("a.tar", seekable=False)


def test_no_file_system():
    with pytest.raises(StorageError, match="leads to no file system"):
        Folder("nothing://bucket/x")


def test_a_local_disk_that_fails_is_an_image_error(tmp_path, monkeypatch):
    class Broken:
        def open_input_stream(self, path, compression):
            raise OSError(5, "Input/output error")

    folder = Folder(str(tmp_path))
    monkeypatch.setattr(folder, "fs", Broken())
    with pytest.raises(ImageError, match=r"a\.png cannot be read \(Input/output error\)"):
        folder.read("a.png")


def test_names_that_are_not_utf_8(tmp_path):
    (tmp_path / "below").mkdir()
    with open(os.fsencode(tmp_path) + b"/below/\xff.png", "wb") as file:
        file.write(b"foreign")
    (tmp_path / "below" / "\\xfe.png").write_bytes(b"a backslash in a name")
    folder = Folder(str(tmp_path))
    assert folder.files() == {"below/\\xfe.png": 21, "below/\\xff.png": 7}
    assert folder.read("below/\\xff.png") == b"foreign" and folder.read("below/\\xfe.png") == b"a backslash in a name"
    for seekable in (False, True):
        with folder.open("below/\\xff.png", seekable) as file:
            assert file.read() == b"foreign"
    assert folder.size("below/\\xff.png") == 7
    with pytest.raises(ImageError, match=r"xaa.png does not exist"):
        folder.read("below/\\xaa.png")
    with pytest.raises(StorageError, match=r"\\udcff leads to no file system"):
        Folder(f"{tmp_path}/\udcff")


def test_resolved(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolved("a/../b") == str(tmp_path / "b")
    assert resolved("s3://bucket/a") == "s3://bucket/a"
    assert resolved("file:///a%20b") == "/a b" and resolved("file://localhost/a/?.tar") == "/a/?.tar"


@pytest.mark.parametrize("uri", ["s3://bucket/a?endpoint_override=http://h", "hdfs://h/p", "http://host/a", "s3fs://x"])
def test_uris_with_settings_or_of_other_schemes(uri):
    with pytest.raises(StorageError, match="not of a known scheme, or with settings"):
        Folder(uri)


def test_patterns_and_parents():
    assert split_pattern("/a/b") == ("/a/b", "")
    assert split_pattern("/a/b*/c.tar") == ("/a", "b*/c.tar")
    assert split_pattern("s3://bucket/c/[ab]?/*?.tar") == ("s3://bucket/c", "[ab]?/*?.tar")
    assert parent("/a/b.tar") == ("/a", "b.tar") and parent("/b.tar") == ("/", "b.tar")
    assert parent("s3://bucket/a/b.tar") == ("s3://bucket/a", "b.tar")


def test_devices_pipes_and_broken_links_are_passed_over_and_named(tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "a.png").write_bytes(b"1")
    assert Folder(str(tmp_path)).files() == {"a.png": 1}
    for name in ("pipe.png", "zero.png", "gone.png"):
        assert f"{name} is no regular file; it is passed over" in caplog.text
