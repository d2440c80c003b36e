"""Images and boxes in YOLO's format: a text file of boxes for each image, as shares of the image's sides."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml

from autofocus_jax.config import DataSource
from autofocus_jax.data.annotations import AnnotatedImages, AnnotationError, pixels, read_lines, refuse
from autofocus_jax.data.image import SUFFIXES, image_size, read_image
from autofocus_jax.data.problems import BAD_BOX, BAD_FILE, NO_IMAGE, UNKNOWN_CATEGORY, UNREADABLE, Report
from autofocus_jax.structures import GroundTruth, ImageError, ImageInfo

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_CLASSES = ("classes.txt", "labels/classes.txt", "obj.names")


@dataclasses.dataclass(frozen=True)
class YoloSource(DataSource):
    """A folder of images/ and labels/ with a folder for each split, or a data.yaml that says where the images are.

    root: the folder, or the .yaml file. Class names come from the .yaml file's `names`, or from classes.txt. Beside a
    folder images/ lies a folder labels/ that is laid out alike, with lines `class cx cy w h` or `class x1 y1 x2 y2 x3
    y3 …` (a polygon, whose box is taken). An image without a text file has no objects. Boxes belong to the image as it
    is shown, so the orientation tag of a camera is followed, as YOLO's own programs do.
    """

    root: str

    def open(self, split: str) -> AnnotatedImages:
        """Reads the labels and the heads of the images.

        A file in ignore/, which lies beside labels/, holds ignore regions: the format has no flag for them, and other
        programs do not look there. Raises AnnotationError naming the file and line that is missing or malformed. An
        image whose size cannot be read is kept without boxes, for image() to complain about; they count as dropped.
        """
        return self.open_tolerant(split, refuse)

    def open_tolerant(self, split: str, report: Report) -> AnnotatedImages:
        """As open, but `report` hears of text files that cannot be read and of lines that are wrong.

        When it returns, the image of such a file is left out, and such a line too; one of an unknown class is an ignore
        region.
        """
        root = Path(self.root).expanduser()
        layout = _layout(root)
        folder = root if root.is_dir() else root.parent
        categories = _names(folder, layout)
        files, whole = _split_files(folder, layout, split)
        if files and not any(_beside(file, "labels").is_file() for file in files):
            first = _beside(files[0], "labels")
            raise AnnotationError(f"not one image of {split!r} has a file of labels, as {first}; check the folders")
        infos, paths, owner, rows, ignore, dropped = [], [], [], [], [], 0
        noticed = [(NO_IMAGE, f"{path} belongs to no image") for path in _orphans(files, whole)]
        for file in files:
            parts = [_rows(_beside(file, room), len(categories), report) for room in ("labels", "ignore")]
            if any(part is None for part in parts):
                continue
            try:
                height, width = image_size(file, oriented=True)
            except ImageError as error:
                height, width = 1, 1
                dropped += sum(len(part) for part in parts)
                noticed.append((UNREADABLE, str(error)))
                parts = []
            for part, flag in zip(parts, (False, True)):
                owner += [len(infos)] * len(part)
                rows += part
                ignore += [flag or row[0] < 0 for row in part]
            infos.append(ImageInfo(len(infos) + 1, file.name, height, width))
            paths.append(file)
        labels, centres, sides = (np.array(rows, np.float64).reshape(-1, 5)[:, part] for part in _COLUMNS)
        shares = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
        sizes = np.array([info[2:] for info in infos], np.float64).reshape(-1, 2)[np.array(owner, np.int64)]
        boxes = pixels(shares, sizes[:, 0], sizes[:, 1])
        labels = np.maximum(labels, 0)
        return AnnotatedImages(categories, infos, paths, owner, boxes, labels, ignore, _read, dropped, noticed)


_COLUMNS = (0, slice(1, 3), slice(3, 5))


def write_yolo(
    root: str | os.PathLike,
    split: str,
    infos: Sequence[ImageInfo],
    categories: Sequence[str],
    ground_truths: Iterable[GroundTruth],
) -> None:
    """Writes labels/SPLIT/, ignore/SPLIT/ for images with ignore regions, and data.yaml; images go to images/SPLIT/.

    Nine decimals: YoloSource reads boxes back to 4 decimals of a pixel. The file names' stems must differ.
    """
    root = Path(root)
    for info, truth in zip(infos, ground_truths, strict=True):
        sides = np.array([info.width, info.height], np.float64)
        low, high = truth.boxes[:, :2] / sides, truth.boxes[:, 2:] / sides
        rows = np.concatenate([(low + high) / 2, high - low], axis=1)
        lines = [f"{label} " + " ".join(f"{v:.9f}" for v in row) + "\n" for label, row in zip(truth.labels, rows)]
        for room, chosen in (("labels", ~truth.ignore), ("ignore", truth.ignore)):
            path = root / room / split / f"{Path(info.file_name).stem}.txt"
            if room == "labels" or chosen.any():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(line for line, take in zip(lines, chosen) if take), encoding="utf-8")
    path = root / "data.yaml"
    layout = _layout(path) if path.exists() else {"path": "."}
    layout |= {split: f"images/{split}", "names": dict(enumerate(categories))}
    path.write_text(yaml.safe_dump(layout, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _layout(root: Path) -> dict:
    """What a .yaml file says; {} where there is none in the folder."""
    path = root
    if root.suffix.lower() not in (".yaml", ".yml"):
        path = next((root / name for name in _YAML if (root / name).is_file()), None)
        if path is None:
            if not root.is_dir():
                raise AnnotationError(f"{root} is no folder; give a folder of YOLO's layout or its data.yaml")
            return {}
    try:
        layout = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise AnnotationError(f"{path} is not YAML ({reason}); give YOLO's data.yaml") from None
    if not isinstance(layout, dict):
        raise AnnotationError(f"{path} holds a {type(layout).__name__}; want names, train and val as YOLO's data.yaml")
    return layout


def _names(folder: Path, layout: dict) -> tuple[str, ...]:
    names = layout.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if names is None:
        path = next((folder / name for name in _CLASSES if (folder / name).is_file()), None)
        names = read_lines(path) if path else None
    if not isinstance(names, list) or not names:
        raise AnnotationError(
            f"{folder} names no classes; write `names: [first, second]` into data.yaml, or classes.txt with one a line"
        )
    return tuple(str(name) for name in names)


def _split_files(folder: Path, layout: dict, split: str) -> tuple[list[Path], list[Path]]:
    """The images of a split, sorted, and the folders of which it takes all images.

    "val" is also looked for as "valid", as some programs write it.
    """
    names = [split, "valid", "validation"] if split == "val" else [split]
    named = next((layout[name] for name in names if layout.get(name)), None)
    if named is None:
        candidates = [Path(pattern.format(name)) for name in names for pattern in ("images/{}", "{}/images")]
        named = next((str(path) for path in candidates if (folder / path).is_dir()), None)
        if named is None:
            raise AnnotationError(
                f"{folder} has no split {split!r}; want the folder images/{split} or a line in data.yaml"
            )
    files, whole = [], []
    for entry in named if isinstance(named, list) else [named]:
        path = _found(folder, str(layout.get("path") or "."), str(entry))
        if path.is_dir():
            files += (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            whole.append(path)
        elif path.suffix == ".txt":
            files += (_found(path.parent, ".", line) for line in read_lines(path))
        else:
            raise AnnotationError(f"{path} is no folder of images and no .txt list of them; mend data.yaml's {split!r}")
    return sorted(set(files)), whole


def _found(folder: Path, base: str, entry: str) -> Path:
    """A path of data.yaml; programs disagree on what it is relative to, so the first that exists is taken."""
    base, inner = Path(base).expanduser(), entry
    while inner.startswith("../"):
        inner = inner.removeprefix("../")
    candidates = [folder / base / entry, folder / entry, folder / inner]
    return next((path for path in candidates if path.exists()), candidates[0])


def _beside(image: Path, room: str) -> Path:
    """The text file of an image: the last folder `images` of its path becomes `room`."""
    parts = list(image.with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = room
        return Path(*parts)
    return image.with_suffix(".txt") if room == "labels" else image.parent / room / f"{image.stem}.txt"


def _orphans(files: list[Path], whole: list[Path]) -> list[Path]:
    """Text files of labels below folders that hold the split alone, which have no image.

    Only folders called labels, as images and lists of other things may lie together elsewhere.
    """
    known = {_beside(file, "labels") for file in files}
    rooms = {_beside(folder / "any", "labels").parent for folder in whole if "images" in folder.parts}
    return sorted(
        path for room in rooms for path in room.rglob("*.txt") if path not in known and path.name != "classes.txt"
    )  # fmt: skip


def _rows(path: Path, classes: int, report: Report) -> list[tuple[float, ...]] | None:
    """(class, cx, cy, w, h) of each line, class -1 for an unknown one; [] for a file that is not there.

    None for a file that cannot be read.
    """
    if not path.is_file():
        return []
    try:
        lines = read_lines(path)
    except AnnotationError as error:
        report(BAD_FILE, *str(error).split("; ", 1))
        return None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            label, *values = (float(word) for word in line.split())
        except ValueError:
            label, values = math.nan, []
        polygon = len(values) >= 6 and len(values) % 2 == 0
        if not (len(values) == 4 or polygon) or not all(abs(value) <= 2 for value in values):
            wanted = "want a class and cx cy w h, or the corners of a polygon, as shares of the image's sides"
            report(BAD_BOX, f"{path}, line {number}: {line[:80]!r}", f"{wanted} between 0 and 1")
            continue
        if label not in range(classes):
            what = f"{path}, line {number}: class {line.split()[0]}"
            report(UNKNOWN_CATEGORY, what, f"data.yaml names 0 to {classes - 1}")
            label = -1
        if polygon:
            x, y = values[0::2], values[1::2]
            values = [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]
        rows.append((label, *values))
    return rows


def _read(path: Path, height: int, width: int) -> np.ndarray:
    image = read_image(path, oriented=True)
    if image.shape[:2] != (height, width):
        raise ImageError(f"image {path} is not the {width}x{height} px that its head says; save it anew")
    return image
