"""The embedded data set: scenes rendered from a seed, kept on disk as a folder in COCO's format."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np

from autofocus_jax.config import DataSource
from autofocus_jax.data.coco import CocoDataset, write_coco
from autofocus_jax.files import cache_folder, whole_folder
from autofocus_jax.machine.cores import cores
from autofocus_jax.scenes.rendering import SPLITS, render_part, render_scene
from autofocus_jax.scenes.sprites import CATEGORIES
from autofocus_jax.structures import AutoFocusError, GroundTruth, ImageInfo

__all__ = ["CATEGORIES", "ScenesSource", "render_scene"]

VERSION = 3  # raise it whenever the same seed would give other pictures
_PART = 10  # images that a process renders at a time
IMAGES_PER_WORKER = 40  # fewer are not worth starting a process for


@dataclasses.dataclass(frozen=True)
class ScenesSource(DataSource):
    """Rendered scenes.

    train, val, tune: number of images of each split. folder: where splits are kept, else the cache.
    """

    seed: int = 0
    train: int = 2400
    val: int = 200
    tune: int = 100
    folder: str | None = None

    def open(self, split: str) -> CocoDataset:
        """Return the images of a split. They are rendered first if needed (about 10 s for 200 images on two cores)."""
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
    """Render a split, whole or not at all. If two processes do so at once, one wins, with the same pictures."""
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
    import rich.progress  # configs name this source, and who only reads a config does without
    from rich.console import Console

    workers = max(1, min(cores(), count // IMAGES_PER_WORKER))
    parts = [range(first, min(first + _PART, count)) for first in range(0, count, _PART)]
    part = functools.partial(render_part, folder, seed, split)
    track = functools.partial(rich.progress.track, total=len(parts), console=Console(stderr=True), transient=True)
    records = []
    with contextlib.ExitStack() as stack:
        render: Callable = map
        if workers > 1:  # spawned: a fork would copy JAX's threads
            context = multiprocessing.get_context("spawn")
            render = stack.enter_context(ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,))).map
        try:
            for done in track(render(part, parts), f"rendering scenes ({split})"):
                records += done
        except BrokenProcessPool:
            raise AutoFocusError(
                "rendering scenes failed, as a process of it ended; a program that renders them needs the line "
                '`if __name__ == "__main__":` before what it does'
            ) from None
    return records
