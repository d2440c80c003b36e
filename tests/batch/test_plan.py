"""Pieces of folders, globs, tables and shards: everything once, in an order that does not change."""

import io
import tarfile

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autofocus_jax.batch.plan import InputError, plan, takes_in
from autofocus_jax.batch.storage import StorageError, resolved


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_images_in_order_of_their_names(tmp_path):
    make(tmp_path, "b.png", "a/2.jpg", "a/10.JPG", "c.txt", ".hidden.png", ".cache/d.png", "z.jpeg")
    found = plan(str(tmp_path), 2)
    assert [piece.files for piece in found.pieces] == [("a/10.JPG", "a/2.jpg"), ("b.png", "z.jpeg")]
    assert [piece.number for piece in found.pieces] == [0, 1] and found.images == 4


@hypothesis.given(st.integers(1, 30), st.integers(1, 12))
def test_every_image_is_in_one_piece(tmp_path_factory, count, size):
    folder = tmp_path_factory.mktemp("images")
    names = [f"{number:03d}.png" for number in range(count)]
    make(folder, *names)
    found = plan(str(folder), size)
    assert [name for piece in found.pieces for name in piece.files] == names
    assert all(len(piece.files) == size for piece in found.pieces[:-1])


def test_linked_folders_are_listed_once(tmp_path):
    make(tmp_path, "in/b/1.png", "other/2.png")
    for name, target in {"a": "b", "loop": ".", "b/up": "..", "there": tmp_path / "other", "again": "there"}.items():
        (tmp_path / "in" / name).symlink_to(target)
    found = plan(str(tmp_path / "in"), 9)
    assert [piece.files for piece in found.pieces] == [("again/2.png", "b/1.png")]


def test_globs(tmp_path):
    make(tmp_path, "a/1.png", "a/b/2.png", "c/3.png", "c/3.jpg", "[d]/4.png")
    names = lambda pattern: [name for piece in plan(f"{tmp_path}/{pattern}", 9).pieces for name in piece.files]  # noqa: E731
    assert names("*/*.png") == ["[d]/4.png", "a/1.png", "c/3.png"]
    assert names("**/*.png") == ["[d]/4.png", "a/1.png", "a/b/2.png", "c/3.png"]
    assert names("c/?.jp*") == ["3.jpg"]
    assert names("[!c]/*.png") == ["a/1.png"]


def test_one_file(tmp_path):
    make(tmp_path, "a b/1.png", "a b/2.png")
    assert plan(str(tmp_path / "a b" / "1.png"), 4).pieces[0].files == ("1.png",)


def test_the_digest_knows_names_and_sizes(tmp_path):
    make(tmp_path, "1.png", "2.png")
    first = plan(str(tmp_path), 4).digest
    assert plan(str(tmp_path), 1).digest == first
    (tmp_path / "2.png").write_bytes(b"xy")
    second = plan(str(tmp_path), 4).digest
    make(tmp_path, "3.png")
    assert len({first, second, plan(str(tmp_path), 4).digest}) == 3


def test_tables_are_cut_between_row_groups(tmp_path):
    pq.write_table(pa.table({"bytes": [b"x"] * 10}), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(pa.table({"bytes": pa.array([], pa.binary())}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"bytes": [b"x"] * 5}), tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"no table")
    found = plan(str(tmp_path), 4)
    seen = [(piece.files[0], piece.groups, piece.row, piece.images) for piece in found.pieces]
    assert seen == [
        ("a.parquet", (0, 2), 0, 6), ("a.parquet", (2, 4), 6, 4), ("c.parquet", (0, 1), 0, 5),
        ("d.parquet", (0, 0), 0, 1),
    ]  # fmt: skip


def test_a_shard_is_a_piece(tmp_path):
    for name in ("b.tar", "a.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as shard:
            shard.addfile(tarfile.TarInfo("1.png"), io.BytesIO())
    found = plan(str(tmp_path), 4)
    assert [piece.files for piece in found.pieces] == [("a.tar.gz",), ("b.tar",)] and found.images is None


def test_what_is_no_input(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        plan(str(tmp_path / "no"), 4)
    with pytest.raises(InputError, match="holds no images"):
        plan(str(tmp_path), 4)
    make(tmp_path, "a.png", "b.tar")
    with pytest.raises(InputError, match="1 images and 1 tar shards"):
        plan(str(tmp_path), 4)
    with pytest.raises(StorageError, match="leads to no file system"):
        plan("nothing://here", 4)


def test_output_that_the_input_takes_in(tmp_path, s3):
    make(tmp_path, "in/a.parquet", "in/below/b.parquet")
    for root in (f"{tmp_path}/", "s3://bucket/"):  # the store is one of $AWS_ENDPOINT_URL
        inside = lambda given, output, root=root: takes_in(f"{root}{given}", resolved(f"{root}{output}"))  # noqa: E731
        assert inside("in", "in") and inside("in", "in/found") and inside("in/", "in/found/")
        assert inside("in/**/*.parquet", "in/found") and inside("in/*/*", "in/found") and inside("i?/*.parquet", "in")
        assert not inside("in", "in2") and not inside("in/a.parquet", "in/found") and not inside("in", "out/in")
        assert not inside("in/*.parquet", "in/found") and not inside("in/**/*.jpg", "in/found")
    assert not takes_in("s3://bucket/in", "/bucket/in") and takes_in("/", "/found")


def test_a_store_is_like_a_disk(s3, tmp_path):
    names = ["a/1.png", "a/2.png", "b/3.png"]
    make(tmp_path, *names)
    for name in names:
        with s3.open_output_stream(f"bucket/planned/{name}") as file:
            file.write(b"x")
    here, there = plan(str(tmp_path), 2), plan("s3://bucket/planned", 2)
    assert here.pieces == there.pieces and here.digest == there.digest
    assert [piece.files for piece in plan("s3://bucket/planned/*/[13].png", 1).pieces] == [("a/1.png",), ("b/3.png",)]
    with pytest.raises(InputError, match="does not exist"):
        plan("s3://bucket/no", 2)
