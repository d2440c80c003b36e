"""Text for terminals: escaped, whatever the names of files and categories hold."""

from __future__ import annotations

import os


def printable(text: str | os.PathLike, keep: str = "") -> str:
    r"""Return text in one line that any terminal shows.

    Other characters are escaped, as \x1b, except those in `keep`.
    """
    text = os.fspath(text)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    """A character as Python writes it; a surrogate that stands for a byte which is not UTF-8 as that byte."""
    return f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else one.encode("unicode_escape").decode()
