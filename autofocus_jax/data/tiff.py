"""Tags of TIFF files and of EXIF blocks, which are small TIFF files."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from typing import BinaryIO

WIDTH, HEIGHT, BITS, ORIENTATION, SAMPLES, EXTRA_SAMPLES, FORMAT = 256, 257, 258, 274, 277, 338, 339
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of values that are whole numbers
_MOST = 4096  # entries of a directory that are looked at


def tags(file: BinaryIO, wanted: Collection[int]) -> dict[int, int]:
    """Return the first value of each wanted tag of the first directory; damaged or missing ones are left out."""
    found: dict[int, int] = {}
    try:
        file.seek(0)
        head = file.read(16)
        if head[:4] not in SIGNATURES:
            return found
        order, large = "<" if head.startswith(b"I") else ">", head[2:4].strip(b"\0") == b"+"
        count, entry, place = ("Q", "HHQ8s", "Q") if large else ("H", "HHI4s", "I")
        (start,) = struct.unpack_from(f"{order}{place}", head, 8 if large else 4)
        file.seek(start)
        (entries,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(f"{order}{count}")))
        size = struct.calcsize(f"{order}{entry}")
        directory = file.read(size * min(entries, _MOST))
        for number in range(len(directory) // size):
            tag, kind, length, data = struct.unpack_from(f"{order}{entry}", directory, size * number)
            if tag not in wanted or tag in found or kind not in _TYPES or not length:
                continue  # of tags that come twice, decoders take the first too
            one = f"{order}{_TYPES[kind]}"
            if struct.calcsize(one) * length > len(data):
                file.seek(struct.unpack(f"{order}{place}", data)[0])
                data = file.read(struct.calcsize(one))
            found[tag] = struct.unpack_from(one, data)[0]
    except (struct.error, ValueError, OverflowError, OSError):
        pass
    return found


def orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block; 1 where it says none."""
    value = tags(io.BytesIO(exif.removeprefix(b"Exif\0\0")), (ORIENTATION,)).get(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1
