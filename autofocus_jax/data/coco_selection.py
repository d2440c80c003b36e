"""Selections from the tables of a COCO file: splits by a field of the images, and merged categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autofocus_jax.data.annotations import AnnotationError

Rows = list[tuple[int, dict]]  # annotations with their positions in the file


def groups(words: Sequence[str], setting: str) -> dict[str, tuple[str, ...]]:
    """Return name -> members of settings such as "train=crossing_a,crossing_b".

    Raises:
        AnnotationError: a word of another form, or a name or member that stands twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, _, members = word.partition("=")
        parts = tuple(part.strip() for part in members.split(","))
        if not name.strip() or not all(parts):
            raise AnnotationError(f"{setting} has {word!r}; want NAME=FIRST,SECOND")
        if name.strip() in found:
            raise AnnotationError(f"{setting} has {name.strip()!r} twice; give all of its members at once")
        found[name.strip()] = parts
    return found


def images_of_split(
    images: list[dict], field: str, splits: Mapping[str, Sequence[str]], split: str, where: str
) -> tuple[list[dict], set]:
    """Return the images whose `field` has a value of the split, and the ids of the others; all of them for "all".

    Raises:
        AnnotationError: an image without the field, a split that is not listed, or a value that no image has.
    """
    for position, entry in enumerate(images):
        if field not in entry:
            raise AnnotationError(f"{where}: images[{position}] has no {field!r}; correct data.field")
    if split == "all":
        return images, set()
    if split not in splits:
        raise AnnotationError(f"data.splits has no {split!r}, only {', '.join(splits) or 'nothing'}; add {split}=VALUE")
    values = {str(entry[field]) for entry in images}
    unknown = sorted(set(splits[split]) - values)
    if unknown:
        known = ", ".join(sorted(values))
        raise AnnotationError(f"{where}: no image has {field} {unknown[0]!r}, only {known}; correct data.splits")
    chosen = [entry for entry in images if str(entry[field]) in splits[split]]
    kept = {entry.get("id") for entry in chosen}
    return chosen, {entry.get("id") for entry in images} - kept


def merge_categories(
    categories: list[dict], annotations: Rows, merged: Mapping[str, Sequence[str]], where: str
) -> tuple[list[dict], Rows]:
    """Return both tables with each group of categories as one, which has the id of the first and the group's name.

    Raises:
        AnnotationError: a category that the file lacks, or that stands in two groups.
    """
    if not merged:
        return categories, annotations
    ids = {str(entry["name"]): entry["id"] for entry in categories}
    now: dict[int, int] = {}
    names: dict[int, str] = {}
    for name, members in merged.items():
        for member in members:
            if member not in ids or ids[member] in now:
                problem = "stands in two groups" if member in ids else "is no category of the file"
                raise AnnotationError(f"{where}: {member!r} of data.merged {problem}; it has {', '.join(ids)}")
            now[ids[member]] = ids[members[0]]
        names[ids[members[0]]] = name
    kept = [entry | {"name": names.get(entry["id"], entry["name"])} for entry in categories
            if now.get(entry["id"], entry["id"]) == entry["id"]]  # fmt: skip
    changed = []
    for position, entry in annotations:
        if isinstance(entry["category_id"], int):  # what is none is named where categories are looked up
            entry = entry | {"category_id": now.get(entry["category_id"], entry["category_id"])}
        changed.append((position, entry))
    return kept, changed
