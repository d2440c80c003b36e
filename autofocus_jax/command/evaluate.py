"""Evaluates a detector: every scale alone, the full image pyramid and AutoFocus, with a table, metrics and panels."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autofocus_jax import files, parallel
from autofocus_jax.command import outlook, thresholds
from autofocus_jax.command.foreign_config import ForeignConfig, SettledConfig, settled
from autofocus_jax.command.panels import write_panels
from autofocus_jax.command.trained import Trained, load_trained
from autofocus_jax.config import Config, ConfigError, open_split
from autofocus_jax.config_file import command_line, detection_settings
from autofocus_jax.focus.buckets import Buckets, for_images
from autofocus_jax.focus.cascade import Detect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.ledger import Ledger, data_identity
from autofocus_jax.metrics.coco import coco_results
from autofocus_jax.structures import AutoFocusError, Dataset


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str
    """config file: Python that defines get_config()"""
    checkpoint: str | None = None
    """a .safetensors file or a training's --workdir; default: the weights shipped for the config"""
    workdir: str | None = None
    """folder of the results; default: evaluation/ in the training's folder that --checkpoint names or lies in, else
    runs/NAME/evaluation with the config's name"""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW...", help_behavior_hint="(default: all)")] = ()
    """rows of the table to make, as scale3 pyramid autofocus; the others are left out"""
    limit: int | None = None
    """evaluate the first so many images only"""
    split: str = "val"
    """which images of the data source"""
    panels: int = 4
    """how many images to draw panels of"""
    resume: bool = False
    """go on with an interrupted evaluation of the same --workdir; finished images are not processed again"""
    pixels: float | None = None
    """choose the thresholds, on --tune-split, for so many pixels an image, given as the side of a square"""
    drop: float | None = None
    """choose the thresholds, on --tune-split, for the fewest pixels within so many points of AP below the pyramid"""
    tune_split: str = "tune"
    """images that --pixels and --drop choose on; never the ones that are reported"""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes that share the images and --workdir; "auto" asks the cluster"""
    processes: int | None = None
    """how many processes there are; each is given the same command and its own --process"""
    process: int | None = None
    """number of this process, 0 to --processes - 1"""


def evaluate(arguments: Arguments, config: Config | ForeignConfig, console: Console) -> None:
    """Writes metrics.json and details.json after each row, then detections_autofocus.json, chips.json and panels/.

    chips.json holds how often chips of which size were processed, by AutoFocus ("chips") and by the pyramid ("levels"):
    from it `python -m autofocus_jax.buckets --chips` chooses buckets. What a resumed run did before is not in it.
    """
    with contextlib.ExitStack() as held:
        _evaluate(arguments, config, console, held)


def _evaluate(
    arguments: Arguments, config: Config | ForeignConfig, console: Console, held: contextlib.ExitStack
) -> None:
    first = jax.process_index() == 0
    say = lambda text: first and console.print(text, soft_wrap=True, markup=False, highlight=False)  # noqa: E731
    config = settled(config, arguments.split, say)
    dataset = open_split(config, arguments.split)
    indices = _indices(arguments, dataset)
    config = dataclasses.replace(config, buckets=_buckets(config, len(indices)))
    trained = load_trained(config, arguments.checkpoint, jax.local_devices())
    detect = trained.detect
    workdir = files.make_folder(_workdir(arguments, config))
    metrics, details = {}, {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not first) as progress:
        if hasattr(detect, "warm_up"):
            compiling = progress.add_task("compile", total=len(config.buckets))
            detect.warm_up(lambda _: progress.advance(compiling))
        config, chosen = _within_budget(arguments, config, detect, progress, say)
        plan, measured = Plan.of(config), {}
        rows = {name: (detect, row) for name, row in measure.rows(plan).items()}
        if trained.perfect is not None and len(plan.scales) > 1:
            rows[measure.PERFECT] = trained.perfect(dataset, indices), plan
        rows = _asked_for(arguments, rows)
        if first:
            depends_on = _run_key(arguments, config, trained, dataset, indices)
            kept = Ledger(workdir / "pieces", depends_on, "run.json", _pieces(rows), _fix(arguments))
            held.enter_context(kept.claim(anew=not arguments.resume))
        parallel.wait_for_all("pieces")
        for name, (looking, row) in rows.items():
            running = progress.add_task(name, total=len(indices))
            measured[name] = measure.measure(
                dataset, looking, row, metric=config.metric, indices=indices, name=name,
                progress=partial(progress.advance, running), folder=files.make_folder(workdir / "pieces" / name),
            )  # fmt: skip
            metrics[name] = measure.metrics(measured[name])
            details[name] = measure.details(measured[name]) | chosen
            if first:
                files.write_json(workdir / "metrics.json", metrics)
                files.write_json(workdir / "details.json", details)
    if not first:
        return
    run = next(reversed(measured.values())).run
    if {measure.PYRAMID, measure.AUTOFOCUS} <= measured.keys():
        processed = {"chips": measured[measure.AUTOFOCUS].sizes, "levels": measured[measure.PYRAMID].sizes}
        tables = {key: [[*size, count] for size, count in sorted(sizes.items())] for key, sizes in processed.items()}
        files.write_json(workdir / "chips.json", tables)
    if measure.AUTOFOCUS in measured:
        run = measured[measure.AUTOFOCUS].run
        results = coco_results(dataset, run.detections, run.indices)
        files.write_json(workdir / f"detections_{measure.AUTOFOCUS}.json", results)
        write_panels(workdir / "panels", plan, detect, dataset, run.indices, arguments.panels)

    title = f"{config.name}, {arguments.split}, {len(run.indices)} images"
    console.print(measure.table(metrics, title))
    if {measure.PYRAMID, measure.AUTOFOCUS} <= metrics.keys():
        console.print(measure.comparison(metrics), soft_wrap=True)
    for line in (*chosen.values(), *outlook.lines(dataset, run.indices, config, metrics)):
        say(line)
    console.print(f"written: {workdir}/metrics.json, details.json, detections_autofocus.json, panels/", soft_wrap=True)
    if run.skipped:
        say(f"{len(run.skipped)} of {len(indices)} images failed and were skipped:")
        for skipped in run.skipped:
            say(f"  {skipped.file_name}: {skipped.reason}")


def _within_budget(
    arguments: Arguments, config: Config | SettledConfig, detect: Detect, progress: Progress, say: Callable[[str], Any]
) -> tuple[Config | SettledConfig, dict[str, str]]:
    """The config with thresholds chosen for --pixels or --drop, and a line that says so; as it is without them."""
    if arguments.pixels is None and arguments.drop is None:
        return config, {}
    if arguments.tune_split == arguments.split:
        raise ConfigError(f"--tune-split and --split are both {arguments.split!r}; choose on other images")
    config, line = thresholds.chosen(
        config, detect, arguments.tune_split, arguments.pixels, arguments.drop, progress, say
    )
    return config, {"chosen": line}


def _run_key(
    arguments: Arguments, config: Config | SettledConfig, trained: Trained, dataset: Dataset, indices: Sequence[int]
) -> dict[str, Any]:
    """Return what the detections depend on: with anything else it is another run."""
    return {
        "weights": trained.fingerprint,
        "split": arguments.split,
        "data": data_identity(dataset, indices, bytes_too=True),
        "backend": jax.default_backend(),
        **detection_settings(config),
    }


def _pieces(rows: Iterable[str]) -> tuple[str, ...]:
    """Globs of the files that inference.engine.run keeps for the rows of these names."""
    return tuple(f"{name}/{'[0-9]' * 6}.npz" for name in rows)


def _fix(arguments: Arguments) -> str:
    return "run again without --resume, or choose another --workdir" if arguments.resume else "choose another --workdir"


def _workdir(arguments: Arguments, config: Config | SettledConfig) -> Path:
    """--workdir, else a folder in that of the training whose weights are evaluated."""
    given = arguments.checkpoint and Path(arguments.checkpoint)
    if arguments.workdir is not None:
        return Path(arguments.workdir)
    folders = (given, given.parent) if given else ()
    trained = next((folder for folder in folders if (folder / "config.json").is_file()), Path(f"runs/{config.name}"))
    return trained / "evaluation"


def _asked_for(arguments: Arguments, rows: Mapping[str, Any]) -> dict[str, Any]:
    """The rows that --rows names, in the order of the table."""
    for name in arguments.rows:
        if name not in rows:
            raise ConfigError(f"--rows has {name!r}; want some of {', '.join(rows)}")
    return {name: row for name, row in rows.items() if name in (arguments.rows or rows)}


def _buckets(config: Config | SettledConfig, images: int) -> Buckets:
    """The buckets that a run over so many images compiles, with a batch for all devices."""
    buckets = for_images(config.buckets, images)
    return parallel.spread(buckets, len(jax.local_devices())) if isinstance(buckets, tuple) else buckets


def _indices(arguments: Arguments, dataset: Dataset) -> range:
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit}; want at least 1 image")
    if arguments.panels < 0:
        raise ConfigError(f"--panels {arguments.panels}; want 0 or more")
    if arguments.pixels is not None and arguments.drop is not None:
        raise ConfigError("--pixels and --drop both choose the thresholds; give one of them")
    if arguments.pixels is not None and not arguments.pixels >= 1:
        raise ConfigError(f"--pixels {arguments.pixels}; want the side of a square, at least 1")
    if arguments.drop is not None and not arguments.drop >= 0:
        raise ConfigError(f"--drop {arguments.drop}; want 0 points of AP or more")
    return range(min(len(dataset), arguments.limit or len(dataset)))


def run(argv: Sequence[str], console: Console, prog: str = "autofocus evaluate") -> int:
    """The command; returns its exit code."""
    arguments, config = command_line(Arguments, argv, prog, __doc__, (Config, ForeignConfig))
    parallel.cache_compilations()
    parallel.join(arguments.coordinator, arguments.processes, arguments.process)
    evaluate(arguments, config, console)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """evaluate.py; returns its exit code. What goes wrong for the user's reasons is one line on stderr."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    try:
        return run(sys.argv[1:] if argv is None else argv, console, "evaluate.py")
    except AutoFocusError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evaluate.py: interrupted; what was finished is kept, --resume goes on", file=sys.stderr)
        return 130
