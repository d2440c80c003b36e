"""A picture of a training from its log: loss and validations against steps."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autofocus_jax import files
from autofocus_jax.training import log

PICTURE = "curves.png"  # in the workdir
_SCORES = ("AP", "AP50")


def draw(workdir: str | os.PathLike) -> Path | None:
    """Write curves.png of a training folder and return its path, or None if nothing was logged yet.

    Raises:
        WriteError: the file cannot be written.
    """
    entries = log.read(workdir)
    losses = [(entry["step"], entry["loss"]) for entry in entries if entry.get("loss") is not None]
    if not losses:
        return None
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*losses), color="0.4", label="loss, mean since the last entry")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    scores = {name: [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
              for name in _SCORES}  # fmt: skip
    if any(scores.values()):
        beside = axes.twinx()
        for name, marker, points in zip(_SCORES, "os", scores.values()):
            beside.plot(*zip(*points), marker=marker, label=f"{name} of the validation")
        beside.set(ylabel="points", ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=3)
    FigureCanvasAgg(figure)
    path = Path(workdir) / PICTURE
    with files.whole_file(path) as draft:
        figure.savefig(draft)
    return path
