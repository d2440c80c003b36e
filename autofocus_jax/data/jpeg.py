"""JPEG files: detection of damage, and their pixels.

libjpeg fills undecodable parts with grey or garbage and continues. Its warnings prove the damage.
"""

from __future__ import annotations

import re

import numpy as np

SIGNATURE = b"\xff\xd8"
CUT = "is cut off after {} bytes, so it cannot be decoded whole; copy it again or remove it"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends the compressed data of a scan
_ZEROS = bytes(64)
# A warning that leaves the pixels as they are: some cameras write a few bytes too many before the end.
_HARMLESS = re.compile(r"Corrupt JPEG data: \d{1,2} extraneous bytes before marker 0xd9")


def problem(content: bytes) -> str | None:
    """Return what is missing from a JPEG file, in words that follow its name, or None if no fault is known.

    The end of the image need not be the end of the file: phones append videos and other pictures.
    """
    position, zeros_tell = 2, False
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return None  # a marker should be here: the decoder says what is damaged
        marker = content[position + 1]
        if marker == 0xD9:
            break
        if marker == 0xFF:  # a filling byte
            position += 1
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if marker in (0xC0, 0xC1):  # not progressive, where a scan may be of zeros
            zeros_tell = True
        if marker == 0xC4 and _zeros_end_blocks(content[position + 4 : position + 2 + length]):
            zeros_tell = False
        position += 2 + length
        if marker == 0xDA:
            zeros = content.find(_ZEROS, position) if zeros_tell else -1
            if content.endswith(b"\xff\xd9") and zeros < 0:
                return None
            found = _MARKER.search(content, position)
            end = found.start() if found else len(content)
            if position <= zeros < end:
                return f"is damaged: zeros lie in its compressed data, at byte {zeros}; copy it again or remove it"
            position = end
    if content[position : position + 2] == b"\xff\xd9":
        return None
    return CUT.format(len(content))


def _zeros_end_blocks(tables: bytes) -> bool:
    """Return True if zeros may be good data: the code of zeros ends a block, in the first table of AC coefficients.

    With another table, zeros are coefficients of -1 throughout, which no encoder writes for long.
    """
    while len(tables) >= 17:
        if tables[0] == 0x10 and tables[17:18] == b"\0":
            return True
        tables = tables[17 + sum(tables[1:17]) :]
    return False


def decode(content: bytes) -> np.ndarray | None:
    """Return uint8 RGB [h, w, 3] of a JPEG file of RGB, YCbCr or grey; None for a kind that TurboJPEG lacks.

    Raises ValueError, with libjpeg's words, for a file that is damaged.
    """
    import simplejpeg  # configs name data sources, and who only reads a config does without

    try:
        return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError as error:
        if _HARMLESS.search(str(error)):
            return simplejpeg.decode_jpeg(content, "RGB", strict=False)
        if re.search("corrupt|premature", str(error), re.I):
            raise
        return None
