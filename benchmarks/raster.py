"""Time, bytes read and peak memory of one large raster with objects in 1% of it: by windows, read whole, by slices.

    python benchmarks/raster.py --sides 5000 10000 20000 40000 --folder /tmp/rasters

Each raster is a GeoTIFF file in JPEG tiles with overviews: a textured ground with red discs of 24 to 48 px, ten in each
of the patches of 512x512 px that make 1% of its area. All methods use one detector, which costs little (threshold and
connected components), so the table is about reading. Each runs in a process of its own:

- windows: the cascade (scales 1/8 and 1, weak focus) on the file by windows, as `autofocus detect` reads it;
- whole: the same cascade on the decoded image;
- everything: the same scales by windows without a focus (the pyramid);
- supervision: `InferenceSlicer` on the open rasterio data set, slices of 1024 px that overlap by 128 px, NMS.

"MB read" are the bytes that the process asked the file system for (Linux's /proc/self/io, rchar) after the imports;
"peak" is the largest resident memory of the process (VmHWM). "found" counts true discs that a detection meets at IoU
0.5, "same" the detections of "everything" that are found at IoU 0.9, "more" the detections that meet no disc.
Needs the extra `raster`; the row of supervision needs supervision.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from autofocus_jax.boxes import iou
from autofocus_jax.data.image import limit_pixels
from autofocus_jax.files import write_text
from autofocus_jax.foreign.proposal import of_scales
from autofocus_jax.inference.model import load

METHODS = ("windows", "whole", "everything", "supervision")
PATCH, BLOCK, OBJECTS = 512, 2048, 10  # px, px, discs of a patch


@dataclasses.dataclass(frozen=True)
class Options:
    sides: tuple[int, ...] = (5000, 10000)
    """of the rasters, px"""
    folder: Path = Path("rasters")
    """where they are written, and kept"""
    methods: tuple[str, ...] = METHODS
    """of windows, whole, everything, supervision"""
    here: str | None = None
    """run this method on the first side in this process, and print JSON; what the processes are started with"""


def discs(side: int) -> np.ndarray:
    """Centres and radii of the discs, px [n, 3]."""
    random = np.random.default_rng(side)
    cells = side // PATCH
    patches = random.choice(cells * cells, max(1, round(0.01 * (side / PATCH) ** 2)), replace=False)
    origin = np.stack([patches % cells, patches // cells], 1).repeat(OBJECTS, 0) * PATCH
    places = np.tile(np.stack(np.meshgrid(np.arange(4), np.arange(3)), -1).reshape(-1, 2)[:OBJECTS], (len(patches), 1))
    shift = random.uniform(0, 40, (len(origin), 2))
    return np.column_stack([origin + 44 + 120 * places + shift, random.uniform(12, 24, len(origin))])


def write_raster(path: Path, side: int) -> None:
    """Write the raster of a side, block by block."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(60, 140, (BLOCK // 8, BLOCK // 8, 3), np.uint8), (BLOCK, BLOCK))
    ground[..., 0] //= 2
    ground = np.clip(ground + random.normal(0, 4, ground.shape), 0, 255).astype(np.uint8)
    shape = {"count": 3, "height": side, "width": side, "dtype": "uint8"}
    form = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "jpeg", "photometric": "ycbcr",
            "crs": "EPSG:32633", "transform": rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6),
            "BIGTIFF": "IF_SAFER"}  # fmt: skip
    every = discs(side)
    draft = path.with_suffix(".draft")
    with rasterio.open(draft, "w", driver="GTiff", **shape, **form) as file:
        for y in range(0, side, BLOCK):
            for x in range(0, side, BLOCK):
                block = ground[: side - y, : side - x].copy()
                for cx, cy, radius in every[(abs(every[:, :2] - (x + BLOCK / 2, y + BLOCK / 2)) < BLOCK).all(1)]:
                    cv2.circle(block, (round(16 * (cx - x)), round(16 * (cy - y))), round(16 * radius), (220, 50, 40),
                               -1, cv2.LINE_AA, 4)  # fmt: skip
                file.write(block.transpose(2, 0, 1), window=Window(x, y, block.shape[1], block.shape[0]))
    with rasterio.Env(COMPRESS_OVERVIEW="JPEG", PHOTOMETRIC_OVERVIEW="YCBCR"), rasterio.open(draft, "r+") as file:
        file.build_overviews([2**level for level in range(1, 9) if side >> level >= 128], Resampling.average)
    draft.rename(path)


