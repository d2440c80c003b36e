"""`autofocus suggest`: scales, valid ranges, chips and buckets for a data set, and whether the method can help it."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from rich import box
from rich.table import Table

from autofocus_jax.command.annotations import open_annotations
from autofocus_jax.command.config_text import config_text, paper_detector, small_detector
from autofocus_jax.command.console import Screen
from autofocus_jax.command.options.suggest import Arguments
from autofocus_jax.command.suggest_detector import Tried, suggest_for
from autofocus_jax.config import ConfigError
from autofocus_jax.data.findings import Findings, listen
from autofocus_jax.files import whole_file, write_text
from autofocus_jax.planning.suggestion import Sizes, Suggestion, sizes, suggest
from autofocus_jax.structures import STRIDE

_NETWORKS = {"small": small_detector, "paper": paper_detector}


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    if arguments.sample < 1:
        raise ConfigError(f"--sample {arguments.sample}; want at least 1 image")
    if arguments.detector not in _NETWORKS:
        return suggest_for(_tried(arguments), console)
    found = Findings()
    listen(found)
    opened = open_annotations(arguments.annotations, arguments.split, found)
    found.extend(opened.dataset.noticed)
    dataset = opened.dataset
    given = sizes(dataset)
    if not len(given.objects):
        raise ConfigError(f"none of {len(given.images)} images has an object; there are no sizes to go by"
                          f"{found.reasons()}")  # fmt: skip
    if given.objects.max() < 2:
        raise ConfigError(f"the largest object has {given.objects.max():.2g} px (sqrt of its area); boxes want pixels, "
                          f"so are these shares of the images' sides, or points?{found.reasons()}")  # fmt: skip
    with console.progress() as progress:
        task = progress.add_task("chips", total=None)
        advance = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
        suggestion = suggest(dataset, arguments.chip, arguments.longest, arguments.sample, progress=advance)
    most = max(len(dataset.ground_truth(index).labels) for index in range(len(dataset)))
    name = re.sub(r"\W", "_", opened.name)
    network = _NETWORKS[arguments.detector](len(dataset.categories), arguments.chip)
    text = config_text(suggestion, name, opened.source, network, len(dataset), most)
    output = Path(arguments.output)
    write_text(output / f"{name}.py", text)
    with whole_file(output / f"{name}.png") as path:
        plot(given, suggestion, f"{name}: {len(given.images)} images, {len(given.objects)} objects", path)
    _report(suggestion, given, console)
    for line in found.lines():
        console.say(line)
    console.say(f"written: {output}/{name}.py, {output}/{name}.png")
    return 0


def _tried(arguments: Arguments) -> Tried:
    if not arguments.detector.endswith(".onnx"):
        raise ConfigError(f"--detector {arguments.detector!r}; want small, paper or an .onnx file")
    if arguments.photographs < 1:
        raise ConfigError(f"--photographs must be at least 1, got {arguments.photographs}")
    if arguments.side is not None and arguments.side < STRIDE:
        raise ConfigError(f"--side must be at least {STRIDE}, got {arguments.side}")
    return Tried(arguments.annotations, arguments.detector, arguments.options, arguments.photographs, arguments.side,
                 Path(arguments.output))  # fmt: skip


def plot(given: Sizes, suggestion: Suggestion, title: str, path: Path) -> None:
    """Writes a picture: how many objects have which size, and which scale answers for it."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    top = float(given.objects.max())
    edges = [2 ** (step / 4) for step in range(4, 60) if 2 ** ((step - 1) / 4) <= top]
    axes.hist(given.objects.clip(edges[0]), bins=edges, color="0.7")
    height = axes.get_ylim()[1]
    for number, scale in enumerate(suggestion.scales, 1):
        low, high = max(scale.valid.low, edges[0]), min(scale.valid.high, edges[-1])
        level = height * (1 + 0.08 * number)
        axes.plot([low, high], [level, level], linewidth=5, solid_capstyle="butt")
        axes.annotate(f"scale {number}: {scale.min_side} x {scale.max_side}", ((low * high) ** 0.5, level), (0, 4),
                      textcoords="offset points", ha="center", va="bottom", fontsize=8)  # fmt: skip
    axes.set_ylim(0, height * (1.15 + 0.08 * len(suggestion.scales)))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("size of the object: sqrt(box area), image px")
    axes.set_ylabel("objects")
    saving = suggestion.saving.factor
    axes.set_title(f"{title}\nat best {saving:.1f} times fewer pixels than the whole pyramid", fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _report(suggestion: Suggestion, given: Sizes, console: Screen) -> None:
    """Prints the scales and why they are what they are."""
    table = Table(title=f"{len(given.images)} images, {len(given.objects)} objects", box=box.SIMPLE_HEAD,
                  title_justify="left", pad_edge=False)  # fmt: skip
    for heading in ("", "sides", "valid range", "chip rule", "objects in range", "at best, of the level"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    saving = suggestion.saving
    for number, scale in enumerate(suggestion.scales, 1):
        inside = ((given.objects >= scale.valid.low) & (given.objects <= scale.valid.high)).mean()
        rule = scale.chips and f"{scale.chips.threshold:g}, {scale.chips.dilation}, {scale.chips.min_size}"
        share = saving.pixels[number - 1] / saving.full_pixels[number - 1]
        table.add_row(f"scale {number}", f"{scale.min_side} x {scale.max_side}",
                      f"{scale.valid.low:g} to {scale.valid.high:g} px", rule or "-", f"{inside:.0%}",
                      f"{share:.0%}")  # fmt: skip
    console.print(table)
    console.say(suggestion.verdict)
    for reason in suggestion.reasons:
        console.say(f"- {reason}")
