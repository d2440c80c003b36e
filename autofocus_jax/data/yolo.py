"""Images and boxes in YOLO's format: a text file for each image, with boxes as shares of the image's sides."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autofocus_jax.data.annotations import (
    AnnotatedImages,
    AnnotatedSource,
    AnnotationError,
    pixels,
    read_classes,
    read_lines,
    read_text,
)
from autofocus_jax.data.findings import KEYPOINTS, NO_IMAGE, NO_LABELS, UNREADABLE, Report
from autofocus_jax.data.image import SUFFIXES, image_size, read_image
from autofocus_jax.data.reading import Listings, walk
from autofocus_jax.data.yaml_text import texts_of
from autofocus_jax.data.yolo_lines import Classes, boxes_of, form_of, read_lines_or_report
from autofocus_jax.structures import GroundTruth, ImageError, ImageInfo

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_CLASSES = ("classes.txt", "labels/classes.txt", "obj.names")


@dataclasses.dataclass(frozen=True)
class YoloSource(AnnotatedSource):
    """A folder of images/ and labels/ with a folder for each split, or a data.yaml that says where the images are.

    - root: the folder, or the .yaml file. Class names come from `names` in the .yaml file, or from classes.txt.
    - The folder labels/ is laid out as images/ beside it. Lines are `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 …`
      (a polygon, whose box is taken). If the .yaml file has kpt_shape, keypoints follow the box.
    - An image without a text file has no objects.
    - A camera's orientation tag is followed, because YOLO's boxes belong to the image as shown.
    """

    root: str

    def open_tolerant(self, split: str, report: Report) -> AnnotatedImages:
        """Read the labels and the heads of the images, and report unreadable text files and wrong lines.

        If `report` returns, such files' images and such lines are left out. Lines of an unknown class become ignore
        regions. Labels of another task (yolo_lines.form_of) are always an error.

        A file in ignore/ beside labels/ holds ignore regions. The format has none, and other programs do not read that
        folder. An image whose size cannot be read is kept without boxes, so that image() raises the error; its boxes
        count as dropped.
        """
        root = Path(self.root).expanduser()
        layout, yaml_file = _layout(root)
        folder = root if root.is_dir() else root.parent
        categories, named_by = _names(folder, layout, yaml_file)
        files, whole = _split_files(folder, layout, split)
        beside = _labels_of(files, split)
        without = [file for file in files if beside[file][0] is None]
        noticed = [(NO_IMAGE, f"{path} belongs to no image") for path in _orphans(beside, whole)]
        noticed += [(NO_LABELS, f"{file}") for file in without]
        texts = {path: read_lines_or_report(path, report) for pair in beside.values() for path in pair if path}
        form = form_of(layout, [(path, lines) for path, lines in texts.items() if lines])
        known = Classes(len(categories), named_by)
        parent = _common(files, whole)
        infos: list[ImageInfo] = []
        paths: list[Path] = []
        owner: list[int] = []
        rows: list[Any] = []
        ignore: list[bool] = []
        dropped = 0
        for file in files:
            if any(path is not None and texts[path] is None for path in beside[file]):
                continue
            parts = [boxes_of(path, texts[path], form, known, report) if path else [] for path in beside[file]]
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
            infos.append(ImageInfo(len(infos) + 1, file.relative_to(parent).as_posix(), height, width))
            paths.append(file)
            if form.points and parts:
                noticed += [(KEYPOINTS, f"{beside[file][0]}, box {number}") for number in range(1, len(parts[0]) + 1)]
        labels, centres, sides = (np.array(rows, np.float64).reshape(-1, 5)[:, part] for part in _COLUMNS)
        shares = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
        sizes = np.array([info[2:] for info in infos], np.float64).reshape(-1, 2)[np.array(owner, np.int64)]
        boxes = pixels(shares, sizes[:, 0], sizes[:, 1])
        labels = np.maximum(labels, 0)
        return AnnotatedImages(
            categories,
            infos,
            paths,
            np.array(owner, np.int64),
            boxes,
            labels,
            np.array(ignore, bool),
            _read,
            dropped,
            noticed,
            oriented=True,
        )


def _labels_of(files: Sequence[Path], split: str) -> dict[Path, list[Path | None]]:
    """Return the files of labels and of ignore regions of each image, None where there is none."""
    listings = Listings()
    beside = {file: [listings.find(_beside(file, room)) for room in ("labels", "ignore")] for file in files}
    if files and all(labels is None for labels, _ in beside.values()):
        raise AnnotationError(
            f"not one of the {len(files)} images of {split!r} has a file of labels; {files[0]} wants "
            f"{_beside(files[0], 'labels')}. Check the folders; lines of a list are relative to the list's folder or "
            "to data.yaml's path"
        )
    return beside


_COLUMNS = (0, slice(1, 3), slice(3, 5))


def write_yolo(
    root: str | os.PathLike,
    split: str,
    infos: Sequence[ImageInfo],
    categories: Sequence[str],
    ground_truths: Iterable[GroundTruth],
) -> None:
    """Write labels/SPLIT/, ignore/SPLIT/ for images with ignore regions, and data.yaml.

    Images belong into images/SPLIT/. Nine decimals are written, so YoloSource reads boxes back to 4 decimals of a
    pixel. The stems of the file names must differ.
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
    layout = _layout(path)[0] if path.exists() else {"path": "."}
    layout |= {split: f"images/{split}", "names": dict(enumerate(categories))}
    path.write_text(yaml.safe_dump(layout, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _layout(root: Path) -> tuple[dict, Path | None]:
    """Return the content of a .yaml file, and the file; {} if the folder has none.

    Every value is text as written: YAML 1.1 would make booleans of the names on, off, yes and no.
    """
    path = root
    if root.suffix.lower() not in (".yaml", ".yml"):
        path = next((root / name for name in _YAML if os.path.lexists(root / name)), None)
        if path is None:
            if not root.is_dir():
                raise AnnotationError(f"{root} is no folder; give a folder of YOLO's layout or its data.yaml")
            return {}, None
    try:
        layout = texts_of(read_text(path))
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AnnotationError(f"{path} is not YAML ({reason}); give YOLO's data.yaml") from None
    if not isinstance(layout, dict):
        raise AnnotationError(f"{path} holds a {type(layout).__name__}; want names, train and val as YOLO's data.yaml")
    return layout, path


def _names(folder: Path, layout: dict, yaml_file: Path | None) -> tuple[tuple[str, ...], Path]:
    """Names of the classes, and the file that says them."""
    names, path = layout.get("names"), yaml_file
    if names in (None, ""):
        path = next((folder / name for name in _CLASSES if os.path.lexists(folder / name)), None)
        names = read_classes(path) if path else None
    if isinstance(names, dict):
        numbered = {int(key): name for key, name in names.items() if str(key).isdecimal() and len(key) < 7}
        missing = [number for number in range(max(numbered, default=0) + 1) if number not in numbered]
        if len(numbered) < len(names) or missing:
            fault = f"no name for class {missing[0]}" if missing else "keys that are no numbers"
            raise AnnotationError(
                f"{path}: names has {fault}; write one line `NUMBER: NAME` for each class from 0 to "
                f"{max(numbered, default=0)}"
            )
        names = [numbered[number] for number in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise AnnotationError(
            f"{folder} names no classes; write `names: [first, second]` into data.yaml, or classes.txt with one a line"
        )
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise AnnotationError(f"{path}: names holds a {type(wrong).__name__}; want a name for each class")
    return tuple(name or f"class {number} (unnamed)" for number, name in enumerate(names)), path


def _split_files(folder: Path, layout: dict, split: str) -> tuple[list[Path], list[Path]]:
    """The images of a split, sorted, and the folders of which it takes all images.

    "val" is also looked for as "valid", as some programs write it.
    """
    names = [split, "valid", "validation"] if split == "val" else [split]
    named = next((layout[name] for name in names if layout.get(name)), None)
    if named is None:
        candidates = [Path(pattern.format(name)) for name in names for pattern in ("images/{}", "{}/images")]
        named = next((str(path) for path in candidates if os.path.isdir(folder / path)), None)
        if named is None:
            raise AnnotationError(
                f"{folder} has no split {split!r}; want the folder images/{split}, or a line `{split}: FOLDER` in "
                "data.yaml"
            )
    files, whole, base = [], [], str(layout.get("path") or ".")
    for entry in named if isinstance(named, list) else [named]:
        path = _found(folder, base, str(entry))
        if os.path.isdir(path):
            files += walk(path, SUFFIXES)
            whole.append(path)
        elif path.suffix == ".txt":
            files += _of_list(path, folder / os.path.expanduser(base), read_lines(path))
        else:
            raise AnnotationError(f"{path} is no folder of images and no .txt list of them; mend data.yaml's {split!r}")
    return sorted({Path(os.path.normpath(file)) for file in files}), whole


def _of_list(path: Path, base: Path, lines: list[str]) -> list[Path]:
    """The images of a list, whose lines are relative to the folder of the list or to `path` of data.yaml.

    Programs disagree, so the folder is taken in which the first line is there.
    """
    for folder in (path.parent, base, *path.parents[1:3]):
        if lines and os.path.exists(folder / lines[0]):
            return [folder / line for line in lines]
    return [_found(path.parent, ".", line) for line in lines]


def _common(files: list[Path], whole: list[Path]) -> Path:
    """The folder that the names of images are relative to."""
    parents = {os.path.normpath(folder) for folder in whole}
    parents |= {str(file.parent) for file in files if not any(file.is_relative_to(folder) for folder in parents)}
    return Path(os.path.commonpath(parents)) if parents else Path()


def _found(folder: Path, base: str, entry: str) -> Path:
    """A path of data.yaml; programs disagree on what it is relative to, so the first that exists is taken."""
    inner = entry
    while inner.startswith("../"):
        inner = inner.removeprefix("../")
    candidates = [folder / os.path.expanduser(base) / entry, folder / entry, folder / inner]
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def _beside(image: Path, room: str) -> Path:
    """The text file of an image: the last folder `images` of its path becomes `room`."""
    text = Path(f"{os.path.splitext(image)[0]}.txt")
    parts = list(text.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = room
        return Path(*parts)
    return text if room == "labels" else text.parent / room / text.name


def _orphans(beside: dict[Path, list[Path | None]], whole: list[Path]) -> list[Path]:
    """Text files of labels below folders that hold the split alone, which have no image.

    Only folders called labels, as images and lists of other things may lie together elsewhere.
    """
    known = {Path(os.path.normpath(path)) for pair in beside.values() for path in pair if path}
    rooms = {_beside(folder / "any", "labels").parent for folder in whole if "images" in folder.parts}
    texts = (Path(os.path.normpath(path)) for room in rooms if room.is_dir() for path in walk(room, (".txt",)))
    return sorted(path for path in texts if path not in known and path.name != "classes.txt")


def _read(path: Path, height: int, width: int) -> np.ndarray:
    image = read_image(path, oriented=True)
    if image.shape[:2] != (height, width):
        raise ImageError(f"image {path} is not the {width}x{height} px that its head says; save it anew")
    return image
