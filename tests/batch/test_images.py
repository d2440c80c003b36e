"""What a piece holds: the same pictures from a folder, from tables and from shards; what is damaged."""

import bz2
import gzip
import io
import lzma
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autofocus_jax.batch import images as module
from autofocus_jax.batch import storage
from autofocus_jax.batch.images import images
from autofocus_jax.batch.plan import Piece, plan
from autofocus_jax.batch.storage import Folder
from autofocus_jax.batch.table import encode, error_row
from autofocus_jax.data.image import decode_image
from autofocus_jax.structures import ImageError

BAD = 5


def read(given, size=4, anywhere=False):
    """(id, image or the reason why there is none) of every image of an input."""
    planned = plan(str(given), size)
    found = []
    for piece in planned.pieces:
        for name, reader in images(Folder(planned.folder), piece, anywhere=anywhere):
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
    found = [image for _, image in read(f"{tmp_path}/*.parquet", anywhere=True)]
    for position, number in ((0, 3), (1, 1), (2, 4)):
        assert np.array_equal(found[position], decode_image(contents[number], ""))
    assert "null" in found[3] and "no.png does not exist" in found[4] and "cut off" in found[5]


def test_a_path_that_leads_nowhere_is_one_row(tmp_path, contents):
    (tmp_path / "a.png").write_bytes(contents[0])
    (tmp_path / "folder").mkdir()
    known = {
        "http://host/a.png": "no file system", "http://[::1/a.png": "no file system", "nothing://x/y z/a.png": "no",
        "a.png/x": "Not a directory", "folder": "is a directory", "x" * 300: "too long", "a\0.png": "cannot be read",
        "/": "cannot be read",
    }  # fmt: skip
    pq.write_table(pa.table({"path": [*known, "a.png"]}), tmp_path / "a.parquet")
    *found, (_, image) = read(tmp_path / "a.parquet", anywhere=True)
    for (path, expected), (_, reason) in zip(known.items(), found, strict=True):
        assert isinstance(reason, str) and expected in reason and "\n" not in reason, path
    assert np.array_equal(image, decode_image(contents[0], ""))


@pytest.mark.parametrize("path", [
    "/dev/zero", "file:///dev/zero", "../outside.png", "below/../../outside.png", "s3://bucket/a.png", "hdfs://h/p",
    "s3://bucket/a.png?endpoint_override=http://127.0.0.1:9", "http://[::1", "s3://", "data:image/png;base64,AAAA",
])  # fmt: skip
def test_a_table_reads_nothing_outside_of_its_folder(tmp_path, contents, path):
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.png").write_bytes(contents[0])
    (tmp_path / "in" / "a.png").write_bytes(contents[0])
    pq.write_table(pa.table({"path": [path, "a.png"]}), tmp_path / "in" / "a.parquet")
    (_, reason), (_, image) = read(tmp_path / "in" / "a.parquet")
    assert "no path below the input's folder" in reason or "does not exist" in reason
    assert np.array_equal(image, decode_image(contents[0], ""))


def test_a_uri_with_settings_is_refused_though_paths_elsewhere_are_asked_for(tmp_path, contents):
    """Nobody listens on that port; asking it would take seconds, and be another error."""
    store = "s3://bucket/a.png"
    paths = [f"{store}?endpoint_override=http://127.0.0.1:9", f"{store}?x&endpoint_override=h", "hdfs://h/p"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.png").write_bytes(contents[0])
    pq.write_table(pa.table({"path": [*paths, "b/../b/a.png"]}), tmp_path / "a.parquet")
    *refused, (_, other), (_, image) = read(tmp_path / "a.parquet", anywhere=True)
    assert all("with settings" in reason for _, reason in refused) and "no file system" in other
    assert np.array_equal(image, decode_image(contents[0], ""))


def test_only_regular_files_are_read(tmp_path, contents):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "a.png").write_bytes(contents[0])
    pq.write_table(pa.table({"path": ["pipe.png", "zero.png", "a.png"]}), tmp_path / "a.parquet")
    (_, pipe), (_, zero), (_, image) = read(tmp_path / "a.parquet")
    assert "no regular file" in pipe and "no regular file" in zero
    assert np.array_equal(image, decode_image(contents[0], ""))
    assert [name for name, _ in read(f"{tmp_path}/*.png")] == ["a.png"]


