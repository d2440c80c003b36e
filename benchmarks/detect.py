"""Images/s of `autofocus detect` and of evaluate.py's AutoFocus row in turns, on one folder of mixed images.

python benchmarks/detect.py --images 500 --rounds 3

Both use the same compiled programs, and everything is compiled before the first image. "Work" is the time of all cores
together, which other programs on the machine disturb less than images/s. The folder is made of the
config's images, resized to between half and 1.6 times their sides and written as JPEG, PNG and WebP.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))


from autofocus_jax import parallel
from autofocus_jax.command import writers
from autofocus_jax.command.detection_run import run_detection
from autofocus_jax.command.inputs import Item, collect
from autofocus_jax.config import open_split
from autofocus_jax.config.load import command_line
from autofocus_jax.data.image import image_size, read_image
from autofocus_jax.inference import engine
from autofocus_jax.inference.model import Model, load
from autofocus_jax.structures import Dataset, ImageInfo
from autofocus_jax.weights import safetensors

_KINDS = ((".jpg", cv2.IMWRITE_JPEG_QUALITY, 92), (".png", cv2.IMWRITE_PNG_COMPRESSION, 4),
          (".webp", cv2.IMWRITE_WEBP_QUALITY, 90))  # fmt: skip
_SCORE = 0.5


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: str = "configs/demo.py"
    """config file with shipped weights"""
    split: str = "val"
    images: int = 500
    """in the folder"""
    rounds: int = 3
    """how often each program runs, in turns"""


class Files:
    """As much of a structures.Dataset as inference.engine.run asks for: the images of a folder."""

    def __init__(self, items: Sequence[Item]):
        self._items = items

    def image(self, index: int) -> np.ndarray:
        return read_image(self._items[index].path)

    def info(self, index: int) -> ImageInfo:
        return ImageInfo(index + 1, self._items[index].file_name, *image_size(self._items[index].path))


def make_folder(dataset: Dataset, count: int, folder: Path) -> None:
    """Writes `count` images of three formats and many sizes; the same ones each time."""
    factors = np.exp(np.random.default_rng(0).uniform(np.log(0.5), np.log(1.6), count))

    def make(number: int) -> None:
        suffix, option, value = _KINDS[number % len(_KINDS)]
        image = cv2.resize(dataset.image(number % len(dataset)), None, fx=factors[number], fy=factors[number],
                           interpolation=cv2.INTER_AREA)  # fmt: skip
        if not cv2.imwrite(str(folder / f"{number:05d}{suffix}"), image[..., ::-1], [option, value]):
            raise SystemExit(f"detect.py: {folder} cannot be written")

    with ThreadPoolExecutor(engine.host_threads()) as pool:
        list(pool.map(make, range(count)))


def evaluated(model: Model, items: Sequence[Item], scratch: Path) -> tuple[float, int]:
    """(images/s, detections) of evaluate.py's row `autofocus`, finished pieces on the disk included."""
    with tempfile.TemporaryDirectory(dir=scratch) as pieces:
        streamed = partial(engine.stream, detect=model.detect, plan=model.plan)
        run = engine.run(Files(items), range(len(items)), streamed, folder=Path(pieces))
    return len(run.indices) / run.seconds, sum(int((found.scores >= _SCORE).sum()) for found in run.detections)


def detected(model: Model, items: Sequence[Item], scratch: Path, pictures: bool) -> tuple[float, int]:
    """(images/s, detections) of `autofocus detect`, its files on the disk included."""
    with tempfile.TemporaryDirectory(dir=scratch) as output:
        forms: list[writers.Writer] = [writers.CocoWriter(Path(output) / "detections.json", model.categories)]
        forms += [writers.PictureWriter(Path(output) / "pictures")] if pictures else []
        summary = run_detection(model, items, forms, _SCORE, False, model.config.window)
    if summary.stopped is not None:
        raise summary.stopped
    return summary.images / summary.seconds, summary.found


def main() -> None:
    arguments, config = command_line(Arguments, sys.argv[1:], "detect.py", __doc__)
    parallel.cache_compilations()
    model = load(safetensors.shipped(config.shipped), config)
    start = time.perf_counter()
    model.warm_up()
    print(f"{len(model.config.buckets)} programs ready after {time.perf_counter() - start:.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        images, scratch = Path(folder, "images"), Path(folder, "scratch")
        images.mkdir(), scratch.mkdir()
        make_folder(open_split(config, arguments.split), arguments.images, images)
        items = collect([str(images)])
        print(f"{len(items)} images ready", flush=True)
        programs = {
            "evaluate.py, autofocus": partial(evaluated, model, items, scratch),
            "detect, json": partial(detected, model, items, scratch, False),
            "detect, json and pictures": partial(detected, model, items, scratch, True),
        }
        speeds: dict[str, list[float]] = {name: [] for name in programs}
        worked: dict[str, list[float]] = {name: [] for name in programs}  # ms of all cores an image
        for turn in range(arguments.rounds + 1):
            names = list(programs)[:: -1 if turn % 2 else 1]
            found = {}
            for name in names:
                start = time.process_time()
                speed, found[name] = programs[name]()
                work = 1000 * (time.process_time() - start) / len(items)
                print(f"turn {turn}, {name}: {speed:.2f} images/s", flush=True)
                if turn:  # the first fills caches
                    speeds[name].append(speed)
                    worked[name].append(work)
            if len(set(found.values())) > 1:
                raise SystemExit(f"detect.py: the programs found different things: {found}")

    first = next(iter(speeds))
    table = Table("", "images/s", f"of {first}", "each turn", "work, ms an image", f"of {first}")
    for name, each in speeds.items():
        ratios = [speed / base for speed, base in zip(each, speeds[first])]
        work = [own / base for own, base in zip(worked[name], worked[first])]
        table.add_row(
            name, f"{statistics.median(each):.2f}", f"{statistics.median(ratios):.3f}",
            ", ".join(f"{ratio:.2f}" for ratio in ratios), f"{statistics.median(worked[name]):.1f}",
            f"{statistics.median(work):.3f}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{len(items)} images, {found[first]} detections of score {_SCORE:g} or more in each")


if __name__ == "__main__":
    main()
