"""Detects in many images on many machines with Ray, and writes a Parquet data set.

autofocus batch s3://bucket/shards s3://bucket/found --weights model.safetensors --address auto
autofocus batch photos/ found/ --detector model.onnx

INPUT is a folder, a glob in quotes, Parquet files (a column of image bytes or of paths) or tar shards, on a local disk
or in a store (s3://, gs://). Without --address a cluster is started on this machine and ends with the command. A run
that was stopped goes on when the same command is given again. Exit codes: 0 all images; 3 all, but rows of some say why
they failed; 1 not finished; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autofocus_jax.command.detector_options import DetectorOptions, check_choice
from autofocus_jax.command.names import read_names
from autofocus_jax.config import ConfigError
from autofocus_jax.config_file import load_config, parse
from autofocus_jax.inference.settings import with_sides, with_thresholds
from autofocus_jax.inference.stored import read_weights
from autofocus_jax.structures import AutoFocusError

_FAILED = 16  # pieces that may fail before the run ends


@dataclasses.dataclass(frozen=True)
class Arguments:
    input: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="INPUT")]] = ""
    """folder, glob in quotes, Parquet files or tar shards; local, s3:// or gs://"""
    output: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OUTPUT")]] = ""
    """folder of the Parquet data set; local, s3:// or gs://"""
    weights: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="(or --detector)")] = ""
    """a .safetensors file, a training's --workdir, or "demo", which comes with the program"""
    address: str | None = None
    """a running Ray cluster: HOST:PORT, or auto on one of its machines; else one is started here"""
    workers: Annotated[str, tyro.conf.arg(metavar="N|LEAST:MOST")] = ""
    """how many, or bounds between which Ray scales (by default one for each GPU, or for every 4 cores)"""
    cores: int | None = None
    """of each worker (by default an even share)"""
    per_gpu: int = 1
    """workers that share a GPU and its memory"""
    piece: int = 512
    """images whose results are one file, and are done again when a worker dies; a tar shard is one piece"""
    score: float = 0.0
    """detections below this score are left out"""
    threshold: Annotated[tuple[float, ...], tyro.conf.arg(metavar="T...")] = ()
    """thresholds of the focus maps, one for all scales but the last or one for each (by default as the weights say)"""
    scales: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHORTERxLONGER...")] = ()
    """sides of the pyramid, coarse to fine, as 480x512 800x1280 1400x2000 (by default as the weights say)"""
    window: int | None = None
    """images that a worker holds at a time; fewer where they are very large (by default as the weights say)"""
    paths_anywhere: bool = False
    """read absolute paths, URIs and ".." in Parquet files too; for tables that you trust"""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """a config file, in place of the settings that lie beside the weights"""
    options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DetectorOptions)
    """a detector that you already have"""


@dataclasses.dataclass
class Tally:
    """What a run did so far."""

    done: set[int] = dataclasses.field(default_factory=set)  # numbers of pieces
    failed: int = 0  # pieces
    images: int = 0
    errors: int = 0
    found: int = 0
    pixels: int = 0
    full_pixels: int = 0
    begun: float = float("inf")  # of the first piece, seconds since the epoch
    ended: float = 0.0  # of the last one


def run(argv: Sequence[str], console: Console) -> int:
    """The command; returns its exit code."""
    arguments = parse(Arguments, list(argv), prog="autofocus batch", description=__doc__)
    workers, sides = _checked(arguments)
    try:
        from autofocus_jax.batch import cluster, job, plan, storage
        from autofocus_jax.command.batch_detector import foreign_job
    except ImportError as error:  # pyarrow
        raise AutoFocusError(f"{error.name} is not installed; pip install 'autofocus_jax[ray]'") from None
    jax.config.update("jax_platforms", "cpu")  # this process detects nothing; the GPUs are the workers'
    if arguments.options.detector is None:
        make = _our_job(arguments, sides)
    else:
        make = foreign_job(arguments.options, sides, arguments.threshold, arguments.score, arguments.paths_anywhere)
    output = storage.resolved(arguments.output)
    with console.status("looking at the input"):
        planned = plan.plan(arguments.input, arguments.piece)
    if plan.takes_in(arguments.input, output):
        raise ConfigError(f"OUTPUT {arguments.output} lies in INPUT; give another folder")
    say = lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False)  # noqa: E731
    made, payload = make(planned, output, say)
    there = job.open_output(made, planned, arguments.piece)
    before, damaged = job.count_parts(made, there)
    there -= damaged
    missing = [piece for piece in planned.pieces if piece.number not in there]
    if damaged:
        say(f"{len(damaged)} pieces are there, but cut off or damaged; they are done again")
    if there:
        say(f"{len(there)} of {len(planned.pieces)} pieces are there already, {before.images} images")
    tally, stopped = Tally(), None
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(payload))
    try:
        if missing:
            # Ray has a SIGTERM handler of its own, which ours replaces.
            with cluster.cluster(arguments.address, weights_bytes=size), _term_as_interrupt():
                share = cluster.share(workers, arguments.cores, arguments.per_gpu)
                say(_shared(share))
                results = cluster.run(made, payload, missing, share, arguments.window)
                total = None if planned.images is None else planned.images - before.images
                _gather(results, total, tally, console)
    except (KeyboardInterrupt, AutoFocusError) as error:
        stopped = error
    return _report(tally, before, len(missing) - len(tally.done), stopped, arguments, say)


