"""Images and boxes in PASCAL VOC's format: an XML file for each image, and lists of names that make the splits."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from autofocus_jax.config import DataSource
from autofocus_jax.data.annotations import AnnotatedImages, AnnotationError, fill, read_lines, refuse
from autofocus_jax.data.image import SUFFIXES, image_size, read_annotated
from autofocus_jax.data.problems import BAD_BOX, BAD_FILE, UNKNOWN_CATEGORY, Report
from autofocus_jax.structures import GroundTruth, ImageError, ImageInfo

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class VocSource(DataSource):
    """Folders laid out as a year of PASCAL VOC, or any folder of XML files beside a folder of images.

    root: holds Annotations/, ImageSets/Main/ and JPEGImages/, or years (VOC2007, VOC2012 …) that do.
    train, val, tune: the lists of each split, as "trainval", or "VOC2007/trainval VOC2012/trainval" where root holds
    years. A split of another name is such a list itself.
    annotations, lists, images: those folders' names. Where lists is "" there are none: all files are the split "all",
    unless the other two names hold {split}.
    categories: the class list. Without it root/labels.txt is, one name a line; without that, every name in the XML
    files of all splits in alphabetical order, which is also VOC's own order.
    one_based: corners count from 1 and are inclusive, as VOC's, rather than from 0 and half-open.
    """

    root: str
    train: str = "train"
    val: str = "val"
    tune: str = "tune"
    annotations: str = "Annotations"
    lists: str = "ImageSets/Main"
    images: str = "JPEGImages"
    categories: tuple[str, ...] = ()
    one_based: bool = True

    def open(self, split: str) -> AnnotatedImages:
        """Reads the XML files. `difficult` objects are ignore regions. An image is the one with its XML file's name.

        Raises AnnotationError naming the list or XML file that is missing or malformed.
        """
        return self.open_tolerant(split, refuse)

    def open_tolerant(self, split: str, report: Report) -> AnnotatedImages:
        """As open, but `report` hears of XML files that cannot be read and of objects that are wrong.

        When it returns, the image of such a file is left out, and such an object too; one of an unknown class is an
        ignore region.
        """
        root = Path(self.root).expanduser()
        objects = functools.cache(lambda file: _objects(file, report))  # every file is read once
        if self.lists:
            named = {"train": self.train, "val": self.val, "tune": self.tune}
            entries = [entry.rpartition("/") for entry in named.get(split, split).split()]
            parts = [(root / year, _listed(root / year, self, name)) for year, _, name in entries]
            years = {entry.rpartition("/")[0] for lists in (*named.values(), split) for entry in lists.split()}
            everywhere = [root / year / self.annotations for year in sorted(years)]
        else:
            folder = root / fill(self.annotations, split, "VocSource's folder of annotations")
            parts = [(root, sorted(folder.glob("*.xml")))]
            everywhere = sorted(root.glob(self.annotations.replace("{split}", "*")))
            if not parts[0][1]:
                raise AnnotationError(f"{folder} holds no XML file; give the folder of VOC's annotations")
        categories = self.categories or _labels_file(root / "labels.txt")
        if not categories:
            files = (file for folder in everywhere for file in folder.glob("*.xml"))
            read = [found for found in map(objects, files) if found is not None]
            categories = tuple(sorted({name for found in read for name in found.names} - {""}))
        numbers = {name: label for label, name in enumerate(categories)}

        infos, paths, owner, boxes, labels, ignore = [], [], [], [], [], []
        for year, files in parts:
            folder = year / self.images.replace("{split}", split)
            images = _images(folder)
            for file in files:
                found = objects(file)
                if found is None:
                    continue
                name = images.get(file.stem) or (found.image if (folder / found.image).is_file() else "")
                path = folder / (name or found.image or f"{file.stem}.jpg")
                size = _size(found, path, file, report)
                if size is None:
                    continue
                for name in found.names:
                    if name and name not in numbers:
                        report(UNKNOWN_CATEGORY, f"{file} has an object {name!r}", "the class list has no such name")
                owner += [len(infos)] * len(found.names)
                infos.append(ImageInfo(len(infos) + 1, path.name, *size))
                paths.append(path)
                boxes += found.boxes
                labels += [numbers.get(name, 0) for name in found.names]
                ignore += [flag or name not in numbers for flag, name in zip(found.difficult, found.names)]
        corners = np.array(boxes, np.float64).reshape(-1, 4) - (np.array([1, 1, 0, 0]) if self.one_based else 0)
        read = functools.partial(read_annotated, annotations=parts[0][0] / self.annotations.replace("{split}", split))
        return AnnotatedImages(categories, infos, paths, owner, corners, labels, ignore, read)


def write_voc(
    root: str | os.PathLike,
    split: str,
    infos: Sequence[ImageInfo],
    categories: Sequence[str],
    ground_truths: Iterable[GroundTruth],
) -> None:
    """Writes Annotations/, ImageSets/Main/SPLIT.txt and labels.txt; the images belong into JPEGImages/.

    Ignore regions become difficult objects. Corners count from 1 and are inclusive. The file names' stems must differ.
    """
    root = Path(root)
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for info, truth in zip(infos, ground_truths, strict=True):
        tree = ElementTree.Element("annotation")
        ElementTree.SubElement(tree, "filename").text = Path(info.file_name).name
        size = ElementTree.SubElement(tree, "size")
        for name, value in (("width", info.width), ("height", info.height), ("depth", 3)):
            ElementTree.SubElement(size, name).text = str(value)
        for box, label, ignore in zip(truth.boxes, truth.labels, truth.ignore, strict=True):
            item = ElementTree.SubElement(tree, "object")
            ElementTree.SubElement(item, "name").text = categories[label]
            ElementTree.SubElement(item, "difficult").text = str(int(ignore))
            corners = ElementTree.SubElement(item, "bndbox")
            for name, value in zip(_CORNERS, box + np.array([1.0, 1.0, 0.0, 0.0])):
                ElementTree.SubElement(corners, name).text = np.format_float_positional(value, trim="-")
        ElementTree.indent(tree)
        path = root / "Annotations" / f"{Path(info.file_name).stem}.xml"
        path.write_bytes(ElementTree.tostring(tree, encoding="utf-8"))
    names = "".join(f"{Path(info.file_name).stem}\n" for info in infos)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(names, encoding="utf-8")
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in categories), encoding="utf-8")


class _Objects(NamedTuple):
    """What an XML file says."""

    image: str  # "" when it does not say
    size: tuple[int, int] | None  # height, width
    names: list[str]  # "" for an object that has none
    boxes: list[list[float]]  # corners as written
    difficult: list[bool]


def _objects(file: Path, report: Report) -> _Objects | None:
    """The objects of a file that are not wrong; None when it cannot be read."""
    tree, problem = None, ("", "")
    try:
        tree = ElementTree.fromstring(file.read_bytes())
    except OSError as error:
        problem = f"annotations {file} cannot be read ({error.strerror})", "add it or unlist it"
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        problem = f"annotations {file} are not XML ({error})", "mend the file or unlist it"
    if tree is None:
        report(BAD_FILE, *problem)
        return None
    names, boxes, difficult = [], [], []
    for number, item in enumerate(tree.findall("object"), 1):
        name = (item.findtext("name") or "").strip()
        texts = [item.findtext(f"bndbox/{key}") for key in _CORNERS]
        corners = [_number(text) for text in texts]
        finite = all(math.isfinite(value) for value in corners)
        if not name or not finite:
            what = f"{file}: object {number} has the name {name!r} and the corners {texts}"
            wanted = f"want a name and, in bndbox, finite {', '.join(_CORNERS)}"
            report(UNKNOWN_CATEGORY if finite else BAD_BOX, what, wanted)
        if not finite:
            continue
        names.append(name)
        boxes.append(corners)
        difficult.append((item.findtext("difficult") or "0").strip().lower() in ("1", "true"))
    height, width = (_number(tree.findtext(f"size/{key}")) for key in ("height", "width"))
    size = (int(height), int(width)) if min(height, width) >= 1 and max(height, width) < 1e9 else None
    return _Objects((tree.findtext("filename") or "").strip(), size, names, boxes, difficult)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _listed(year: Path, source: VocSource, name: str) -> list[Path]:
    """XML files of a list, each once; a line is a name, with or without suffix, and maybe a flag behind it."""
    folder, files = year / source.annotations, {}
    for line in read_lines(year / source.lists / f"{name}.txt"):
        words = [line, os.path.splitext(line)[0], line.split()[0]]
        found = (folder / f"{word}.xml" for word in words)
        files[next((file for file in found if file.is_file()), folder / f"{words[-1]}.xml")] = None
    return list(files)


def _images(folder: Path) -> dict[str, str]:
    """Name of the image of each stem in a folder; nothing for a folder that is not there."""
    names = sorted(os.listdir(folder), reverse=True) if folder.is_dir() else []
    return {os.path.splitext(name)[0]: name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES}


def _size(found: _Objects, image: Path, file: Path, report: Report) -> tuple[int, int] | None:
    """(height, width) of an image as its XML file says, or else its own; None when neither is known."""
    try:
        return found.size or image_size(image)
    except ImageError as error:
        what, _, remedy = str(error).partition("; ")
    report(BAD_FILE, f"{file} does not say how large its image is, and {what}", remedy)
    return None


def _labels_file(path: Path) -> tuple[str, ...]:
    return tuple(read_lines(path)) if path.is_file() else ()
