"""Images and boxes in PASCAL VOC's format: an XML file for each image, and lists of names that make the splits."""

from __future__ import annotations

import dataclasses
import functools
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from autofocus_jax.data.annotations import AnnotatedImages, AnnotatedSource, AnnotationError, fill, read_lines
from autofocus_jax.data.findings import (
    BAD_FILE,
    FOUND_ELSEWHERE,
    FROM_ZERO,
    SHARES,
    UNKNOWN_CATEGORY,
    Report,
    are_shares,
)
from autofocus_jax.data.image import SUFFIXES, read_annotated
from autofocus_jax.data.reading import Listings, walk
from autofocus_jax.data.voc_files import CORNERS, EXACT, Objects, read_objects, size_of
from autofocus_jax.structures import GroundTruth, ImageInfo


@dataclasses.dataclass(frozen=True)
class VocSource(AnnotatedSource):
    """Folders laid out as a year of PASCAL VOC, or any folder of XML files beside a folder of images.

    - root: holds Annotations/, ImageSets/Main/ and JPEGImages/, or years (VOC2007, VOC2012 …) that hold them.
    - train, val, tune: the lists of each split, as "trainval", or "VOC2007/trainval VOC2012/trainval" if root holds
      years. A split of another name is itself the name of a list.
    - annotations, lists, images: names of those folders. With lists "" all files are the splits "all" and "train",
      unless annotations and images hold {split}.
    - categories: the class list. By default root/labels.txt, one name a line; else every name in the XML files of all
      splits in alphabetical order, which is VOC's order.
    - one_based: True if corners count from 1 and are inclusive, as VOC's; False if they count from 0 and are half-open.
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

    def open_tolerant(self, split: str, report: Report) -> AnnotatedImages:
        """Open a split and report unreadable XML files and wrong objects.

        If `report` returns, such files' images and such objects are left out. Objects of an unknown class become ignore
        regions, as `difficult` ones do. Each image is found by its XML file.

        Raises:
            AnnotationError: a list is missing, or there is no XML file.
        """
        root = Path(self.root).expanduser()
        objects = functools.cache(lambda file: read_objects(file, report))  # every file is read once
        parts, everywhere = self._parts(root, split)
        categories = tuple(dict.fromkeys(self.categories or _labels_file(root / "labels.txt")))
        if not categories:
            every = (file for folder in everywhere for file in walk(folder, (".xml",)))
            given = [found for found in map(objects, every) if found is not None]
            categories = tuple(sorted({name for found in given for name in found.names} - {""}))
        numbers = {name: label for label, name in enumerate(categories)}

        listings = Listings()
        infos: list[ImageInfo] = []
        paths: list[Path] = []
        owner: list[int] = []
        boxes: list[list[float]] = []
        labels: list[int] = []
        ignore: list[bool] = []
        noticed: list[tuple[str, str]] = []
        for year, files in parts:
            folder = year / self.images.replace("{split}", split)
            xml = year / self.annotations.replace("{split}", split)
            images = _Images(folder, listings)
            for file in files:
                if isinstance(files, dict) and not os.path.lexists(file):
                    report(BAD_FILE, f"annotations {file} are not there ({files[file]})", "add the file or unlist it")
                    continue
                found = objects(file)
                if found is None:
                    continue
                path, elsewhere = images.of(file.relative_to(xml).parent, file.stem, found)
                size = size_of(found, path, file, report)
                if size is None:
                    continue
                noticed += [(FOUND_ELSEWHERE, f"{found.image[:80]}: {path}")] * elsewhere
                for name in found.names:
                    if name and name not in numbers:
                        report(UNKNOWN_CATEGORY, f"{file} has an object {name!r}", "the class list has no such name")
                owner += [len(infos)] * len(found.names)
                infos.append(ImageInfo(len(infos) + 1, images.name(path), *size))
                paths.append(path)
                boxes += found.boxes
                labels += [numbers.get(name, 0) for name in found.names]
                ignore += [flag or name not in numbers for flag, name in zip(found.difficult, found.names)]
                noticed += [(FROM_ZERO, f"{file}: {example}") for example in found.from_zero if self.one_based]
        corners = np.array(boxes, np.float64).reshape(-1, 4)
        shares = are_shares(corners)
        noticed += [(SHARES, f"{paths[owner[row]]}: {corners[row]}") for row in np.flatnonzero(shares)]
        corners, keep = corners - (np.array([1, 1, 0, 0]) if self.one_based else 0), ~shares
        read = functools.partial(read_annotated, annotations=parts[0][0] / self.annotations.replace("{split}", split))
        columns = (np.array(values)[keep] for values in (np.array(owner, np.int64), corners,
                   np.array(labels, np.int32), np.array(ignore, bool)))  # fmt: skip
        owners, corners, numbered, flags = columns
        return AnnotatedImages(
            categories, infos, paths, owners, corners, numbered, flags, read, int(shares.sum()), noticed
        )

    def _parts(self, root: Path, split: str) -> tuple[list[tuple[Path, Any]], list[Path]]:
        """The folder and XML files of each year of a split, and the folders whose files name all classes."""
        if self.lists:
            named = {"train": self.train, "val": self.val, "tune": self.tune}
            entries = [entry.rpartition("/") for entry in named.get(split, split).split()]
            years = {entry.rpartition("/")[0] for lists in (*named.values(), split) for entry in lists.split()}
            parts = [(root / year, _listed(root / year, self, name)) for year, _, name in entries]
            return parts, [root / year / self.annotations for year in sorted(years)]
        folder = root / fill(self.annotations, split, "VocSource's folder of annotations")
        files = walk(folder, (".xml",))
        everywhere = sorted(root.glob(self.annotations.replace("{split}", "*")))
        if not files:
            raise AnnotationError(f"{folder} holds no XML file; give the folder of VOC's annotations")
        return [(root, files)], everywhere


def write_voc(
    root: str | os.PathLike,
    split: str,
    infos: Sequence[ImageInfo],
    categories: Sequence[str],
    ground_truths: Iterable[GroundTruth],
) -> None:
    """Write Annotations/, ImageSets/Main/SPLIT.txt and labels.txt. The images belong into JPEGImages/.

    Ignore regions become difficult objects. Corners count from 1 and are inclusive. The stems of the file names must
    differ.
    """
    root = Path(root)
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for info, truth in zip(infos, ground_truths, strict=True):
        tree = ElementTree.Element("annotation")
        ElementTree.SubElement(tree, "filename").text = Path(info.file_name).name
        source = ElementTree.SubElement(tree, "source")
        ElementTree.SubElement(source, "annotation").text = EXACT
        size = ElementTree.SubElement(tree, "size")
        for name, value in (("width", info.width), ("height", info.height), ("depth", 3)):
            ElementTree.SubElement(size, name).text = str(value)
        for box, label, ignore in zip(truth.boxes, truth.labels, truth.ignore, strict=True):
            item = ElementTree.SubElement(tree, "object")
            ElementTree.SubElement(item, "name").text = categories[label]
            ElementTree.SubElement(item, "difficult").text = str(int(ignore))
            corners = ElementTree.SubElement(item, "bndbox")
            for name, value in zip(CORNERS, box + np.array([1.0, 1.0, 0.0, 0.0])):
                ElementTree.SubElement(corners, name).text = np.format_float_positional(value, trim="-")
        ElementTree.indent(tree)
        path = root / "Annotations" / f"{Path(info.file_name).stem}.xml"
        path.write_bytes(ElementTree.tostring(tree, encoding="utf-8"))
    names = "".join(f"{Path(info.file_name).stem}\n" for info in infos)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(names, encoding="utf-8")
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in categories), encoding="utf-8")


def _listed(year: Path, source: VocSource, name: str) -> dict[Path, str]:
    """XML files of a list, each with the line that names it.

    A line is a name, with or without suffix, and maybe a flag behind it.
    """
    folder, files, listings = year / source.annotations, {}, Listings()
    path = year / source.lists / f"{name}.txt"
    for line in read_lines(path):
        words = [line, os.path.splitext(line)[0], line.split()[0], os.path.splitext(line.split()[0])[0]]
        found = next(filter(None, (listings.find(folder / f"{word}.xml") for word in words)), None)
        if found is None:
            flagged = len(line.split()) == 2 and line.split()[1] in ("-1", "0", "1")
            word = line.split()[0] if flagged else line
            word = os.path.splitext(word)[0] if os.path.splitext(word)[1].lower() in SUFFIXES else word
            found = folder / f"{word}.xml"
        files[found] = f"line {line!r} of {path}"
    return files


class _Images:
    """The images of a folder, found as their XML files name them."""

    def __init__(self, folder: Path, listings: Listings):
        self._folder, self._listings = folder, listings
        self._stems: dict[Path, dict[str, str]] = {}
        self._taken: set[Path] = set()

    def of(self, below: Path, stem: str, found: Objects) -> tuple[Path, bool]:
        """Path of an image, and whether it is another than the one that the file names.

        A file name with folders in it comes first; then the folder in which the XML file lies, and the one that it
        names. A bare name counts for less than the XML file's own: programs leave the name of another image in it.
        """
        named = found.image.rpartition("/")[0]
        if named and (path := self._listings.find(self._folder / found.image)) is not None:
            return path, False
        named_folder = Path(found.folder)  # Path() where the file names none
        places = dict.fromkeys([*([below, named_folder] if below != Path() else [named_folder]), Path()])
        for place in places:
            folder = self._folder / place
            if not self._inside(folder):
                continue
            name, bare = self._listed(folder).get(unicodedata.normalize("NFC", stem)), found.image.rpartition("/")[2]
            path = folder / name if name else None
            if bare and (path is None or os.path.splitext(bare)[0] == os.path.splitext(name)[0]):  # a.jpg beside a.png
                path = self._listings.find(folder / bare) or path
            if path is not None and (not named or path not in self._taken):
                self._taken.add(path)
                return path, bool(named)
        return self._folder / (found.image or below / f"{stem}.jpg"), False

    def name(self, path: Path) -> str:
        """Return the name of an image in results: its path below the folder of images."""
        return path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else path.name

    def _inside(self, path: Path) -> bool:
        return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self._folder))

    def _listed(self, folder: Path) -> dict[str, str]:
        if folder not in self._stems:
            names = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []
            self._stems[folder] = {
                unicodedata.normalize("NFC", os.path.splitext(name)[0]): name
                for name in names if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
            }  # fmt: skip
        return self._stems[folder]


def _labels_file(path: Path) -> tuple[str, ...]:
    return tuple(read_lines(path)) if os.path.lexists(path) else ()