def _our_job(arguments: Arguments, sides: Sequence[tuple[int, int]]) -> Callable:
    """Reads weights; what makes their job and its payload, as batch_detector.foreign_job does."""
    from autofocus_jax.batch import job

    config = load_config(arguments.config) if arguments.config else None
    names = read_names(arguments.options.names).names if arguments.options.names else None
    config, variables, categories = read_weights(arguments.weights, config, names)
    config = with_sides(config, sides) if sides else config
    config = with_thresholds(config, arguments.threshold) if arguments.threshold else config
    variables = jax.tree.map(np.asarray, variables)

    def make(planned, output: str, _: Callable[[str], None]) -> tuple:
        given = config, variables, categories, arguments.score, arguments.paths_anywhere
        return job.make_job(planned, output, *given), variables

    return make


def _gather(results: Iterator, total: int | None, tally: Tally, console: Console) -> None:
    """Adds the results up, with a bar, and names the pieces that failed; AutoFocusError when they are too many."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[speed]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("batch", total=total, speed="starting workers")
        for done in results:
            if not hasattr(done, "images"):  # cluster.Failed
                tally.failed += 1
                progress.console.print(f"piece {done.number} failed: {done.reason}", soft_wrap=True, markup=False)
                if tally.failed > _FAILED:
                    raise AutoFocusError(f"more than {_FAILED} pieces failed, the last: {done.reason}")
                continue
            tally.done.add(done.number)
            for name in ("images", "errors", "found", "pixels", "full_pixels"):
                setattr(tally, name, getattr(tally, name) + getattr(done, name))
            tally.begun = min(tally.begun, done.begun)
            tally.ended = max(tally.ended, done.begun + done.seconds)
            progress.update(task, completed=tally.images, speed=f"{_speed(tally)}, {tally.errors} errors")


def _report(tally: Tally, before, missing: int, stopped, arguments: Arguments, say) -> int:
    """Prints what was done and left; returns the exit code."""
    images, errors = tally.images + before.images, tally.errors + before.errors
    if tally.images:
        share = f", {tally.pixels / tally.full_pixels:.1%} of the pyramid's pixels" if tally.full_pixels else ""
        say(f"{tally.images} images, {tally.found} detections; {_speed(tally)}{share}")
    say(f"{arguments.output} holds {images} images; {errors} of them failed, their rows say why")
    if isinstance(stopped, KeyboardInterrupt):
        print("autofocus batch: interrupted; what was finished is kept, the same command goes on", file=sys.stderr)
        return 130
    if stopped is not None or missing:
        reason = f"{stopped}; " if stopped is not None else ""
        print(f"autofocus batch: {reason}not finished; the same command goes on", file=sys.stderr)
        return 1
    if images == errors:
        print("autofocus batch: not one image could be processed", file=sys.stderr)
        return 1
    return 3 if errors else 0


def _checked(arguments: Arguments) -> tuple[tuple[int, int] | None, list[tuple[int, int]]]:
    """Bounds of --workers and sides of --scales; ConfigError, which names the option, for what makes no sense."""
    for name in ("input", "output"):
        if not getattr(arguments, name):
            raise ConfigError(f"{name.upper()} is missing; give autofocus batch INPUT OUTPUT --weights FILE")
    check_choice(arguments.weights, arguments.options, arguments.config)
    if not 0 <= arguments.score <= 1:
        raise ConfigError(f"--score {arguments.score:g}; want a probability from 0 to 1")
    if any(not 0 <= threshold <= 1 for threshold in arguments.threshold):
        shown = " ".join(f"{threshold:g}" for threshold in arguments.threshold)
        raise ConfigError(f"--threshold {shown}; want probabilities from 0 to 1")
    for name in ("cores", "per_gpu", "piece", "window"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}; want at least 1")
    matches = [re.fullmatch(r"(\d{1,5})x(\d{1,5})", word) for word in arguments.scales]
    if not all(matches):
        raise ConfigError(f"--scales {' '.join(arguments.scales)}; want shorter x longer side of each, as 480x512")
    bounds = None
    if arguments.workers:
        match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", arguments.workers)
        bounds = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= bounds[0] <= bounds[1]:
            raise ConfigError(f"--workers {arguments.workers}; want a number, or bounds as 1:8")
    return bounds, [(int(match[1]), int(match[2])) for match in matches]


def _shared(share) -> str:
    count = f"{share.least}" if share.least == share.most else f"{share.least} to {share.most}"
    gpus = f"{share.gpus:.2g} GPU and " if share.gpus else ""
    return f"{count} workers, {gpus}{share.cores} cores each"


def _speed(tally: Tally) -> str:
    """Images/s from the first piece's beginning to the last one's end, without the start of the workers."""
    return f"{tally.images / max(tally.ended - tally.begun, 1e-9):.1f} images/s"


@contextlib.contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """A SIGTERM, as schedulers send it, ends the run as Ctrl-C does, with the cluster stopped."""

    def interrupt(*_):
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which signals go to
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
