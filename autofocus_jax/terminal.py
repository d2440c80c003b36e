"""What programs show: text as it is, whatever the names of files and categories hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.segment import Segment


def printable(text: str | os.PathLike, keep: str = "") -> str:
    """Return text in one line that any terminal shows: other characters are escaped, as \\x1b, but those to `keep`."""
    text = os.fspath(text)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    """A character as Python writes it; a surrogate that stands for a byte which is not UTF-8 as that byte."""
    return f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else one.encode("unicode_escape").decode()


class Terminal(Console):
    """A console that reads no markup in what it prints, and escapes control characters."""

    def __init__(self, width: int = 140, **options: Any):
        """width: columns where the output is no terminal."""
        super().__init__(markup=False, highlight=False, emoji=False, **options)
        if not self.is_terminal and "width" not in options:
            self.width = width

    def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
        """Yield segments as rich does, whose text any terminal shows."""
        for segment in super().render(*arguments, **options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, keep="\n"), segment.style)


def say(console: Console, text: object) -> None:
    """Print one line, of any length."""
    console.print(printable(str(text)), soft_wrap=True, markup=False, highlight=False, emoji=False)


def complain(program: str, error: object) -> None:
    """Print one line on stderr."""
    print(f"{program}: {printable(str(error))}", file=sys.stderr)
