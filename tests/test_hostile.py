"""Small files that ask for much: each is read in a process with little memory, and ends soon in what is decided."""

import gzip
import io
import json
import pickle
import re
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from tests import readers

MEMORY, SECONDS = 10**9, 5  # that one file may take, of the address space and of a core's time
SIDE = 32000


def gif():
    screen = struct.pack("<HHBBB", SIDE, SIDE, 0x80, 0, 0)
    return b"GIF89a" + screen + b"\0\0\0\xff\xff\xff," + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\2\1\x2c\0;"


def bmp():
    head = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, 2, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1080, 0, 0, 1078) + head + bytes(1024) + b"\0\1"


def png(bits, kind):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, row = zlib.compressobj(1), bytes(1 + SIDE * bits // 8)
    data = b"".join(packer.compress(row) for _ in range(SIDE // 50)) + packer.flush()  # the decoder never comes so far
    palette = chunk(b"PLTE", bytes(6)) if kind == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg():
    content = bytearray(readers.JPEG)
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 60000, 60000)
    return bytes(content)


def webp():
    return b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(20)


def tiff():
    entries = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
               (277, 3, 1, 1), (278, 4, 1, SIDE), (279, 4, 1, 10)]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4)


def tiff_of_two_widths():
    """The first of two entries of one tag is the one that decoders take."""
    entries = [(256, 4, 1, 60), (257, 4, 1, 40), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 134),
               (256, 4, 1, 40), (277, 3, 1, 1), (278, 4, 1, 40), (279, 4, 1, 2400)]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4 + 2400)


def sparse(size):
    """Between two good pictures, a member that stands for `size` bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.png", "huge.png", "z.png"):
            info, content = tarfile.TarInfo(name), readers.PNG
            if name == "huge.png":
                info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(size),
                                    "GNU.sparse.name": name}  # fmt: skip
                content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def tensor(shape, strides, memo=b""):
    """A file of PyTorch's old form whose one tensor has a single number."""
    ask = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0kX\3\0\0\0cpuK\1tQ"
    numbers = b"".join(b"\x8a\x08" + struct.pack("<q", number) for number in shape)
    steps = b"".join(b"\x8a\x08" + struct.pack("<q", number) for number in strides)
    call = b"\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n("
    content = call + ask + b"K\0(" + numbers + b"t(" + steps + b"ttR"
    heads = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*heads, content, memo, b"s.", pickle.dumps(["k"], 2), struct.pack("<qf", 1, 1.0)])


def packed_tensors():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", bytes(10**8))
    return file.getvalue()


def long_length():
    """A table of settings whose first entry says that it is longer than any number of C."""
    content = b"9" * 40 + b" path=a.png\n"
    info = tarfile.TarInfo("settings")
    info.size, info.type = len(content), tarfile.XHDTYPE
    return info.tobuf(tarfile.USTAR_FORMAT) + content.ljust(512, b"\0") + bytes(1024)


def equal_names():
    count, array = 60000, struct.pack("<IiIqiiif", 0xF993FAC9, 0, 1, 1, 1, 0, 0, 0.0)
    names = b"".join(struct.pack("<Q", 1) + b"x" for _ in range(count))
    return struct.pack("<3Q", 0x112, 0, count) + array * count + struct.pack("<Q", count) + names


def side_of_zero():
    shape = struct.pack("<Iii2q", 0xF993FAC9, 0, 2, 0, 2**62)
    return struct.pack("<3Q", 0x112, 0, 1) + shape + struct.pack("<iii2Q", 1, 0, 0, 1, 1) + b"x"


def member_of_bytes():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("boxes.npy", b"no array")
    return file.getvalue()


def aliases():
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)]
    return ("a0: &a0 [x, x]\n" + "".join(lines)).encode()


def entities():
    lines = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12)]
    return ('<!DOCTYPE x [<!ENTITY e0 "lol">' + "".join(lines) + "]><annotation>&e11;</annotation>").encode()


def header(length):
    return struct.pack("<Q", length) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'


