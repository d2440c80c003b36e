"""Names of classes from a file."""

from __future__ import annotations

import json
from pathlib import Path

from autofocus_jax.config import ConfigError


def read_names(path: str) -> tuple[str, ...]:
    """Names, in the order of the labels, from a text file with one a line or from the categories of a COCO file.

    COCO's categories are ordered by id, as data.coco does. Raises ConfigError, which names the file.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigError(f"names {path} cannot be read ({reason}); give a text file with one name a line") from None
    if not text.lstrip().startswith("{"):
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    else:
        try:
            entries = sorted(json.loads(text)["categories"], key=lambda entry: int(entry["id"]))
            names = tuple(str(entry["name"]) for entry in entries)
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError(f"names {path} hold no COCO categories ({error!r}); give an annotation file, or a text "
                              "file with one name a line") from None  # fmt: skip
    if not names:
        raise ConfigError(f"names {path} hold no name; give a text file with one name a line")
    return names
