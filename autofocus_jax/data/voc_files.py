"""One XML file of PASCAL VOC: the objects that it names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from autofocus_jax.data.findings import BAD_BOX, BAD_FILE, UNKNOWN_CATEGORY, Report
from autofocus_jax.data.image import image_size
from autofocus_jax.data.reading import LARGEST_TEXT
from autofocus_jax.errors import ImageError
from autofocus_jax.files import read_regular

EXACT = "corners from 1, with fractions"  # what write_voc says of its files
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Objects(NamedTuple):
    """Content of an XML file."""

    image: str  # "" when it does not say
    size: tuple[int, int] | None  # height, width
    names: list[str]  # "" for an object that has none
    boxes: list[list[float]]  # corners as written
    difficult: list[bool]
    from_zero: list[str]  # corners of boxes that prove that the file counts from 0
    folder: str  # "" when it does not say


def read_objects(file: Path, report: Report) -> Objects | None:
    """The objects of a file that are not wrong; None when it cannot be read."""
    tree: Any = None
    problem = "", ""
    try:
        tree = ElementTree.fromstring(read_regular(file, LARGEST_TEXT))
        if tree.tag != "annotation" and all(tree.find(key) is None for key in ("object", "size", "filename")):
            problem = f"annotations {file} hold <{tree.tag}>, not VOC's <annotation>", "unlist it"
            tree = None
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
        texts = [item.findtext(f"bndbox/{key}") for key in CORNERS]
        corners = [_number(text) for text in texts]
        finite = all(math.isfinite(value) for value in corners)
        if not name or not finite:
            what = f"{file}: object {number} has the name {name!r} and the corners {texts}"
            wanted = f"want a name and, in bndbox, finite {', '.join(CORNERS)}"
            report(UNKNOWN_CATEGORY if finite else BAD_BOX, what, wanted)
        if not finite:
            continue
        names.append(name)
        boxes.append(corners)
        difficult.append((item.findtext("difficult") or "0").strip().lower() in ("1", "true"))
    exact = tree.findtext("source/annotation") == EXACT
    proofs = [
        " ".join(f"{value:g}" for value in corners)
        for corners in boxes
        if (min(corners[:2]) < 1 < max(corners)) or (not exact and any(value % 1 for value in corners))
    ]
    if not any(min(corners[:2]) < 1 for corners in boxes) and 10 * len(proofs) < len(boxes):
        proofs = []  # VOC's own files hold a few fractions
    height, width = (_number(tree.findtext(f"size/{key}")) for key in ("height", "width"))
    size = (int(height), int(width)) if 1 <= height < 1e9 and 1 <= width < 1e9 else None
    places = ((tree.findtext(key) or "").strip().replace("\\", "/") for key in ("filename", "folder"))
    image, folder = (text if "\0" not in text else "" for text in places)
    return Objects(image, size, names, boxes, difficult, proofs, folder)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def size_of(found: Objects, image: Path, file: Path, report: Report) -> tuple[int, int] | None:
    """(height, width) of an image as its XML file says, or else its own; None when neither is known."""
    try:
        return found.size or image_size(image)
    except ImageError as error:
        what, _, remedy = str(error).partition("; ")
    report(BAD_FILE, f"{file} does not say how large its image is, and {what}", remedy)
    return None
