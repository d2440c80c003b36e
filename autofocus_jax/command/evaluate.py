"""`autofocus evaluate`: every scale alone, the full image pyramid and AutoFocus, with a table, metrics and panels."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.progress import Progress

from autofocus_jax import files, parallel
from autofocus_jax.command import outlook, thresholds
from autofocus_jax.command.console import Screen
from autofocus_jax.command.evaluate_page import EvaluationPage
from autofocus_jax.command.foreign_config import ForeignConfig, SettledConfig, settled
from autofocus_jax.command.options.evaluate import Arguments
from autofocus_jax.command.panels import write_panels
from autofocus_jax.command.report_parts import table_of
from autofocus_jax.command.trained import Trained, load_trained
from autofocus_jax.config import Config, ConfigError, open_split, require_categories
from autofocus_jax.config.load import detection_settings
from autofocus_jax.focus.buckets import Buckets, for_images
from autofocus_jax.focus.cascade import AnyDetect
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import measure
from autofocus_jax.ledger import Ledger, data_identity
from autofocus_jax.metrics.coco import MAX_DETECTIONS, coco_results, crowded
from autofocus_jax.report import page
from autofocus_jax.structures import Dataset


def evaluate(arguments: Arguments, given: Config | ForeignConfig, console: Screen, held: contextlib.ExitStack) -> None:
    """Measure every row and write the files; `held` keeps the folder for this run."""
    first = jax.process_index() == 0
    config: Any = settled(given, arguments.split, console.say)
    dataset = open_split(config, arguments.split)
    indices = _indices(arguments, dataset)
    counted = arguments.max_detections or MAX_DETECTIONS
    kept = max(arguments.max_detections or 0, config.stacking.max_detections)
    stacking = dataclasses.replace(config.stacking, max_detections=kept)
    config = dataclasses.replace(config, buckets=_buckets(config, len(indices)), stacking=stacking)
    trained = load_trained(config, arguments.weights, jax.local_devices())
    detect = trained.detect
    require_categories(dataset, arguments.split, trained.categories)
    workdir = files.make_folder(_output(arguments, config))
    metrics, details = {}, {}
    with console.progress() as progress:
        if hasattr(detect, "warm_up"):
            compiling = progress.add_task("compile", total=len(config.buckets))
            detect.warm_up(lambda _: progress.advance(compiling))
        config, chosen = _within_budget(arguments, config, trained, progress, console)
        plan, measured = Plan.of(config), {}
        rows = {name: (detect, row) for name, row in measure.rows(plan).items()}
        if trained.perfect is not None and len(plan.scales) > 1:
            rows[measure.PERFECT] = trained.perfect(dataset, indices), plan
        rows = _asked_for(arguments, rows)
        if first:
            depends_on = _run_key(arguments, config, trained, dataset, indices)
            fix = f"{'run again without --resume, or ' * arguments.resume}choose another --output"
            makes = tuple(f"{name}/{'[0-9]' * 6}.npz" for name in rows)  # as inference.engine.run names its pieces
            ledger = Ledger(workdir / "pieces", depends_on, "run.json", makes, fix)
            held.enter_context(ledger.claim(anew=not arguments.resume))
        parallel.wait_for_all("pieces")
        for name, (looking, row) in rows.items():
            running = progress.add_task(name, total=len(indices))
            measured[name] = measure.measure(
                dataset, looking, row, metric=config.metric, indices=indices, name=name,
                progress=partial(progress.advance, running), folder=files.make_folder(workdir / "pieces" / name),
                max_detections=counted,
            )  # fmt: skip
            metrics[name] = measure.metrics(measured[name])
            details[name] = measure.details(measured[name]) | chosen
            if first:
                files.write_json(workdir / "metrics.json", metrics)
                files.write_json(workdir / "details.json", details)
    if first:
        _write(arguments, config, console, workdir, dataset, measured, metrics, detect, plan, chosen)


def _write(
    arguments: Arguments, config: Any, console: Screen, workdir: Path, dataset: Dataset,
    measured: dict[str, measure.Measurement], metrics: dict[str, dict[str, Any]], detect: AnyDetect, plan: Plan,
    chosen: dict[str, str],
) -> None:  # fmt: skip
    """Write what AutoFocus and the pyramid leave behind, and show the table."""
    counted = arguments.max_detections or MAX_DETECTIONS
    run = next(reversed(measured.values())).run
    if {measure.PYRAMID, measure.AUTOFOCUS} <= measured.keys():
        processed = {"chips": measured[measure.AUTOFOCUS].sizes, "levels": measured[measure.PYRAMID].sizes}
        tables = {key: [[*size, count] for size, count in sorted(sizes.items())] for key, sizes in processed.items()}
        files.write_json(workdir / "chips.json", tables)
    if measure.AUTOFOCUS in measured:
        run = measured[measure.AUTOFOCUS].run
        results = coco_results(dataset, run.detections, run.indices)
        files.write_json(workdir / f"detections_{measure.AUTOFOCUS}.json", results)
        shown = EvaluationPage(dataset, plan, measured, arguments.panels)
        write_panels(workdir / "panels", plan, detect, dataset, run.indices, arguments.panels, shown.add)

    title = f"{config.name}, {arguments.split}, {len(run.indices)} images"
    title += f", AP of {counted} detections an image" if arguments.max_detections is not None else ""
    table = measure.table(metrics, title)
    console.print(table)
    said = [measure.comparison(metrics)] if {measure.PYRAMID, measure.AUTOFOCUS} <= metrics.keys() else []
    said += [*chosen.values(), *outlook.lines(dataset, run.indices, config, metrics)]
    said += _cap(config, dataset, run.indices, counted)
    for line in said:
        console.say(line)
    of_autofocus = ""
    if measure.AUTOFOCUS in measured:
        page.write(workdir / "report.html", shown.report(title, metrics, table_of(table), said))
        of_autofocus = f", report.html, detections_{measure.AUTOFOCUS}.json, panels/"
    console.say(f"written: {workdir}/metrics.json, details.json{of_autofocus}")
    if run.skipped:
        console.say(f"{len(run.skipped)} of {len(run.indices) + len(run.skipped)} images failed and were skipped:")
        for skipped in run.skipped:
            console.say(f"  {skipped.file_name}: {skipped.reason}")


def _cap(config: Config | SettledConfig, dataset: Dataset, indices: Sequence[int], counted: int) -> list[str]:
    """A line where images have more objects than detections are counted or kept."""
    kept = config.stacking.max_detections
    over, lost = (crowded(dataset, indices, most) for most in (counted, kept))
    if config.metric == "coco" and over:
        return [
            f"{over} of {len(indices)} images have more than {counted} objects, and AP counts the {counted} best "
            f"detections of an image, so it cannot reach 100 (on {lost} of them only {kept} detections are kept); "
            "--max-detections counts and keeps more"
        ]
    if lost:
        return [f"{lost} of {len(indices)} images have more than {kept} objects, and {kept} detections of an image are "
                "kept; --max-detections keeps more"]  # fmt: skip
    return []


def _within_budget(
    arguments: Arguments, config: Config | SettledConfig, trained: Trained, progress: Progress, console: Screen
) -> tuple[Config | SettledConfig, dict[str, str]]:
    """The config with thresholds chosen for --pixels or --drop, and a line that says so; as it is without them."""
    if arguments.pixels is None and arguments.drop is None:
        return config, {}
    if arguments.tune_split == arguments.split:
        raise ConfigError(f"--tune-split and --split are both {arguments.split!r}; choose on other images")
    config, line = thresholds.chosen(
        config, trained.detect, arguments.tune_split, arguments.pixels, arguments.drop, progress, console.say,
        arguments.max_detections or MAX_DETECTIONS, trained.categories,
    )  # fmt: skip
    return config, {"chosen": line}


def _run_key(
    arguments: Arguments, config: Any, trained: Trained, dataset: Dataset, indices: Sequence[int]
) -> dict[str, Any]:
    """Return what the detections depend on: with anything else it is another run."""
    return {
        "weights": trained.fingerprint,
        "split": arguments.split,
        "data": data_identity(dataset, indices, contents=True),
        "backend": jax.default_backend(),
        **detection_settings(config),
    }


def _output(arguments: Arguments, config: Config | SettledConfig) -> Path:
    """--output, else a folder in that of the training whose weights are evaluated."""
    if arguments.output is not None:
        return Path(arguments.output)
    given = arguments.weights and Path(arguments.weights)
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
    if arguments.max_detections is not None and not 1 <= arguments.max_detections <= 2**20:
        raise ConfigError(f"--max-detections {arguments.max_detections}; want 1 to {2**20} detections an image")
    if arguments.pixels is not None and arguments.drop is not None:
        raise ConfigError("--pixels and --drop both choose the thresholds; give one of them")
    if arguments.pixels is not None and not arguments.pixels >= 1:
        raise ConfigError(f"--pixels {arguments.pixels}; want the side of a square, at least 1")
    if arguments.drop is not None and not arguments.drop >= 0:
        raise ConfigError(f"--drop {arguments.drop}; want 0 points of AP or more")
    return range(min(len(dataset), arguments.limit or len(dataset)))


def run(arguments: Arguments, config: Config | ForeignConfig, console: Screen) -> int:
    """Run the command; return its exit code.

    metrics.json and details.json are written after each row, then detections_autofocus.json, chips.json and panels/.
    chips.json holds how often chips of each size were processed, by AutoFocus ("chips") and by the pyramid ("levels").
    `autofocus buckets --chips` reads the file. A resumed run leaves out the chips of the earlier run.
    """
    parallel.cache_compilations()
    parallel.join(arguments.coordinator, arguments.processes, arguments.process)
    console.quiet = parallel.process()[0] > 0
    with contextlib.ExitStack() as held:
        evaluate(arguments, config, console, held)
    return 0
