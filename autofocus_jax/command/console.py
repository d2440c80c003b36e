"""What every command prints with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

_WIDTH = 140  # columns where the output is no terminal


class Screen(Console):
    """A console with plain lines and one kind of progress bar."""

    @classmethod
    def standard(cls) -> Screen:
        """Return the screen of a program's output, wide enough for tables where that is a file."""
        screen = cls()
        return screen if screen.is_terminal else cls(width=_WIDTH)

    def say(self, text: str, style: str | None = None) -> None:
        """Print text as it is: not wrapped, no part of it coloured or taken for markup."""
        self.print(text, style=style, soft_wrap=True, markup=False, highlight=False)

    def progress(self, **options: Any) -> Progress:
        """Return bars with counts and the time that is left, for a `with` block; they are shown on a terminal only.

        Each task may have a `text`, which is shown behind its bar.
        """
        from rich import progress  # takes longer to import than --help may take

        class Bars(progress.Progress):
            def add_task(self, description: str, **fields: Any) -> progress.TaskID:
                return super().add_task(description, **{"text": "", **fields})

        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=20), progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(), progress.TextColumn("{task.fields[text]}"),
        )  # fmt: skip
        return Bars(*columns, console=self, transient=True, disable=not self.is_terminal, **options)
