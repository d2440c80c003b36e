"""`autofocus suggest`: scales, valid ranges, chips and buckets for a data set, and whether the method can help it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

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
from autofocus_jax.config import ConfigError, DataSource, DetectorConfig
from autofocus_jax.data.findings import Findings, listen
from autofocus_jax.files import whole_file, write_text
from autofocus_jax.planning.candidates import Needs, Sizes, sizes
from autofocus_jax.planning.suggestion import Choice, Suggestion, finished, frontier, given_up, tried, within
from autofocus_jax.structures import STRIDE


class Network(NamedTuple):
    """A network that configs are written for."""

    detector: Callable[[int, int], DetectorConfig]  # of (number of classes, side of a training chip)
    needs: Needs


# The small one lost nothing with 160 px of context on photographs of streets from above (docs/choosing_scales.md).
_NETWORKS = {"small": Network(small_detector, Needs(256, 30.0, 160)), "paper": Network(paper_detector, Needs())}


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
    if arguments.sample < 1:
        raise ConfigError(f"--sample {arguments.sample}; want at least 1 image")
    if arguments.detector not in _NETWORKS:
        return suggest_for(_tried(arguments), console)
    found = Findings()
    listen(found)
    needs = _needs(arguments)
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
        task = progress.add_task("plans", total=None)
        advance = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
        found_for = tried(dataset, needs, advance)
        choices = frontier(found_for)
        chosen = next(choice for choice in found_for if choice.needs == needs)
        chosen = chosen if arguments.pixels is None else within(choices, arguments.pixels)
        progress.reset(task, description="chips")
        suggestion = finished(dataset, given, chosen, arguments.sample, advance)
    most = max(len(dataset.ground_truth(index).labels) for index in range(len(dataset)))
    name = re.sub(r"\W", "_", opened.name)
    network = _NETWORKS[arguments.detector].detector(len(dataset.categories), needs.chip)
    text = config_text(suggestion, name, _absolute(opened.source), network, len(dataset), most)
    output = Path(arguments.output)
    write_text(output / f"{name}.py", text)
    with whole_file(output / f"{name}.png") as path:
        plot(given, suggestion, f"{name}: {len(given.images)} images, {len(given.objects)} objects", path)
    _report(suggestion, given, console)
    _show_frontier(choices, chosen, given, console)
    for line in found.lines():
        console.say(line)
    console.say(f"written: {output}/{name}.py, {output}/{name}.png")
    return 0


def _needs(arguments: Arguments) -> Needs:
    """Return the needs of the network, in proportion to the training chip unless given."""
    if arguments.pixels is not None and arguments.seen is not None:
        raise ConfigError("--pixels and --seen both choose the plan; give one of them")
    usual = _NETWORKS[arguments.detector].needs
    chip = usual.chip if arguments.chip is None else arguments.chip
    seen = usual.seen * chip / usual.chip if arguments.seen is None else arguments.seen
    context = round(usual.context * chip / usual.chip) if arguments.context is None else arguments.context
    return Needs(chip, seen, context, arguments.longest)


def _absolute(source: DataSource) -> DataSource:
    """The source with its folder as a whole path, so that the config loads from any folder."""
    root = getattr(source, "root", None)
    if root is None:
        return source
    return dataclasses.replace(cast(Any, source), root=str(Path(root).expanduser().absolute()))


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
    """Write a picture of the sizes of the objects and of the scale that answers for each size."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    top = float(given.objects.max())
    edges = [2 ** (step / 4) for step in range(4, 60) if 2 ** ((step - 1) / 4) <= top]
    axes.hist(given.objects.clip(edges[0]), bins=edges, color="0.7")
    height = axes.get_ylim()[1]
    for number, scale in enumerate(suggestion.scales, 1):
        level = height * (1 + 0.08 * number)
        if scale.leads:
            axes.annotate(f"scale {number}: {scale.min_side} x {scale.max_side}, leads only", (edges[0], level), (0, 4),
                          textcoords="offset points", va="bottom", fontsize=8)  # fmt: skip
            continue
        low, high = max(scale.valid.low, edges[0]), min(scale.valid.high, edges[-1])
        axes.plot([low, high], [level, level], linewidth=5, solid_capstyle="butt")
        axes.annotate(f"scale {number}: {scale.min_side} x {scale.max_side}", ((low * high) ** 0.5, level), (0, 4),
                      textcoords="offset points", ha="center", va="bottom", fontsize=8)  # fmt: skip
    axes.set_ylim(0, height * (1.15 + 0.08 * len(suggestion.scales)))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("size of the object: sqrt(box area), image px")
    axes.set_ylabel("objects")
    saving = suggestion.forecast.factor
    axes.set_title(f"{title}\nat best {saving:.1f} times fewer pixels than the whole pyramid", fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _report(suggestion: Suggestion, given: Sizes, console: Screen) -> None:
    """Print the scales with reasons."""
    table = Table(title=f"{len(given.images)} images, {len(given.objects)} objects", box=box.SIMPLE_HEAD,
                  title_justify="left", pad_edge=False)  # fmt: skip
    for heading in ("", "sides", "valid range", "t, d, k", "objects", "at best, of the level"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    saving = suggestion.forecast
    for number, scale in enumerate(suggestion.scales, 1):
        inside = scale.valid.holds(given.objects).mean()
        valid = "leads only" if scale.leads else f"{scale.valid.low:g} to {scale.valid.high:g} px"
        rule = scale.chips and f"{scale.chips.threshold:g}, {scale.chips.dilation}, {scale.chips.min_size}"
        share = saving.pixels[number - 1] / saving.full_pixels[number - 1]
        table.add_row(f"scale {number}", f"{scale.min_side} x {scale.max_side}",
                      valid, rule or "-", f"{inside:.0%}", f"{share:.0%}")  # fmt: skip
    console.print(table)
    console.say(suggestion.verdict)
    for reason in suggestion.reasons:
        console.say(f"- {reason}")


def _show_frontier(choices: Sequence[Choice], chosen: Choice, given: Sizes, console: Screen) -> None:
    """Print pixels against the size from which objects are seen, and what each choice gives up."""
    table = Table(title="other choices, with perfect focus maps", box=box.SIMPLE_HEAD, title_justify="left",
                  pad_edge=False)  # fmt: skip
    for heading in ("--seen", "smallest tenth at most", "scales", "side", "times fewer", "shown uncut"):
        table.add_column(heading, justify="left" if heading == "scales" else "right", no_wrap=True)
    for choice in choices:
        sides = ", ".join(f"{s.max_side}{' (leads)' if s.leads else ''}" for s in choice.candidate.plan.scales)
        seen = f"{'* ' if choice.needs == chosen.needs else ''}{choice.needs.seen:g}"
        table.add_row(seen, f"{given.smallest * choice.candidate.factors[-1]:.0f} px", sides,
                      f"{choice.forecast.side:.0f}²", f"{choice.forecast.factor:.1f}",
                      f"{choice.forecast.reached:.0%}")  # fmt: skip
    console.print(table)
    for line in given_up(choices):
        console.say(f"- {line}")
