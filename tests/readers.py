"""Every reader of files that others wrote, with good files to begin with, for test_bad_files.py and fuzz.py.

A reader is given a folder in which one file, its target, is bad. It either reads on or raises an AutoFocusError of one
line.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from autofocus_jax import files
from autofocus_jax.batch.images import images
from autofocus_jax.batch.plan import plan
from autofocus_jax.batch.storage import Folder
from autofocus_jax.command import area_file, buckets, names, plan_file, video
from autofocus_jax.command.detection_run import Source
from autofocus_jax.command.inputs import Item
from autofocus_jax.config import StackingConfig, load, stored
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.findings import Findings
from autofocus_jax.data.image import decode_image, image_size, read_image
from autofocus_jax.data.inspection import inspect
from autofocus_jax.data.raster import Raster, place_of
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference import pieces
from autofocus_jax.structures import AutoFocusError, Scale, ValidRange
from autofocus_jax.training import proposals
from autofocus_jax.weights import mxnet, pickled, safetensors
from autofocus_jax.weights.variables import trained_with

PICTURE = cv2.resize(
    np.random.default_rng(0).integers(0, 255, (10, 15, 3), np.uint8), (60, 40), interpolation=cv2.INTER_CUBIC
)
ROOT = Path(__file__).parent


class Reader(NamedTuple):
    """read(folder) reads the target; `around` are the files beside it, by path below the folder."""

    target: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    around: Mapping[str, bytes] = {}

    def put(self, folder: Path, content: bytes) -> None:
        """Make the folder, with `content` as the target."""
        for name, data in {**self.around, self.target: content}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def encoded(form: str, picture: np.ndarray = PICTURE, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    return file.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG", quality=90)
EXIF = Image.Exif()
EXIF[274] = 6
IMAGES = {
    "jpg": (JPEG, encoded("JPEG", progressive=True, exif=EXIF), encoded("JPEG", PICTURE[..., 0], restart_marker_rows=1),
            encoded("JPEG", PICTURE, subsampling=0, keep_rgb=True)),
    "png": (PNG, encoded("PNG", np.dstack([PICTURE, PICTURE[..., 0]])), encoded("PNG", PICTURE[..., 0] > 99),
            encoded("PNG", PICTURE[..., 0].astype(np.uint16) * 257)),
    "gif": (encoded("GIF"),),
    "webp": (encoded("WEBP"), encoded("WEBP", lossless=True, exif=EXIF)),
    "bmp": (encoded("BMP"), encoded("BMP", PICTURE[..., 0])),
    "tif": (encoded("TIFF"), encoded("TIFF", compression="tiff_deflate"), encoded("TIFF", PICTURE[..., 0] > 99),
            cv2.imencode(".tiff", PICTURE.astype(np.uint16) * 257)[1].tobytes()),
    "jp2": (encoded("JPEG2000"),),
    "avif": (encoded("AVIF"), encoded("AVIF", exif=EXIF)),
    "ppm": (encoded("PPM"), b"P2 3 2 255 1 2 3 4 5 6\n"),
}  # fmt: skip

COCO = json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}, {"id": 2, "file_name": "b.png", "height": 40,
                                                                         "width": 60}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0, "area": 400.0},
                    {"id": 2, "image_id": 2, "category_id": 7, "bbox": [1.5, 5, 9, 9], "iscrowd": 1,
                     "segmentation": {"size": [40, 60], "counts": [1, 2]}}],
}).encode()  # fmt: skip
XML = b"""<annotation><filename>a.png</filename><size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>21</ymax>
</bndbox></object></annotation>"""
YAML = b"path: .\ntrain: images/train\nval: images/train\nnames:\n  0: cat\n  1: 'no'\n"
PLAN = Plan((Scale(32, 48, ValidRange(0, np.inf), None),), Loose(), StackingConfig())
CONFIG = json.dumps({"name": "tiny", "detector": {"num_classes": 2, "backbone": {"units": [1, 1, 1, 1]}}}).encode()


def opened(source, split: str = "train") -> dict[str, int]:
    """Read a data set as inspect and training do; returns what was counted."""
    found = Findings()
    dataset = source.open_tolerant(split, found.report)
    inspect(dataset, found, decode=True)
    found.lines()
    return found.counts()


def read_picture(path: Path) -> None:
    try:
        size = image_size(path, oriented=True)
    except AutoFocusError:
        size = None
    shape = read_image(path, oriented=True).shape[:2]
    assert size == shape, f"image_size says {size}, the picture has {shape}"
    content = path.read_bytes()
    assert decode_image(content, "bytes").size == 3 * shape[0] * shape[1]


def read_table(folder: Path) -> list[str]:
    """All images of a batch input; every row is an image or a reason of one line. Returns the reasons."""
    planned, reasons = plan(str(folder), 4), []
    for piece in planned.pieces:
        for name, read in images(Folder(planned.folder), piece):
            name.encode()
            try:
                read()
            except AutoFocusError as error:
                assert "\n" not in str(error), error
                reasons.append(str(error))
    return reasons


def read_video(folder: Path) -> None:
    video.video_info(folder / "target.mp4")
    for _ in itertools.islice(video.frames(folder / "target.mp4"), 20):
        pass


def read_proposals(folder: Path) -> None:
    dataset = CocoSource(str(folder), "a.json", ".").open("train")
    of_image = proposals.read(folder / "target.npz", dataset)
    for index in range(len(dataset)):
        of_image(index)


def read_training(folder: Path) -> None:

    trained_with(folder)


def read_weights_of_others(folder: Path) -> None:
    from autofocus_jax.weights import torch  # imports JAX, too

    torch.read_safetensors(folder / "target.safetensors")


def read_tensors(folder: Path) -> None:
    pickled.read(folder / "target.pth")


def read_weights(folder: Path) -> None:
    path = folder / "target.safetensors"
    _, metadata = safetensors.load(path)
    stored.from_dict(metadata["config"], {}, str(path))


def shard(form: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=form) as tar:
        for name, content in (("a.png", PNG), ("b" * 150 + ".jpg", JPEG), ("notes.txt", b"no image")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def table(**columns) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def film(folder: Path) -> bytes:
    writer = video.VideoWriter(folder / "film.mp4", 32, 48, 5.0)
    for value in (20, 90, 200):
        writer.add(np.full((32, 48, 3), value, np.uint8))
    writer.close()
    return (folder / "film.mp4").read_bytes()


def archive(folder: Path, **arrays) -> bytes:
    return files.write_npz(folder / "a.npz", arrays).read_bytes()


def readers(scratch: Path) -> dict[str, Reader]:
    """All of them by name; `scratch` is a folder for what can only be made in files."""
    both = {"a.png": PNG, "b.png": PNG}
    yolo = {"data.yaml": YAML, "images/train/a.png": PNG, "labels/train/a.txt": b"0 .5 .5 .2 .2\n1 .1 .1 .1 .1\n"}
    voc = {"Annotations/a.xml": XML, "ImageSets/Main/train.txt": b"a\n", "JPEGImages/a.png": PNG}
    without = lambda files, name: {key: value for key, value in files.items() if key != name}  # noqa: E731
    yolo_reader = lambda name, *seeds: Reader(  # noqa: E731
        name, seeds or (yolo[name],), lambda folder: opened(YoloSource(str(folder))), without(yolo, name)
    )
    voc_reader = lambda name, *seeds: Reader(  # noqa: E731
        name, seeds or (voc[name],), lambda folder: opened(VocSource(str(folder))), without(voc, name)
    )
    coco = lambda name: lambda folder: opened(CocoSource(str(folder), name, "."))  # noqa: E731
    weights = {"params": {"rpn": {"kernel": np.ones((3, 2), np.float32)}}}
    config = load.to_dict(load.load_config(ROOT.parent / "configs" / "demo.py"))
    safetensors.save(scratch / "w.safetensors", weights, config, {"categories": ["a"]})
    proposals.write(scratch / "p.npz", [np.ones((2, 4), np.float32)] * 2, _two(scratch), {"weights": "x"})
    pieces.save(scratch / "piece.npz", pieces.Piece([], [], None, 1.0, [pieces.Skipped(0, "a.png", "bad")]))
    own = (scratch / "w.safetensors").read_bytes()
    shards = (shard(), shard("w:gz"))
    tables = (table(id=["x", "y"], image=[PNG, JPEG]), table(path=["a.png", "../b.png", "/dev/zero"]),
              table(image=[{"bytes": PNG, "path": None}, {"bytes": None, "path": "a.png"}]))  # fmt: skip
    return {
        **{f"picture .{suffix}": Reader(f"target.{suffix}", seeds, lambda folder, suffix=suffix:
                                        read_picture(folder / f"target.{suffix}"))
           for suffix, seeds in IMAGES.items()},
        "COCO": Reader("a.json", (COCO,), coco("a.json"), both),
        "COCO, packed": Reader("a.json.gz", (gzip.compress(COCO),), coco("a.json.gz"), both),
        "COCO's picture": Reader("a.png", (PNG,), coco("a.json"), {"b.png": PNG, "a.json": COCO}),
        "VOC": voc_reader("Annotations/a.xml"),
        "VOC's list": voc_reader("ImageSets/Main/train.txt"),
        "VOC's labels": voc_reader("labels.txt", b"cat\ndog\n"),
        "VOC's picture": voc_reader("JPEGImages/a.png"),
        "YOLO's labels": yolo_reader("labels/train/a.txt", yolo["labels/train/a.txt"], b"0 .1 .1 .5 .1 .5 .6 .1 .9\n"),
        "YOLO's data.yaml": yolo_reader("data.yaml"),
        "YOLO's picture": yolo_reader("images/train/a.png"),
        "YOLO's classes": Reader("classes.txt", (b"cat\n\ndog\n",), lambda folder: opened(YoloSource(str(folder))),
                                 without(yolo, "data.yaml")),
        "YOLO's list": Reader("list.txt", (b"images/train/a.png\n",), lambda folder: opened(YoloSource(str(folder))),
                              {**yolo, "data.yaml": b"train: list.txt\nnames: [cat, dog]\n"}),
        "names, lines": Reader("target.txt", (b"cat\ndog\n",), lambda folder: names.read_names(folder / "target.txt")),
        "names, COCO": Reader("target.json", (COCO,), lambda folder: names.read_names(folder / "target.json")),
        "weights": Reader("target.safetensors", (own,), read_weights),
        "weights of others": Reader("target.safetensors", (own,),
                                    read_weights_of_others),
        "PyTorch's weights": Reader("target.pth", [(ROOT / f"golden/state_{form}.pth").read_bytes() for form in
                                                   ("zip", "old")], read_tensors),
        "MXNet's weights": Reader("target.params", ((ROOT / "golden/format_check.params").read_bytes(),),
                                  lambda folder: mxnet.read(folder / "target.params")),
        "a training's config": Reader("config.json", (CONFIG,), read_training),
        "a plan": Reader("target.json", (plan_file.plan_text(PLAN).encode(),),
                         lambda folder: plan_file.read_plan(folder / "target.json")),
        **{f"an area, {name}": Reader(name, seeds, lambda folder, name=name: read_area(folder / name))
           for name, seeds in AREAS.items()},
        "chips": Reader("target.json", (b'{"chips": [[64, 96, 3], [32, 32, 9]]}',),
                        lambda folder: buckets.read_chips(folder / "target.json")),
        "proposals": Reader("target.npz", ((scratch / "p.npz").read_bytes(),), read_proposals, {"a.json": COCO}),
        "a piece": Reader("target.npz", ((scratch / "piece.npz").read_bytes(),),
                          lambda folder: pieces.load(folder / "target.npz")),
        "a video": Reader("target.mp4", (film(scratch),), read_video),
        "a raster": Reader("target.tif", (tiles("deflate"), tiles(None)), read_raster),
        "a shard": Reader("target.tar", shards[:1], read_table),
        "a packed shard": Reader("target.tar.gz", shards[1:], read_table),
        "a Parquet file": Reader("target.parquet", tables, read_table),
    }  # fmt: skip


def tiles(compress: str | None) -> bytes:
    """A georeferenced TIFF file in tiles with an overview."""
    import rasterio

    picture = cv2.resize(PICTURE, (300, 200)).transpose(2, 0, 1)
    shape = {"count": 3, "height": 200, "width": 300, "dtype": "uint8"}
    form = {"tiled": True, "blockxsize": 64, "blockysize": 64, "crs": "EPSG:32633", "photometric": "rgb",
            "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6)}  # fmt: skip
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **shape, **form, **({"compress": compress} if compress else {})) as file:
            file.write(picture)
            file.build_overviews([2], rasterio.enums.Resampling.average)
        return memory.read()


def read_raster(folder: Path) -> None:
    """Read a coarse level and a window, and look up the place."""
    found = Raster(folder / "target.tif")
    height, width, _ = found.shape
    found.read((0, 0, width, height), (min(height, 20), min(width, 30)))
    found.read((width // 2, height // 2, width, height), (min(64, height - height // 2), min(64, width - width // 2)))
    place_of(folder / "target.tif")


def saved(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


_RING = [[5, 5], [50, 5], [50, 30], [5, 30], [5, 5]]
_HOLE = [[9, 9], [12, 9], [12, 12], [9, 9]]
_POLYGON = {"type": "Polygon", "coordinates": [_RING, _HOLE]}
AREAS = {
    "area.json": (b"[[1, 2, 30, 35], [0.5, 0, 60, 40]]", b"[]"),
    "area.geojson": (
        json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": _POLYGON}]}).encode(),
        json.dumps({"type": "MultiPolygon", "coordinates": [[_RING]]}).encode(),
    ),
    "area.npy": (saved(np.eye(4, 6, dtype=np.float32)), saved(np.ones((40, 60), bool))),
    "area.png": (PNG,),
}


def read_area(path: Path) -> None:
    """Make the map of an image of 60x40 px."""
    item = Item(path.parent / "a.png", "a", "a.png", False)
    area_file.read_area(str(path), "only", [item]).map_of(Source(item, None, None), (40, 60))


def _two(folder: Path):
    (folder / "a.json").write_bytes(COCO)
    return CocoSource(str(folder), "a.json", ".").open("train")
