"""Files that are written whole, and the folders they lie in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from autofocus_jax.structures import AutoFocusError


def write_json(path: Path, content: Any) -> Path:
    """Write JSON whole or not at all, so that an interrupt leaves the last good file."""
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise AutoFocusError(f"{path} cannot be written ({error.strerror}); choose another --workdir") from None
    return path


def make_folder(path: Path) -> Path:
    """Make a folder for results, with its parents; AutoFocusError when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AutoFocusError(f"folder {path} cannot be made ({error.strerror}); choose another --workdir") from None
    return path
