"""The tables of a COCO file: what their entries must hold, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autofocus_jax.data.annotations import AnnotationError
from autofocus_jax.data.coco_selection import Rows
from autofocus_jax.data.findings import BAD_BOX, INCOMPLETE, NO_IMAGE, UNKNOWN_CATEGORY, Report
from autofocus_jax.structures import ImageInfo


def table(content: dict, key: str, where: str) -> list[dict]:
    table = content.get(key)
    if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table):
        raise AnnotationError(f"{where}: {key!r} is missing or not a list of objects; give a COCO annotation file")
    return table


def require(table: list[dict], keys: tuple[str, ...], name: str, where: str) -> None:
    for position, entry in enumerate(table):
        for key in keys:
            if key not in entry:
                raise AnnotationError(f"{where}: {name}[{position}] has no {key!r}; add it or remove the entry")


def complete(annotations: list[dict], where: str, report: Report) -> Rows:
    """The annotations that have all that they need, with their positions in the file."""
    rows = []
    for position, entry in enumerate(annotations):
        lacking = [key for key in ("image_id", "category_id", "bbox") if key not in entry]
        if lacking:
            report(INCOMPLETE, f"{where}: annotations[{position}] has no {lacking[0]!r}", "add it or remove the entry")
        else:
            rows.append((position, entry))
    return rows


def spread_ignored(
    categories: list[dict], annotations: Rows, names: Sequence[str], where: str
) -> tuple[list[dict], Rows]:
    """Return both tables without the categories of those names.

    Each of their boxes becomes a crowd in every other category.
    """
    unknown = set(names) - {str(entry["name"]) for entry in categories}
    if unknown:
        raise AnnotationError(f"{where}: no category is named {sorted(unknown)[0]!r}; correct data.ignore_categories")
    gone = [entry["id"] for entry in categories if entry["name"] in names]
    kept = [entry for entry in categories if entry["name"] not in names]
    if not gone:
        return kept, annotations
    spread = []
    for position, entry in annotations:
        if entry["category_id"] in gone:
            spread += [(position, entry | {"category_id": category["id"], "iscrowd": 1}) for category in kept]
        else:
            spread.append((position, entry))
    return kept, spread


def ignored(annotations: Rows, where: str) -> np.ndarray:
    """Which annotations [A] mark regions where nothing is judged: those with `iscrowd` or `ignore`."""
    flags = [(entry.get("iscrowd"), entry.get("ignore")) for _, entry in annotations]
    for (position, _), pair in zip(annotations, flags):
        for key, value in zip(("iscrowd", "ignore"), pair):
            if value not in (None, 0, 1):
                raise AnnotationError(f"{where}: annotations[{position}] has {key} {repr(value)[:40]}; want 0 or 1")
    return np.array([any(pair) for pair in flags], dtype=bool)


def integer(value: object, name: str, entry: dict, where: str) -> int:
    whole = _whole(value)
    if whole is None:
        raise AnnotationError(f"{where}: {name} entry {str(entry)[:120]} has {value!r}; want an integer there")
    return whole


def _whole(value: object) -> int | None:
    """The 64-bit integer that a number is, as 1 or 1.0; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        return None
    return value


def unique(ids: np.ndarray, name: str, where: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise AnnotationError(f"{where}: {name} has the id {values[counts > 1][0]} more than once; ids must be unique")


def infos_of(images: list[dict], where: str) -> list[ImageInfo]:
    require(images, ("id", "file_name", "height", "width"), "images", where)
    infos = []
    for entry in images:
        number, height, width = (integer(entry[key], "images", entry, where) for key in ("id", "height", "width"))
        if height < 1 or width < 1 or not isinstance(entry["file_name"], str):
            raise AnnotationError(
                f"{where}: image {number} has the size {width}x{height} and the file "
                f"{entry['file_name']!r}; want sides of at least 1 px and a file name"
            )
        infos.append(ImageInfo(number, entry["file_name"], height, width))
    unique(np.array([info.image_id for info in infos], dtype=np.int64), "images", where)
    return infos


def columns(
    annotations: Rows, image_ids: np.ndarray, category_ids: np.ndarray, where: str, report: Report
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the images [A], boxes [A, 4] float64 xyxy, and labels [A]; -1 or NaN where they are reported."""
    owner = _positions([entry["image_id"] for _, entry in annotations], image_ids)
    labels = _positions([entry["category_id"] for _, entry in annotations], category_ids)
    boxes = _boxes([entry["bbox"] for _, entry in annotations])
    for key, kind, found in (("image_id", NO_IMAGE, owner), ("category_id", UNKNOWN_CATEGORY, labels)):
        for row in np.flatnonzero(found < 0):
            position, entry = annotations[row]
            what = f"{where}: annotations[{position}] has {key} {repr(entry[key])[:80]}, which the file does not list"
            report(kind, what, "add it or remove the annotation")
    for row in np.flatnonzero(np.isnan(boxes[:, 0])):
        position, entry = annotations[row]
        what = f"{where}: annotations[{position}] has bbox {str(entry['bbox'])[:80]}"
        report(BAD_BOX, what, "want four finite numbers x, y, width, height")
    return owner, boxes, labels


def _positions(ids: list, known: np.ndarray) -> np.ndarray:
    """Positions [A] in `known` [n] of the ids [A] that the annotations name; -1 for those it does not hold."""
    table = {int(value): position for position, value in enumerate(known)}
    return np.array([table.get(_whole(value), -1) for value in ids], dtype=np.int64)


def _boxes(given: list) -> np.ndarray:
    """Boxes [A, 4] float64 as xyxy of COCO's x, y, width, height; NaN for what is not four finite numbers."""
    try:
        xywh = np.array(given or np.zeros((0, 4)))
    except ValueError:  # of different lengths
        xywh = np.empty(0, dtype=object)
    if xywh.dtype.kind not in "iuf" or xywh.shape != (len(given), 4):
        xywh = np.array([value if _is_box(value) else [np.nan] * 4 for value in given])
    xywh = xywh.astype(np.float64)
    xywh[~(np.abs(xywh) < 1e30).all(axis=1)] = np.nan
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _is_box(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(isinstance(item, (int, float)) and not isinstance(item, bool) and abs(item) < 1e30 for item in value)