def test_a_file_above_the_limit(tmp_path, contents, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST", 20000)
    monkeypatch.setattr(module, "LARGEST", 20000)
    (tmp_path / "a.png").write_bytes(bytes(20001))
    ((_, reason),) = read(tmp_path / "a.png")
    assert "of 20001 bytes, above the limit of 20000" in reason
    pq.write_table(pa.table({"bytes": [bytes(20001), contents[0]]}), tmp_path / "a.parquet")
    (_, reason), (_, image) = read(tmp_path / "a.parquet")
    assert "of 20001 bytes, above the limit of 20000" in reason and image.ndim == 3


@pytest.mark.parametrize("ids", [
    pa.array([1, 9 * 10**15], pa.duration("s")), pa.array([0, 2**62], pa.timestamp("us")),
    pa.array([0, 9 * 10**8], pa.date32()), pa.array([0, 2**62], pa.timestamp("ns")),
    pa.array([2**64 - 1, 0], pa.uint64()), pa.array([b"\xff\xfe", b"a"]),
])  # fmt: skip
def test_ids_of_any_type(tmp_path, contents, ids):
    pq.write_table(pa.table({"id": ids, "bytes": contents[:2]}), tmp_path / "a.parquet")
    found = read(tmp_path)
    assert len({name for name, _ in found}) == 2 and all(isinstance(image, np.ndarray) for _, image in found)


def test_cells_that_are_no_image(tmp_path):
    pq.write_table(pa.table({"image": [{"bytes": 5}, {"bytes": None}]}), tmp_path / "a.parquet")
    (_, number), (_, null) = read(tmp_path)
    assert "is of type int" in number and "is null" in null


def sparse(name, size):
    """A member of one stored byte that says to be of `size` ones, in GNU's form of holes."""
    info = tarfile.TarInfo(name)
    info.size = 513
    real = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(size), "GNU.sparse.name": name}
    info.pax_headers = real
    return info, b"1\n0\n1\n".ljust(512, b"\0") + b"x"


@pytest.mark.parametrize("size", [10**18, 2 * 10**10])
def test_a_member_above_the_limit_loses_none_behind_it(tmp_path, contents, size):
    info, content = sparse("huge.png", size)
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.PAX_FORMAT) as shard:
        shard.addfile(tarfile.TarInfo("empty.png"))
        shard.addfile(info, io.BytesIO(content))
    write_shard(tmp_path / "s.tar", [("z.png", contents[0])], "a")
    _, (name, reason), (_, image) = read(tmp_path)
    assert name == "s.tar/huge.png" and f"of {size} bytes, above the limit" in reason
    assert np.array_equal(image, decode_image(contents[0], ""))


