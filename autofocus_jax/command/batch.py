"""`autofocus batch`: many images on many machines with Ray, into a Parquet data set."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from autofocus_jax.command.console import Screen
from autofocus_jax.command.names import read_names
from autofocus_jax.command.options.batch import Arguments
from autofocus_jax.command.options.detector import check_choice, checked_sides
from autofocus_jax.command.stopping import exit_code, stoppable, word
from autofocus_jax.config import ConfigError
from autofocus_jax.config.load import load_config
from autofocus_jax.inference.settings import with_sides, with_thresholds
from autofocus_jax.inference.stored import read_weights
from autofocus_jax.structures import AutoFocusError

_FAILED = 16  # pieces that may fail before the run ends


@dataclasses.dataclass
class Tally:
    """Counts of a run so far."""

    done: set[int] = dataclasses.field(default_factory=set)  # numbers of pieces
    failed: int = 0  # pieces
    images: int = 0
    errors: int = 0
    found: int = 0
    pixels: int = 0
    full_pixels: int = 0
    begun: float = float("inf")  # of the first piece, seconds since the epoch
    ended: float = 0.0  # of the last one


def run(arguments: Arguments, console: Screen) -> int:
    """Run the command; return its exit code."""
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
            with cluster.cluster(arguments.address, weights_bytes=size), stoppable(always=True):
                share = cluster.share(workers, arguments.cores, arguments.per_gpu)
                say(_shared(share))
                results = cluster.run(made, payload, missing, share, arguments.window)
                total = None if planned.images is None else planned.images - before.images
                _gather(results, total, tally, console)
    except (KeyboardInterrupt, AutoFocusError) as error:
        stopped = error
    return _report(tally, before, len(missing) - len(tally.done), stopped, arguments, say)


def _our_job(arguments: Arguments, sides: Sequence[tuple[int, int]]) -> Callable:
    """Read weights and return a function that makes their job and payload, as batch_detector.foreign_job does."""
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


def _gather(results: Iterator, total: int | None, tally: Tally, console: Screen) -> None:
    """Add up the results, with a progress bar, and name the pieces that failed.

    Raises AutoFocusError if too many failed.
    """
    with console.progress() as progress:
        task = progress.add_task("batch", total=total, text="starting workers")
        for done in results:
            if not hasattr(done, "images"):  # cluster.Failed
                tally.failed += 1
                console.say(f"piece {done.number} failed: {done.reason}")
                if tally.failed > _FAILED:
                    raise AutoFocusError(f"more than {_FAILED} pieces failed, the last: {done.reason}")
                continue
            tally.done.add(done.number)
            for name in ("images", "errors", "found", "pixels", "full_pixels"):
                setattr(tally, name, getattr(tally, name) + getattr(done, name))
            tally.begun = min(tally.begun, done.begun)
            tally.ended = max(tally.ended, done.begun + done.seconds)
            progress.update(task, completed=tally.images, text=f"{_speed(tally)}, {tally.errors} errors")


def _report(tally: Tally, before, missing: int, stopped, arguments: Arguments, say) -> int:
    """Print what was done and left; return the exit code."""
    images, errors = tally.images + before.images, tally.errors + before.errors
    if tally.images:
        share = f", {tally.pixels / tally.full_pixels:.1%} of the pyramid's pixels" if tally.full_pixels else ""
        say(f"{tally.images} images, {tally.found} detections; {_speed(tally)}{share}")
    say(f"{arguments.output} holds {images} images; {errors} of them failed, their rows say why")
    if isinstance(stopped, KeyboardInterrupt):
        print(f"autofocus batch: {word(stopped)}; what was finished is kept, the same command goes on", file=sys.stderr)
        return exit_code(stopped)
    if stopped is not None or missing:
        reason = f"{stopped}; " if stopped is not None else ""
        print(f"autofocus batch: {reason}not finished; the same command goes on", file=sys.stderr)
        return 1
    if images == errors:
        raise AutoFocusError("not one image could be processed")
    return 3 if errors else 0


def _checked(arguments: Arguments) -> tuple[tuple[int, int] | None, list[tuple[int, int]]]:
    """Bounds of --workers and sides of --scales; ConfigError, which names the option, for what makes no sense."""
    for name in ("input", "output"):
        if not getattr(arguments, name):
            raise ConfigError(f"{name.upper()} is missing; give autofocus batch INPUT OUTPUT --weights FILE")
    check_choice(arguments.weights, arguments.options, arguments.config)
    for name in ("cores", "per_gpu", "piece", "window"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}; want at least 1")
    sides = checked_sides(arguments.score, arguments.threshold, arguments.scales)
    bounds = None
    if arguments.workers:
        match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", arguments.workers)
        bounds = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= bounds[0] <= bounds[1]:
            raise ConfigError(f"--workers {arguments.workers}; want a number, or bounds as 1:8")
    return bounds, sides


def _shared(share) -> str:
    count = f"{share.least}" if share.least == share.most else f"{share.least} to {share.most}"
    gpus = f"{share.gpus:.2g} GPU and " if share.gpus else ""
    return f"{count} workers, {gpus}{share.cores} cores each"


def _speed(tally: Tally) -> str:
    """Images/s from the first piece's beginning to the last one's end, without the start of the workers."""
    return f"{tally.images / max(tally.ended - tally.begun, 1e-9):.1f} images/s"
