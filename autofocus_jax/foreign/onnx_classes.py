"""The classes of an ONNX file: their names, and which of them count."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from autofocus_jax.foreign.coco_classes import COCO_NAMES
from autofocus_jax.foreign.found import ForeignError, Raw
from autofocus_jax.foreign.layouts import Layout


def names_in(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names of the classes in the metadata: a dictionary or a list, as Ultralytics writes it."""
    text = metadata.get("names")
    if text is None:
        return None
    try:
        value = ast.literal_eval(text)
        items = [value[key] for key in sorted(value, key=int)] if isinstance(value, dict) else list(value)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ForeignError(f"the file has names that cannot be read ({error}); give the names") from None
    return tuple(map(str, items)) or None


def categories(raw: Raw, names: tuple[str, ...] | None, layout: Layout, given: bool) -> tuple[tuple[str, ...], str]:
    """Return the names of all classes, and their origin."""
    count = raw.scores.shape[1] if raw.labels is None else None
    if names is not None:
        if count not in (None, len(names)):
            raise ForeignError(f"the model has {count} classes, and there are {len(names)} names; give one for each")
        return names, "as given" if given else "named in the file"
    if count == len(COCO_NAMES) or (count is None and layout.coco):
        return COCO_NAMES, "without names in the file, taken for COCO's"
    if count is None:
        raise ForeignError("the number of classes is not known; give their names (categories)")
    return tuple(f"class {number}" for number in range(count)), "without names in the file"


def positions(only: tuple[str, ...] | None, known: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the labels of the classes that count, None for all. Raises ForeignError for an unknown name."""
    if only is None:
        return None
    unknown = [name for name in only if name not in known]
    if unknown or not only:
        raise ForeignError(f"there is no class {', '.join(map(repr, unknown)) or 'at all'}; want some of "
                           f"{', '.join(known)}")  # fmt: skip
    return tuple(known.index(name) for name in only)