def test_a_shard_that_unpacks_without_end(tmp_path, contents, monkeypatch):
    monkeypatch.setattr(module, "_UNPACKED", 10**6)
    write_shard(tmp_path / "s.tar", [("0.png", contents[0]), ("zeros.txt", bytes(10**7)), ("2.png", contents[2])])
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").unlink()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole))
    write_shard(tmp_path / "c.tar", [("0.png", contents[0])])
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress((tmp_path / "c.tar").read_bytes() + bytes(2 * 10**7)))
    (tmp_path / "c.tar").unlink()
    found = dict(read(tmp_path))
    for name in ("a.tar.gz", "c.tar.gz"):
        assert "unpacks to more than" in found[name] and isinstance(found[f"{name}/0.png"], np.ndarray)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory(tmp_path, contents, kind):
    write_shard(tmp_path / "s.tar", [("0.png", contents[0])])
    whole = (tmp_path / "s.tar").read_bytes()
    long = tarfile.TarInfo("x")
    long.type, long.size = kind, 2**20 + 1
    (tmp_path / "s.tar").write_bytes(whole[: 512 + -(-len(contents[0]) // 512) * 512] + long.tobuf() + bytes(2**21))
    (_, image), (_, reason) = read(tmp_path)
    assert image.ndim == 3 and "a header of 1048577 bytes" in reason


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_shard_is_unpacked_once(tmp_path, contents, pack):
    """Formats that expand a million times, and gzip within gzip, are no shards."""
    write_shard(tmp_path / "s.tar", [("0.png", contents[0])])
    packed = pack((tmp_path / "s.tar").read_bytes())
    (tmp_path / "s.tar").unlink()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(packed))
    ((name, reason),) = read(tmp_path)
    assert name == "a.tar.gz" and "ends after 0 images" in reason


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


def flipped(content, where, count=4):
    return content[:where] + bytes(byte ^ 255 for byte in content[where : where + count]) + content[where + count :]


@pytest.mark.parametrize("where", ["footer", "page", "text"])
def test_a_damaged_table_is_one_row_and_stops_nothing(tmp_path, contents, where):
    """Bytes turned over: Arrow tells of most as an OSError, of text that is none when it is looked at."""
    paths = pa.table({"path": ["\u00fc" * 9] * 3})
    pq.write_table(paths, tmp_path / "a.parquet", use_dictionary=False, compression="none")
    pq.write_table(pa.table({"bytes": contents}), tmp_path / "b.parquet", row_group_size=5)
    whole = (tmp_path / "a.parquet").read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    no_text = whole.replace(b"\xc3\xbc", b"\xc3\xc3")
    changed = {"footer": flipped(whole, footer), "page": flipped(whole, 4), "text": no_text}
    (tmp_path / "a.parquet").write_bytes(changed[where])
    with pytest.raises((OSError, UnicodeDecodeError)):  # no ArrowException, as one would think
        pq.read_table(tmp_path / "a.parquet").to_pylist()
    (name, reason), *others = read(tmp_path)
    assert name == "a.parquet" and "from row 0 on" in reason and "\n" not in reason
    check(others, [f"b.parquet#{row}" for row in range(10)], contents)


def test_what_the_planner_could_not_read_is_read_whole_if_it_can_be_read_now(tmp_path, contents):
    pq.write_table(pa.table({"bytes": contents}), tmp_path / "a.parquet", row_group_size=3)
    piece = Piece(0, "Parquet files", ("a.parquet",), images=1)
    assert [name for name, _ in images(Folder(str(tmp_path)), piece)] == [f"a.parquet#{row}" for row in range(10)]


@pytest.mark.parametrize("end", [".tar", ".tar.gz"])
def test_shards(tmp_path, contents, end):
    members = [(f"{number}.png", content) for number, content in enumerate(contents)]
    members = [*members[:4], ("4.json", b"{}"), *members[4:]]
    write_shard(tmp_path / f"s{end}", members, "w:gz" if end.endswith("gz") else "w")
    check(read(tmp_path), [f"s{end}/{number}.png" for number in range(10)], contents)


@pytest.mark.parametrize("end", [".tar", ".tar.gz"])
def test_zeros_behind_the_end_of_a_shard(tmp_path, contents, end):
    """As programs that write in large records leave them."""
    write_shard(tmp_path / "s.tar", [("0.png", contents[0])])
    whole = (tmp_path / "s.tar").read_bytes() + bytes(10**6)
    (tmp_path / "s.tar").unlink()
    (tmp_path / f"s{end}").write_bytes(gzip.compress(whole) if end.endswith("gz") else whole)
    check(read(tmp_path), [f"s{end}/0.png"], contents)


def test_links_in_a_shard_are_named(tmp_path, contents):
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        for name, kind in (("0.png", tarfile.REGTYPE), ("hard.png", tarfile.LNKTYPE), ("soft.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "" if kind == tarfile.REGTYPE else "0.png"
            info.size = len(contents[0]) if kind == tarfile.REGTYPE else 0
            shard.addfile(info, io.BytesIO(contents[0]) if info.size else None)
    (_, image), *links = read(tmp_path)
    assert np.array_equal(image, decode_image(contents[0], ""))
    assert [name for name, _ in links] == ["s.tar/hard.png", "s.tar/soft.png"]
    assert all("is a link to '0.png' in its archive; put the file itself there" in str(found) for _, found in links)


def test_names_in_shards_that_are_not_utf_8(tmp_path, contents):
    """The row can be written, and names it."""
    write_shard(tmp_path / "s.tar", [(b"caf\xe9.png".decode("utf-8", "surrogateescape"), contents[0])])
    ((name, image),) = read(tmp_path)
    assert name == "s.tar/caf\\udce9.png" and np.array_equal(image, decode_image(contents[0], ""))
    assert len(encode([error_row(name, "why")], "m", "s", [])) > 0


def test_zipped_shards_are_checked_and_read_to_their_end(tmp_path, contents):
    write_shard(tmp_path / "whole.tar", [(f"{number}.png", contents[number]) for number in range(3)])
    whole = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole[:5000]) + gzip.compress(whole[5000:]))
    packed = gzip.compress(whole, 0)
    (tmp_path / "b.tar.gz").write_bytes(flipped(packed, packed.index(b"2.png") + 700))  # in an image; gzip has a sum
    (tmp_path / "c.tar.gz").write_bytes(packed[:9])
    check(read(tmp_path / "a.tar.gz"), [f"a.tar.gz/{number}.png" for number in range(3)], contents)
    *_, (name, reason) = read(tmp_path / "b.tar.gz")
    assert name == "b.tar.gz" and "CRC check failed" in reason
    ((name, reason),) = read(tmp_path / "c.tar.gz")
    assert name == "c.tar.gz" and "ends after 0 images" in reason


@pytest.mark.parametrize("where", ["data", "header", "end", "hole", "boundary", "empty"])
def test_a_damaged_shard_keeps_what_came_before(tmp_path, contents, where):
    path = tmp_path / "s.tar"
    write_shard(path, [(f"{number}.png", contents[number]) for number in range(3)])
    whole = path.read_bytes()
    first = 512 + -(-len(contents[0]) // 512) * 512
    cut = {
        "data": whole[: first + 700], "header": whole[: first + 100], "boundary": whole[:first], "empty": b"",
        "end": whole[:first] + b"\x07" * 512 + whole[first + 512 :],
        "hole": whole[:first] + b"\0" * 512 + whole[first + 512 :],
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


def test_paths_of_a_store_with_spaces(s3, contents, tmp_path):
    with s3.open_output_stream("bucket/my folder/a b.png") as file:
        file.write(contents[0])
    paths = ["s3://bucket/my folder/a b.png", "s3://bucket/my folder/", "s3://bucket"]
    pq.write_table(pa.table({"path": paths}), tmp_path / "a.parquet")
    (_, image), (_, folder), (_, bucket) = read(tmp_path, anywhere=True)
    assert np.array_equal(image, decode_image(contents[0], "")) and isinstance(folder, str) and isinstance(bucket, str)
    assert [name for name, _ in read("s3://bucket/my folder/*.png")] == ["a b.png"]


def test_tables_and_shards_of_a_store(s3, flaky, contents, tmp_path):
    """As on a disk, though the store fails now and then; one that never answers is no damage."""
    pq.write_table(pa.table({"bytes": contents}), tmp_path / "a.parquet", row_group_size=3)
    write_shard(tmp_path / "s.tar", [(f"{number}.png", content) for number, content in enumerate(contents)])
    (tmp_path / "d.parquet").write_bytes(flipped((tmp_path / "a.parquet").read_bytes(), 4, 20))
    for name in ("a.parquet", "s.tar", "d.parquet"):
        with s3.open_output_stream(f"bucket/packed/{name}") as file:
            file.write((tmp_path / name).read_bytes())
    flaky.every = 3
    check(read("s3://bucket/packed/a.parquet"), [f"a.parquet#{row}" for row in range(10)], contents)
    check(read("s3://bucket/packed/s.tar"), [f"s.tar/{number}.png" for number in range(10)], contents)
    (name, reason), *_ = read("s3://bucket/packed/d.parquet")
    assert name == "d.parquet" and "from row 0 on" in reason and flaky.refused > 3
    planned = plan("s3://bucket/packed/a.parquet", 4)
    found = images(Folder(planned.folder), planned.pieces[0])
    flaky.every = 1
    with pytest.raises(storage.StorageError, match="503"):
        list(found)


def test_a_store_that_stops_in_the_middle_of_a_shard(s3, flaky, contents):
    """What came is yielded, and the rest is no damage."""
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w") as shard:
        for name, content in (("0.png", contents[0]), ("zeros.txt", bytes(2**24)), ("2.png", contents[2])):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    with s3.open_output_stream("bucket/long/s.tar") as file:
        file.write(stored.getvalue())
    planned = plan("s3://bucket/long", 4)
    found = images(Folder(planned.folder), planned.pieces[0])
    assert next(found)[0] == "s.tar/0.png"
    flaky.every = 1
    with pytest.raises(storage.StorageError, match="503"):
        next(found)