ABOVE = r"above the limit of \d+ pixels"
# name -> (reader, content or what makes it, how it ends)
CASES = {
    "GIF": ("picture .gif", gif, ABOVE),
    "BMP, packed": ("picture .bmp", bmp, ABOVE),
    "PNG, 1 bit": ("picture .png", lambda: png(1, 0), ABOVE),
    "PNG, palette": ("picture .png", lambda: png(8, 3), ABOVE),
    "JPEG": ("picture .jpg", jpeg, ABOVE),
    "WebP": ("picture .webp", webp, ABOVE),
    "TIFF": ("picture .tif", tiff, ABOVE),
    "TIFF, two widths": ("picture .tif", tiff_of_two_widths, "reads"),
    "PNM": ("picture .ppm", lambda: b"P4 60000 60000\n" + bytes(99), ABOVE),
    "COCO's picture": ("COCO's picture", gif, "'image files that cannot be read': 1"),
    "JSON, deep": ("COCO", lambda: b"[" * 10**6, "not JSON"),
    "JSON, packed": ("COCO, packed", lambda: gzip.compress(b'{"images": [' + b" " * 10**8), "not JSON"),
    "XML, entities": ("VOC", entities, "'files of annotations that cannot be read': 1"),
    "XML, deep": ("VOC", lambda: b"<a>" * 200000, "'files of annotations that cannot be read': 1"),
    "YAML, aliases": ("YOLO's data.yaml", aliases, "aliases stand for more than"),
    "YAML, deep": ("YOLO's data.yaml", lambda: b"[" * 10**5, "is not YAML"),
    "a path of data.yaml, long": ("YOLO's data.yaml", lambda: b"names: [cat]\ntrain: " + b"x" * 5000, "is no folder"),
    "a path of data.yaml, a stranger's": ("YOLO's data.yaml", lambda: b"names: [cat]\npath: ~nobody-here\ntrain: x\n",
                                          "is no folder"),
    "a list, long": ("YOLO's list", lambda: b"x" * 5000, "not one of the 1 images"),
    "a list, NUL": ("YOLO's list", lambda: b"a\0.png\nimages/train/a.png\n", "cannot be read|not there"),
    "a list, roots": ("YOLO's list", lambda: b"/\n..\n.\n", "not one of the 3 images"),
    "names, an infinite id": ("names, COCO", lambda: readers.COCO.replace(b'"id": 7', b'"id": 1e999'),
                              "no COCO categories"),
    "names, an id twice": ("names, COCO", lambda: readers.COCO.replace(b'"id": 7', b'"id": 1'), "no COCO categories"),
    "an archive, no array": ("proposals", member_of_bytes, "damaged, or no archive of NumPy"),
    "a name, NUL": ("COCO", lambda: readers.COCO.replace(b"b.png", b"b\\u0000.png"), "missing': 1"),
    "a name, long": ("COCO", lambda: readers.COCO.replace(b"b.png", b"b" * 5000), "missing': 1"),
    "VOC, no number": ("VOC", lambda: readers.XML.replace(b"40", b"nan"), "reads"),
    "labels of one line": ("YOLO's labels", lambda: b"0 " + b"9" * 10**7, "four finite numbers"),
    "weights, long header": ("weights", lambda: header(2**62), "damaged or no safetensors"),
    "PyTorch, one number": ("PyTorch's weights", lambda: tensor([1], [1]), "reads"),
    "PyTorch, repeated": ("PyTorch's weights", lambda: tensor([10**9], [0]), "tensors of 1000000000 values"),
    "PyTorch, a memo": ("PyTorch's weights", lambda: tensor([1], [1], b"r\xff\xff\xff\x7f"), "reads"),
    "PyTorch, packed": ("PyTorch's weights", packed_tensors, "is packed"),
    "MXNet, equal names": ("MXNet's weights", equal_names, "name"),
    "MXNet, a side of 0": ("MXNet's weights", side_of_zero, "truncated or damaged"),
    "MXNet, many arrays": ("MXNet's weights", lambda: struct.pack("<3Q", 0x112, 0, 2**62), "truncated or damaged"),
    "a shard of 10^18 bytes": ("a shard", lambda: sparse(10**18), "1000000000000000000 bytes"),
    "a shard of 20 GB": ("a shard", lambda: sparse(2 * 10**10), "20000000000 bytes"),
    "a shard, a long length": ("a shard", long_length, "ends after 0 images"),
    "a config, deep": ("a training's config", lambda: b"[" * 10**6, "is damaged"),
    "a plan, deep": ("a plan", lambda: b"[" * 10**6, "is not JSON"),
}  # fmt: skip


def child():
    """Read all of them; print what each came to, the seconds and the bytes."""
    from tests.fuzz import peak
    from tests.test_bad_files import end

    with tempfile.TemporaryDirectory() as scratch:
        known = readers.readers(Path(scratch))
        known["a training's config"].read(Path(scratch))  # imports what it needs
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY,) * 2)
        ends = {}
        for number, (name, (reader, content, _)) in enumerate(CASES.items()):
            folder = Path(scratch) / str(number)
            known[reader].put(folder, content())
            before, begun = peak(), time.process_time()
            said = end(known[reader], folder)
            ends[name] = said, time.process_time() - begun, peak() - before
    print(json.dumps(ends))


@pytest.fixture(scope="module")
def ends():
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here, which says how much memory is used")
    code = "from tests.test_hostile import child; child()"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_ends_soon_and_takes_little(name, ends):
    said, seconds, memory = ends[name]
    assert re.search(CASES[name][2], said), said
    assert seconds < SECONDS and memory < MEMORY
