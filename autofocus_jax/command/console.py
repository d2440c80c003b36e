"""What every command prints with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment

from autofocus_jax.machine.terminal import printable

if TYPE_CHECKING:
    from rich.progress import Progress

_WIDTH = 140  # columns where the output is no terminal


class Screen(Console):
    """A console with plain lines and one kind of progress bar; it reads no markup and escapes control characters."""

    def __init__(self, **options: Any):
        """options: of rich's Console."""
        super().__init__(**{"markup": False, "highlight": False, "emoji": False, **options})

    def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
        """Yield segments as rich does, whose text any terminal shows."""
        for segment in super().render(*arguments, **options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, keep="\n"), segment.style)

    @classmethod
    def standard(cls) -> Screen:
        """Return the screen of a program's output, wide enough for tables where that is a file."""
        screen = cls()
        return screen if screen.is_terminal else cls(width=_WIDTH)

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line, of any length."""
        self.print(printable(text), style=style, soft_wrap=True)

    def progress(self, **options: Any) -> Progress:
        """Return bars with counts and the time that is left, for a `with` block; they are shown on a terminal only.

        Each task may have a `text`, which is shown behind its bar.
        """
        from rich import progress  # takes longer to import than --help may take

        class Bars(progress.Progress):
            def add_task(self, description: str, **fields: Any) -> progress.TaskID:  # type: ignore[override]
                return super().add_task(description, **{"text": "", **fields})

        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=20), progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(), progress.TextColumn("{task.fields[text]}"),
        )  # fmt: skip
        return Bars(*columns, console=self, transient=True, disable=not self.is_terminal, **options)
