"""Images and boxes in PASCAL VOC's format: an XML file for each image, and lists of names that make the splits."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from autofocus_jax.config import DataSource
from autofocus_jax.data.annotations import AnnotatedImages, AnnotationError, fill, read_lines, refuse
from autofocus_jax.data.findings import (
    BAD_BOX,
    BAD_FILE,
    FOUND_ELSEWHERE,
    FROM_ZERO,
    SHARES,
    UNKNOWN_CATEGORY,
    Report,
    are_shares,
)
from autofocus_jax.data.image import SUFFIXES, image_size, read_annotated
from autofocus_jax.data.reading import LARGEST_TEXT, Listings, walk
from autofocus_jax.files import read_regular
from autofocus_jax.structures import GroundTruth, ImageError, ImageInfo

_EXACT = "corners from 1, with fractions"  # what write_voc says of its files
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class VocSource(DataSource):
    """Folders laid out as a year of PASCAL VOC, or any folder of XML files beside a folder of images.

    root: holds Annotations/, ImageSets/Main/ and JPEGImages/, or years (VOC2007, VOC2012 …) that do.
    train, val, tune: the lists of each split, as "trainval", or "VOC2007/trainval VOC2012/trainval" where root holds
    years. A split of another name is such a list itself.
    annotations, lists, images: those folders' names. Where lists is "" there are none: all files are the splits "all"
    and "train", unless the other two names hold {split}.
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
            parts = [(root, walk(folder, (".xml",)))]
            everywhere = sorted(root.glob(self.annotations.replace("{split}", "*")))
            if not parts[0][1]:
                raise AnnotationError(f"{folder} holds no XML file; give the folder of VOC's annotations")
        categories = tuple(dict.fromkeys(self.categories or _labels_file(root / "labels.txt")))
        if not categories:
            files = (file for folder in everywhere for file in walk(folder, (".xml",)))
            read = [found for found in map(objects, files) if found is not None]
            categories = tuple(sorted({name for found in read for name in found.names} - {""}))
        numbers = {name: label for label, name in enumerate(categories)}

        listings = Listings()
        infos, paths, owner, boxes, labels, ignore, noticed = [], [], [], [], [], [], []
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
                size = _size(found, path, file, report)
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
        parts = (np.array(values)[keep] for values in (np.array(owner, np.int64), corners,
                 np.array(labels, np.int32), np.array(ignore, bool)))  # fmt: skip
        return AnnotatedImages(categories, infos, paths, *parts, read, int(shares.sum()), noticed)


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
        source = ElementTree.SubElement(tree, "source")
        ElementTree.SubElement(source, "annotation").text = _EXACT
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
    from_zero: list[str]  # corners of boxes that prove that the file counts from 0
    folder: str  # "" when it does not say


def _objects(file: Path, report: Report) -> _Objects | None:
    """The objects of a file that are not wrong; None when it cannot be read."""
    tree, problem = None, ("", "")
    try:
        tree = ElementTree.fromstring(read_regular(file, LARGEST_TEXT))
        if tree.tag != "annotation" and all(tree.find(key) is None for key in ("object", "size", "filename")):
            tree, problem = None, (f"annotations {file} hold <{tree.tag}>, not VOC's <annotation>", "unlist it")
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
    exact = tree.findtext("source/annotation") == _EXACT
    proofs = [" ".join(f"{value:g}" for value in corners) for corners in boxes
              if (min(corners[:2]) < 1 < max(corners)) or (not exact and any(value % 1 for value in corners))]
    if not any(min(corners[:2]) < 1 for corners in boxes) and 10 * len(proofs) < len(boxes):
        proofs = []  # VOC's own files hold a few fractions
    height, width = (_number(tree.findtext(f"size/{key}")) for key in ("height", "width"))
    size = (int(height), int(width)) if 1 <= height < 1e9 and 1 <= width < 1e9 else None
    texts = ((tree.findtext(key) or "").strip().replace("\\", "/") for key in ("filename", "folder"))
    image, folder = (text if "\0" not in text else "" for text in texts)
    return _Objects(image, size, names, boxes, difficult, proofs, folder)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


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

    def of(self, below: Path, stem: str, found: _Objects) -> tuple[Path, bool]:
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
        """What results call an image: its path below the folder of images."""
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


def _size(found: _Objects, image: Path, file: Path, report: Report) -> tuple[int, int] | None:
    """(height, width) of an image as its XML file says, or else its own; None when neither is known."""
    try:
        return found.size or image_size(image)
    except ImageError as error:
        what, _, remedy = str(error).partition("; ")
    report(BAD_FILE, f"{file} does not say how large its image is, and {what}", remedy)
    return None


def _labels_file(path: Path) -> tuple[str, ...]:
    return tuple(read_lines(path)) if os.path.lexists(path) else ()
