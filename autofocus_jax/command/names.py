"""Names of classes from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from autofocus_jax.config import ConfigError
from autofocus_jax.data.annotations import distinct
from autofocus_jax.data.reading import LARGEST_TABLE
from autofocus_jax.files import read_regular


class Names(NamedTuple):
    """Names of the classes, in the order of the labels."""

    names: tuple[str, ...]
    ids: tuple[int, ...]  # of the categories in COCO's annotations; () for names from a text file


def read_names(path: str) -> Names:
    """Read names from a text file with one a line, or names and ids from the categories of a COCO file.

    COCO's categories are ordered by id, as data.coco does. The number of a line is a label, so a blank line is a class
    without a name. Raises ConfigError, which names the file.
    """
    try:
        text = read_regular(Path(path).expanduser(), LARGEST_TABLE).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigError(f"names {path} cannot be read ({reason}); give a text file with one name a line") from None
    ids: tuple[int, ...] = ()
    if not text.lstrip().startswith("{"):
        lines = text.rstrip().splitlines()
        names = [line.strip() or f"class {number} (unnamed)" for number, line in enumerate(lines)]
    else:
        try:
            entries = sorted(json.loads(text)["categories"], key=lambda entry: int(entry["id"]))
            names = [str(entry["name"]) for entry in entries]
            ids = tuple(int(entry["id"]) for entry in entries)
            if len(set(ids)) < len(ids) or any(float(entry["id"]) != number for entry, number in zip(entries, ids)):
                raise ValueError("ids must be whole and unique")
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"names {path} hold no COCO categories ({error!r}); give an annotation file, or a text "
                              "file with one name a line") from None  # fmt: skip
    if not names:
        raise ConfigError(f"names {path} hold no name; give a text file with one name a line")
    return Names(distinct(names)[0], ids)
