"""`autofocus batch` against the engine of one process, in pairs on the same cores; and its memory.

    python benchmarks/batch.py --images 2000 --rounds 5
    python benchmarks/batch.py --images 0 --memory 500 5000

Pairs: the images of the demo's `val`, over and over under other names, through the engine that evaluate.py runs, in
one process and on all its cores, and through a local Ray cluster whose workers share these cores. Neither number holds
the start: compiling here, the cluster and its workers there (from the first piece's beginning to the last one's end).
The detections of both are compared. Memory: resident memory of this process and of the workers, and bytes in the object
store, the largest that was seen while the workers worked; it must not grow with the number of images, and nothing be
spilled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.dataset
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))

from autofocus_jax import parallel
from autofocus_jax.batch import cluster, job, plan
from autofocus_jax.config import open_split
from autofocus_jax.data.image import read_image
from autofocus_jax.files import cache_folder
from autofocus_jax.inference.model import Model, load, read_weights

MB = 1e6


@dataclasses.dataclass(frozen=True)
class Options:
    images: int = 200
    """in each run of a pair; 0 for no pairs"""
    rounds: int = 3
    """pairs"""
    workers: int = 2
    piece: int = 250
    """images"""
    memory: tuple[int, ...] = ()
    """numbers of images whose runs' memory is printed"""


def make_folder(folder: Path, count: int) -> None:
    """Links to the demo's `val` images under `count` names."""
    config = read_weights("demo")[0]
    open_split(config, "val")  # renders them, the first time
    root = cache_folder()
    files = sorted(root.glob("scenes-*-val-200/images/*.jpg"))
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06d}.jpg").symlink_to(files[number % len(files)])


class Watcher(threading.Thread):
    """Looks at the memory of this process, of Ray's workers and of the object store, ten times a second.

    For the cluster that this process has started; others may run on the machine.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.driver = self.worker = self.store = self.spilled = self.samples = 0
        self._ended, self._error = threading.Event(), None

    def run(self) -> None:
        try:
            while not self._ended.wait(0.1):
                self._look()
                self.samples += 1
        except Exception as error:  # a thread's own would go by
            self._error = error

    def finish(self) -> None:
        """Ends the looking; raises what went wrong with it."""
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error
        assert self.samples and self.worker, "the workers were never seen"

    def _look(self) -> None:
        import ray

        own, name = psutil.Process(), "object_store_memory"
        self.driver = max(self.driver, own.memory_info().rss)
        for child in own.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.cmdline() and child.cmdline()[0].startswith("ray::MapWorker"):
                    self.worker = max(self.worker, child.memory_info().rss)
        free = ray.available_resources().get(name)
        if free is not None:  # it is left out where all is taken, and before the first report
            self.store = max(self.store, ray.cluster_resources()[name] - free)
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        spilled = 0
        for path in session.glob("ray_spilled_objects_*/*"):
            with contextlib.suppress(FileNotFoundError):
                spilled += path.stat().st_size
        self.spilled = max(self.spilled, spilled)


def with_ray(
    options: Options, folder: Path, out: Path, weights: Any, watch: bool = False
) -> tuple[float, Watcher | None]:
    """Images/s of a run on a cluster of its own, and what was seen of its memory."""
    config, variables, categories = weights
    planned = plan.plan(str(folder), options.piece)
    made = job.make_job(planned, str(out), config, variables, categories, 0.0)
    job.open_output(made, planned, options.piece)
    with cluster.cluster(None):
        watcher = Watcher() if watch else None
        if watcher is not None:
            watcher.start()
        share = cluster.share((options.workers, options.workers), None, 1)
        done = list(cluster.run(made, variables, planned.pieces, share))
        if watcher is not None:
            watcher.finish()
    assert sorted(entry.number for entry in done) == list(range(len(planned.pieces))), "pieces failed"
    seconds = max(entry.begun + entry.seconds for entry in done) - min(entry.begun for entry in done)
    return sum(entry.images for entry in done) / seconds, watcher


_model: list[Model] = []  # of the process that runs `alone`


def warm_up() -> None:
    """Makes the model of this process."""
    parallel.cache_compilations()
    _model.append(load("demo"))
    _model[0].warm_up()


def alone(folder: Path) -> tuple[float, dict[str, Any]]:
    """Images/s of the engine in this process, and its detections by file name."""
    (model,) = _model
    names = sorted(path.name for path in folder.iterdir())
    begin = time.perf_counter()
    outcomes = list(model.stream((name, partial(read_image, folder / name, oriented=True)) for name in names))
    seconds = time.perf_counter() - begin
    return len(names) / seconds, {outcome.key: outcome.detections for outcome in outcomes}


def differences(out: Path, expected: dict[str, Any]) -> int:
    """Images whose detections are not the same to the promised tolerance, or that are missing or there twice."""
    rows = pyarrow.dataset.dataset(str(out), format="parquet").to_table(["id", "boxes", "scores", "labels"]).to_pylist()
    seen = {row["id"]: row for row in rows}
    wrong = abs(len(rows) - len(expected))
    for name, found in expected.items():
        row = seen.get(name, {"boxes": [], "scores": [], "labels": []})
        boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
        wrong += not (
            row["labels"] == found.labels.tolist() and np.allclose(boxes, found.boxes, rtol=0, atol=1e-3)
            and np.allclose(np.array(row["scores"], np.float32), found.scores, rtol=0, atol=1e-5)
        )  # fmt: skip
    return wrong


def compare(options: Options, root: Path, weights: Any) -> None:
    """Prints the pairs."""
    make_folder(root / "images", options.images)
    make_folder(root / "few", options.workers)
    with_ray(dataclasses.replace(options, piece=1), root / "few", root / "warm", weights)  # it compiles
    pairs = []
    # A process of its own, which is idle while Ray works: Ray forks this one, which must not run JAX's threads.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), warm_up) as pool:
        for turn in range(options.rounds):
            out = root / f"out{turn}"
            runs = [
                lambda: pool.submit(alone, root / "images").result(),
                partial(with_ray, options, root / "images", out, weights),
            ]
            (single, expected), (ray, _) = [run() for run in runs] if turn % 2 else [run() for run in runs[::-1]][::-1]
            wrong = differences(out, expected)
            pairs.append(ray / single)
            speeds = f"alone {single:.2f} images/s, Ray {ray:.2f}: {ray / single:.3f}"
            print(f"{speeds}; {wrong} of {options.images} differ", flush=True)
    print(f"median of {len(pairs)} pairs: {statistics.median(pairs):.3f}")


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    weights = read_weights("demo")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if options.images:
            compare(options, root, weights)
        for count in options.memory:
            make_folder(root / f"images{count}", count)
            speed, seen = with_ray(options, root / f"images{count}", root / f"memory{count}", weights, watch=True)
            memory = f"driver {seen.driver / MB:.0f} MB, largest worker {seen.worker / MB:.0f} MB"
            store = f"object store {seen.store / MB:.1f} MB, spilled {seen.spilled / MB:.1f} MB"
            print(f"{count} images, {speed:.1f} images/s: {memory}, {store}", flush=True)


if __name__ == "__main__":
    main()
