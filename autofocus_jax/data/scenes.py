"""The embedded data set: scenes rendered from a seed, kept on disk as a COCO-format folder, read by the COCO reader."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import autofocus_jax
from autofocus_jax.config import DataSource
from autofocus_jax.data.coco import CocoDataset, write_coco
from autofocus_jax.data.rendering import SPLITS, render_files, render_scene
from autofocus_jax.data.sprites import CATEGORIES
from autofocus_jax.files import cache_folder, whole_folder
from autofocus_jax.structures import AutoFocusError, GroundTruth, ImageInfo

__all__ = ["CATEGORIES", "ScenesSource", "render_scene"]

VERSION = 3  # raise it whenever the same seed would give other pictures
IMAGES_PER_WORKER = 40  # fewer are not worth starting a process for


@dataclasses.dataclass(frozen=True)
class ScenesSource(DataSource):
    """Rendered scenes. train, val, tune: images of each split. folder: where splits are kept, else the cache."""

    seed: int = 0
    train: int = 2400
    val: int = 200
    tune: int = 100
    folder: str | None = None

    def open(self, split: str) -> CocoDataset:
        """The images of a split, rendered now if they are not on disk yet (about 10 s for 200 images on two cores)."""
        if split not in SPLITS:
            raise AutoFocusError(f"scenes have no split {split!r}; use one of {', '.join(SPLITS)}")
        count = getattr(self, split)
        if count < 1 or self.seed < 0:
            raise AutoFocusError(f"scenes want at least 1 image and a seed >= 0, got {split}={count}, seed={self.seed}")
        parent = Path(self.folder).expanduser() if self.folder else cache_folder()
        target = parent / f"scenes-v{VERSION}-seed{self.seed}-{split}-{count}"
        if not (target / "annotations.json").exists():
            try:
                _render_split(target, self.seed, split, count)
            except OSError as error:
                raise AutoFocusError(
                    f"scenes cannot be written to {parent} ({error.strerror}); "
                    "set AUTOFOCUS_CACHE to a folder with room for them"
                ) from error
        return CocoDataset(target / "images", target / "annotations.json")


def _render_split(target: Path, seed: int, split: str, count: int) -> None:
    """Renders a split; nobody sees half of it. Of two processes that do so at once one wins, with the same pictures."""
    with whole_folder(target) as draft:
        (draft / "images").mkdir()
        records = _render(draft / "images", seed, split, count)
        infos = [ImageInfo(r["index"] + 1, f"{r['index']:06d}.jpg", r["height"], r["width"]) for r in records]
        write_coco(draft / "annotations.json", infos, CATEGORIES, [_ground_truth(record) for record in records])


def _ground_truth(record: dict) -> GroundTruth:
    return GroundTruth(
        np.array(record["boxes"], np.float32).reshape(-1, 4),
        np.array(record["labels"], np.int32),
        np.array(record["ignore"], bool),
    )


def _render(folder: Path, seed: int, split: str, count: int) -> list[dict]:
    """Records of all images, in order; see rendering.render_files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = max(1, min(cores, count // IMAGES_PER_WORKER))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"rendering scenes ({split})", total=count)

        def advance() -> None:
            progress.advance(task)

        if workers == 1:
            records = []
            for record in render_files(folder, seed, split, range(count)):
                records.append(record)
                advance()
            return records
        with ThreadPoolExecutor(workers) as pool:
            parts = [
                pool.submit(_worker, [str(folder), str(seed), split, str(first), str(count), str(workers)], advance)
                for first in range(workers)
            ]
            records = [record for part in parts for record in part.result()]
    return sorted(records, key=lambda record: record["index"])


def _worker(arguments: list[str], advance: Callable[[], None]) -> list[dict]:
    """Runs rendering.py as a program: a fork would copy JAX's threads, a spawned pool import the caller's main."""
    package = str(Path(autofocus_jax.__path__[0]).parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "autofocus_jax.data.rendering", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        records = []
        for line in process.stdout:
            records.append(json.loads(line))
            advance()
        if process.wait() != 0:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            raise AutoFocusError(f"rendering scenes failed with code {process.returncode}: {last}")
    return records