def find(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The detector: boxes xyxy px, scores and labels of red spots, scored by their redness."""
    red = image[..., 0].astype(np.int16) - np.maximum(image[..., 1], image[..., 2])
    count, marks, stats, _ = cv2.connectedComponentsWithStats((red > 40).astype(np.uint8), connectivity=8)
    stats = stats[1:]
    strength = np.bincount(marks.ravel(), np.clip(red, 0, None).ravel(), count)[1:] / np.maximum(1, stats[:, 4])
    kept = stats[:, 4] >= 4
    x, y, width, height = stats[kept, :4].T.astype(np.float64)
    return np.stack([x, y, x + width, y + height], 1), np.clip(strength[kept] / 180, 0, 1), np.zeros(kept.sum(), int)


def cascade(path: Path, side: int, method: str) -> np.ndarray:
    """Boxes [n, 4] by the cascade."""
    import rasterio.windows

    plan = of_scales([side // 8, side], side)
    plan = dataclasses.replace(plan, stacking=dataclasses.replace(plan.stacking, max_detections=20000))
    if method == "everything":
        plan = plan.pyramid()
    model = load(detector=find, categories=["disc"], plan=plan)
    if method != "whole":
        limit_pixels(2**20)
        return model(path, score=0.1).boxes
    with rasterio.open(path) as file:
        image = np.empty((side, side, 3), np.uint8)
        for y in range(0, side, BLOCK):
            rows = file.read((1, 2, 3), window=rasterio.windows.Window(0, y, side, min(BLOCK, side - y)))
            image[y : y + BLOCK] = rows.transpose(1, 2, 0)
    return model(image, score=0.1).boxes


def slices(path: Path) -> np.ndarray:
    """Boxes [n, 4] by supervision's slicer."""
    import rasterio
    import supervision

    def callback(tile: np.ndarray) -> Any:
        boxes, scores, labels = find(tile)
        return supervision.Detections(boxes, confidence=scores, class_id=labels)

    slicer = supervision.InferenceSlicer(callback, slice_wh=1024, overlap_wh=128, iou_threshold=0.5)
    with rasterio.open(path) as file:
        return slicer(file).xyxy


def run_here(path: Path, side: int, method: str) -> dict[str, Any]:
    """Run a method and return its numbers and boxes."""
    import rasterio  # noqa: F401  not counted

    before, begin = _read_so_far(), time.perf_counter()
    boxes = slices(path) if method == "supervision" else cascade(path, side, method)
    seconds = time.perf_counter() - begin
    peak = 1024 * _kernel_says("status", "VmHWM") / 1e9
    return {"seconds": seconds, "mb": (_read_so_far() - before) / 1e6, "gb": peak, "boxes": boxes.tolist()}


def _read_so_far() -> int:
    return _kernel_says("io", "rchar")


def _kernel_says(file: str, name: str) -> int:
    return int(Path(f"/proc/self/{file}").read_text().split(f"{name}:")[1].split()[0])


def met(wanted: np.ndarray, boxes: np.ndarray, least: float) -> int:
    """Number of the wanted boxes that one of `boxes` meets at that IoU."""
    return sum(
        int((iou(wanted[i : i + 500], boxes).max(1, initial=0) >= least).sum()) for i in range(0, len(wanted), 500)
    )


def main(options: Options) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.here:
        side = options.sides[0]
        print(json.dumps(run_here(options.folder / f"{side}.tif", side, options.here)))
        return
    table = Table("side, px", "method", "seconds", "MB read", "peak, GB", "found", "same", "more")
    for side in options.sides:
        path = options.folder / f"{side}.tif"
        if not path.exists():
            write_raster(path, side)
        truth = discs(side)
        truth = np.column_stack([truth[:, :2] - truth[:, 2:], truth[:, :2] + truth[:, 2:]])
        ends = {}
        for method in options.methods:
            if method == "supervision" and importlib.util.find_spec("supervision") is None:
                continue
            command = [
                sys.executable,
                __file__,
                "--sides",
                str(side),
                "--folder",
                str(options.folder),
                "--here",
                method,
            ]
            ends[method] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for method, end in ends.items():
            boxes = np.array(end["boxes"]).reshape(-1, 4)
            every = np.array(ends["everything"]["boxes"]).reshape(-1, 4) if "everything" in ends else None
            table.add_row(str(side), method, f"{end['seconds']:.1f}", f"{end['mb']:.1f}", f"{end['gb']:.2f}",
                          f"{met(truth, boxes, 0.5)} of {len(truth)}",
                          "" if every is None else f"{met(every, boxes, 0.9)} of {len(every)}",
                          str(len(boxes) - met(boxes, truth, 0.5)))  # fmt: skip
        write_text(options.folder / f"{side}.json", json.dumps(ends))
        Console(width=120).print(f"{side} px: {path.stat().st_size / 1e6:.0f} MB on disk")
    Console(width=120).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
