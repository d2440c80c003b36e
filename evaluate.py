"""Evaluates a detector: every scale alone, the full image pyramid and AutoFocus, with a table, metrics and panels."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autofocus_jax import evaluation, report
from autofocus_jax.checkpoint import load_variables
from autofocus_jax.config import Config, ConfigError, open_split
from autofocus_jax.config_file import command_line
from autofocus_jax.inference.compiled import compile_detector
from autofocus_jax.metrics.coco import coco_results
from autofocus_jax.structures import AutoFocusError, Dataset
from autofocus_jax.weights import safetensors


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str
    """config file: Python that defines get_config()"""
    checkpoint: str | None = None
    """a .safetensors file or a training's --workdir; default: the weights shipped for the config"""
    workdir: str | None = None
    """folder of the results; default: runs/NAME/evaluation with the config's name"""
    limit: int | None = None
    """evaluate the first so many images only"""
    split: str = "val"
    """which images of the data source"""
    panels: int = 6
    """how many images to draw panels of"""


def evaluate(arguments: Arguments, config: Config, console: Console) -> None:
    """Writes metrics.json and details.json after each row, then detections_autofocus.json and panels/."""
    variables = load_variables(_weights(arguments, config), config)
    dataset = open_split(config, arguments.split)
    indices = _indices(arguments, dataset)
    workdir = evaluation.make_folder(Path(arguments.workdir or f"runs/{config.name}/evaluation"))
    rows = evaluation.rows(config)
    metrics, details = {}, {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        detect = compile_detector(config, variables)
        compiling = progress.add_task("compile", total=len(config.buckets))
        detect.warm_up(lambda _: progress.advance(compiling))
        for row in rows:
            running = progress.add_task(row.name, total=len(indices))
            advance = lambda count, task=running: progress.advance(task, count)  # noqa: E731
            measured = evaluation.measure(config, row, detect, dataset, indices, advance)
            metrics[row.name] = evaluation.metrics(measured)
            details[row.name] = evaluation.details(measured)
            evaluation.write_json(workdir / "metrics.json", metrics)
            evaluation.write_json(workdir / "details.json", details)
    run = measured.run  # of the last row, autofocus
    results = coco_results(dataset, run.detections, run.indices)
    evaluation.write_json(workdir / f"detections_{rows[-1].name}.json", results)
    evaluation.write_panels(workdir / "panels", config, rows[-1], detect, dataset, run.indices, arguments.panels)

    title = f"{config.name}, {arguments.split}, {len(run.indices)} images"
    console.print(report.table(metrics, title))
    console.print(report.comparison(metrics), soft_wrap=True)
    console.print(f"written: {workdir}/metrics.json, details.json, detections_autofocus.json, panels/", soft_wrap=True)
    if run.skipped:
        console.print(f"{len(run.skipped)} of {len(indices)} images could not be read and were skipped:")
        for skipped in run.skipped:
            console.print(f"  {skipped.file_name}: {skipped.reason}", soft_wrap=True, markup=False)


def _weights(arguments: Arguments, config: Config) -> str | Path:
    if arguments.checkpoint is not None:
        return arguments.checkpoint
    if config.weights is None:
        raise ConfigError(f"config {config.name!r} ships no weights; give --checkpoint")
    return safetensors.shipped(config.weights)


def _indices(arguments: Arguments, dataset: Dataset) -> range:
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit}; want at least 1 image")
    if arguments.panels < 0:
        raise ConfigError(f"--panels {arguments.panels}; want 0 or more")
    return range(min(len(dataset), arguments.limit or len(dataset)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code. What goes wrong for the user's reasons is one line on stderr."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    try:
        arguments, config = command_line(Arguments, sys.argv[1:] if argv is None else argv, "evaluate.py", __doc__)
        evaluate(arguments, config, console)
    except AutoFocusError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evaluate.py: interrupted; the rows that were finished are in metrics.json", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
