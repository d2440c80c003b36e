"""The report of gpu.py: one state, written whole as JSON and as Markdown after every change."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax.files import write_bytes

WAITING = "not begun"


@dataclasses.dataclass
class Part:
    """One section of the report."""

    section: str
    title: str
    state: str = WAITING
    limit: float = 0.0  # seconds that it was given
    seconds: float = 0.0  # seconds that it took
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Report:
    """Everything that was measured."""

    command: str
    date: str  # UTC
    parts: list[Part]

    def write(self, folder: Path) -> None:
        """Replace gpu.json and gpu.md in a folder, each whole."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        write_bytes(folder / "gpu.json", text.encode())
        write_bytes(folder / "gpu.md", self.markdown().encode())

    def markdown(self) -> str:
        """Return the report as headings and tables."""
        device = next((row["value"] for part in self.parts for row in part.rows if row.get("what") == "device"), None)
        lines = [f"# {device or 'Device unknown'}, {self.date}", "", f"`{self.command}`", ""]
        for part in self.parts:
            lines += [
                f"## ({part.section}) {part.title}",
                "",
                f"{part.state}; {part.seconds:.0f} of {part.limit:.0f} s.",
            ]
            headings = list(dict.fromkeys(heading for row in part.rows for heading in row))
            if headings:
                lines += ["", f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
                lines += [f"| {' | '.join(cell(row.get(heading)) for heading in headings)} |" for row in part.rows]
            lines.append("")
        return "\n".join(lines)


def cell(value: Any) -> str:
    """Return a value as text, numbers with four digits."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
