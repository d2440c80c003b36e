"""A job: finds the pieces of an input that are missing in an output, and does one of them. Knows no cluster."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from autofocus_jax.batch.images import images
from autofocus_jax.batch.plan import DAMAGED, Piece, Plan
from autofocus_jax.batch.storage import Folder
from autofocus_jax.batch.table import Counts, Row, counts, encode, error_row
from autofocus_jax.config import Config
from autofocus_jax.config.load import detection_settings
from autofocus_jax.detector.api import Variables
from autofocus_jax.errors import JobError
from autofocus_jax.focus.cascade import Outcome, Reader
from autofocus_jax.inference.model import Model
from autofocus_jax.ledger import digest, weights_digest

MANIFEST = "_batch.json"  # readers of Parquet data sets pass over names that begin with "_"
_PART = re.compile(r"part-(\d{8})\.parquet")


@dataclasses.dataclass(frozen=True)
class Job:
    """Settings of every piece; small, and the same on every machine."""

    input: str  # resolved folder
    output: str  # resolved folder
    model: str  # hash of the detector's arrays
    settings: str  # hash of what else the results depend on
    load: Callable[[Any, int], Model]  # of the payload of cluster.run and a worker's cores; is pickled
    categories: tuple[str, ...]
    score: float  # detections below are left out
    anywhere: bool = False  # whether paths in Parquet files may lead out of the input's folder


class Done(NamedTuple):
    """Result of one piece."""

    number: int
    images: int  # rows written
    errors: int  # of these, how many failed
    found: int  # detections
    pixels: int  # processed
    full_pixels: int  # of all levels
    begun: float  # seconds since the epoch
    seconds: float


def make_job(
    plan: Plan, output: str, config: Config, variables: Variables, categories, score: float, anywhere: bool = False
) -> Job:
    """Return the job of a plan with a compiled detector, whose payload is its variables. `output` must be resolved."""
    hashes = weights_digest(variables), settings_hash(config, score)
    load = partial(_compiled, config, tuple(categories))
    return Job(plan.folder, output, *hashes, load, tuple(categories), score, anywhere)


def _compiled(config: Config, categories: tuple[str, ...], variables: Variables, cores: int) -> Model:
    return Model.compiled(config, variables, categories)


def do_piece(model: Model, job: Job, piece: Piece, window: int | None = None, threads: int | None = None) -> Done:
    """Detect in the images of a piece and write its part of the output, which appears whole or not at all.

    Raises:
        StorageError: the input or output does not answer; nothing is written then.
    """
    begun, begin = time.time(), time.perf_counter()
    rows = list(_rows(model, images(Folder(job.input), piece, job.anywhere), job.score, window, threads))
    Folder(job.output).write(part_name(piece.number), encode(rows, job.model, job.settings, job.categories))
    return _came_to(piece, rows, begun, time.perf_counter() - begin)


def _came_to(piece: Piece, rows: Sequence[Row], begun: float, seconds: float) -> Done:
    good = [row for row in rows if row.error is None]
    pixels, full = (sum(int(getattr(row, name).sum()) for row in good) for name in ("pixels", "full_pixels"))
    found = sum(len(row.scores) for row in good)
    return Done(piece.number, len(rows), len(rows) - len(good), found, pixels, full, begun, seconds)


def _rows(
    model: Model, named: Iterable[tuple[str, Reader]], score: float, window: int | None, threads: int | None
) -> Iterator[Row]:
    """A Row of each (id, reader), in their order; a reader's ImageError becomes a Row with `error`."""
    for outcome in model.stream(named, window=window, threads=threads):
        yield error_row(str(outcome.key), outcome.error) if outcome.error is not None else _row(outcome, score)


def _row(outcome: Outcome, score: float) -> Row:
    boxes, scores, labels = outcome.detections
    keep = scores >= score
    cost = outcome.cost
    height, width = outcome.size
    found = boxes[keep], scores[keep], labels[keep]
    return Row(str(outcome.key), height, width, *found, cost.pixels, cost.full_pixels, None)


def open_output(job: Job, plan: Plan, size: int) -> set[int]:
    """Make the output's folder, or continue a folder of the same job. Return the numbers of the finished pieces.

    Raises:
        JobError: the folder belongs to another job, and the message names the difference, or the folder holds other
            files.
    """
    folder = Folder(job.output)
    run = {
        "input": job.input, "kind": plan.kind, "files": plan.digest, "pieces": len(plan.pieces), "piece": size,
        "model": job.model, "settings": job.settings, "categories": list(job.categories),
    }  # fmt: skip
    if job.anywhere:  # rows that would be errors are not; outputs without the entry are of jobs that refuse
        run["paths"] = "anywhere"
    there = folder.files()
    if MANIFEST in there:
        before = _manifest(folder)
        changed = [
            f"{key}: {_short(before.get(key))} -> {_short(run.get(key))}"
            for key in {**run, **before} if before.get(key) != run.get(key)
        ]  # fmt: skip
        if changed:
            raise JobError(f"{job.output} holds the results of another job ({'; '.join(changed)}); give another OUTPUT")
        folder.sweep()
        return {int(match[1]) for match in map(_PART.fullmatch, there) if match}
    if there:
        raise JobError(f"{job.output} holds other files ({next(iter(there))} …); give a new or empty folder")
    folder.write(MANIFEST, json.dumps(run, indent=1).encode())
    return set()


def count_parts(job: Job, numbers: set[int]) -> tuple[Counts, set[int]]:
    """Return the counts of finished pieces, from the ends of their files, and the numbers of pieces with a damaged end.

    A power cut may leave damaged ends. Such pieces must be done again.
    """
    folder = Folder(job.output)

    def count(number: int) -> Counts | None:
        try:
            with folder.open(part_name(number), seekable=True) as file:
                return counts(file)
        except (*DAMAGED, ValueError):  # a ValueError where there is no such column
            return None

    with ThreadPoolExecutor(16, thread_name_prefix="footers") as pool:
        found = dict(zip(sorted(numbers), pool.map(count, sorted(numbers))))
    good = [entry for entry in found.values() if entry is not None]
    return Counts(sum(entry.images for entry in good), sum(entry.errors for entry in good)), {
        number for number, entry in found.items() if entry is None
    }


def part_name(number: int) -> str:
    """Return the file name of a piece."""
    return f"part-{number:08d}.parquet"


def settings_hash(config: Config, score: float) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all settings that results depend on, beside weights and images."""
    return digest([detection_settings(config), score])


def _manifest(folder: Folder) -> dict[str, Any]:
    try:
        run = json.loads(folder.read(MANIFEST))
    except ValueError:
        run = None
    if not isinstance(run, dict):
        raise JobError(f"{folder.uri}/{MANIFEST} is damaged; give another OUTPUT")
    return run


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
