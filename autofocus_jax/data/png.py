"""PNG files: which of them OpenCV may decode."""

from __future__ import annotations

import zlib


def is_plain(content: bytes) -> bool:
    """Return whether a file is a PNG of 8 bits, grey or RGB, without transparency, animation or a wrong checksum.

    OpenCV decodes faster than Pillow, but passes over damage, and takes another page of an animation.
    """
    if not content.startswith(b"\x89PNG") or content[24] != 8 or content[25] not in (0, 2):
        return False
    view, start = memoryview(content), 8
    while start + 12 <= len(content):
        end, kind = start + 8 + int.from_bytes(view[start : start + 4], "big"), content[start + 4 : start + 8]
        checksum = int.from_bytes(view[end : end + 4], "big")
        if kind in (b"acTL", b"tRNS") or end + 4 > len(content) or zlib.crc32(view[start + 4 : end]) != checksum:
            return False
        if kind == b"IEND":
            return True
        start = end + 4
    return False
