"""What a piece holds: the same pictures from a folder, from tables and from shards; what is damaged."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autofocus_jax.batch.images import images
from autofocus_jax.batch.plan import plan
from autofocus_jax.batch.storage import Folder
from autofocus_jax.data.image import decode_image
from autofocus_jax.structures import ImageError

BAD = 5


def read(given, size=4):
    """(id, image or the reason why there is none) of every image of an input."""
    planned = plan(str(given), size)
    found = []
    for piece in planned.pieces:
        for name, reader in images(Folder(planned.folder), piece):
            try:
                found.append((name, reader()))
            except ImageError as error:
                found.append((name, str(error)))
    return found


def check(found, names, contents):
    assert [name for name, _ in found] == names
    for (_, image), content in zip(found, contents):
        if content is contents[BAD]:
            assert "cut off" in image
        else:
            assert np.array_equal(image, decode_image(content, "", oriented=True))


def write_shard(path, members, mode="w"):
    with tarfile.open(path, mode) as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))


def test_files(pictures, contents):
    names = [f"{number}.png" for number in range(3, 10)] + [f"below/{number}.png" for number in range(3)]
    found = dict(read(pictures))
    assert list(found) == sorted(names)
    for name, image in found.items():
        number = int(name[-5])
        assert "cut off" in image if number == BAD else np.array_equal(image, decode_image(contents[number], ""))


def test_a_file_that_has_gone(tmp_path, contents):
    (tmp_path / "a.png").write_bytes(contents[0])
    (tmp_path / "b.png").write_bytes(contents[1])
    planned = plan(str(tmp_path), 4)
    (tmp_path / "a.png").unlink()
    (first, read_first), (_, read_second) = images(Folder(planned.folder), planned.pieces[0])
    with pytest.raises(ImageError, match=r"a\.png does not exist"):
        read_first()
    assert first == "a.png" and read_second().ndim == 3


@pytest.mark.parametrize("column", ["bytes", "image", "data"])
def test_tables_of_bytes(tmp_path, contents, column):
    table = pa.table({"other": range(10), column: contents})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    check(read(tmp_path), [f"a.parquet#{row}" for row in range(10)], contents)


def test_tables_with_ids_and_structs(tmp_path, contents):
    values = [{"bytes": content, "path": None} for content in contents]
    pq.write_table(pa.table({"id": range(100, 110), "image": values}), tmp_path / "a.parquet", row_group_size=4)
    check(read(tmp_path), [str(number) for number in range(100, 110)], contents)


def test_tables_of_paths(tmp_path, contents, pictures):
    (tmp_path / "near.png").write_bytes(contents[1])
    paths = [str(pictures / "3.png"), "near.png", f"file://{pictures}/4.png", None, "no.png", str(pictures / "5.png")]
    pq.write_table(pa.table({"path": paths}), tmp_path / "a.parquet")
    found = [image for _, image in read(f"{tmp_path}/*.parquet")]
    for position, number in ((0, 3), (1, 1), (2, 4)):
        assert np.array_equal(found[position], decode_image(contents[number], ""))
    assert "null" in found[3] and "no.png does not exist" in found[4] and "cut off" in found[5]


def test_a_table_without_images(tmp_path):
    pq.write_table(pa.table({"height": [1, 2]}), tmp_path / "a.parquet")
    ((name, reason),) = read(tmp_path)
    assert name == "a.parquet" and "no column of images" in reason and "height" in reason


def test_a_damaged_table(tmp_path, contents):
    pq.write_table(pa.table({"bytes": contents}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    ((name, reason),) = read(tmp_path)
    assert name == "a.parquet" and "a.parquet" in reason


@pytest.mark.parametrize("end", [".tar", ".tar.gz"])
def test_shards(tmp_path, contents, end):
    members = [(f"{number}.png", content) for number, content in enumerate(contents)]
    members = [*members[:4], ("4.json", b"{}"), *members[4:]]
    write_shard(tmp_path / f"s{end}", members, "w:gz" if end.endswith("gz") else "w")
    check(read(tmp_path), [f"s{end}/{number}.png" for number in range(10)], contents)


@pytest.mark.parametrize("where", ["data", "header", "end", "boundary", "empty"])
def test_a_damaged_shard_keeps_what_came_before(tmp_path, contents, where):
    path = tmp_path / "s.tar"
    write_shard(path, [(f"{number}.png", contents[number]) for number in range(3)])
    whole = path.read_bytes()
    first = 512 + -(-len(contents[0]) // 512) * 512
    cut = {
        "data": whole[: first + 700], "header": whole[: first + 100], "boundary": whole[:first], "empty": b"",
        "end": whole[:first] + b"\x07" * 512 + whole[first + 512 :],
    }[where]  # fmt: skip
    path.write_bytes(cut)
    *before, (name, reason) = read(tmp_path)
    count = 0 if where == "empty" else 1
    assert [name for name, _ in before] == ["s.tar/0.png"][:count]
    assert name == "s.tar" and f"ends after {count} images" in reason


def test_a_store_is_like_a_disk(s3, pictures, contents):
    for number, content in enumerate(contents):
        with s3.open_output_stream(f"bucket/images/{'below/' if number < 3 else ''}{number}.png") as file:
            file.write(content)
    here, there = read(pictures), read("s3://bucket/images")
    assert [name for name, _ in here] == [name for name, _ in there]
    assert all(np.array_equal(image, other) for (_, image), (_, other) in zip(here, there))
