"""Reading NumPy's .npz archives, which may have been cut off or damaged."""

from __future__ import annotations

import os

import numpy as np


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an archive, by name.

    Raises OSError when it cannot be opened, and ValueError, in one line, when it is damaged or no archive.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        except Exception as error:  # of zipfile, zlib, tokenize …: a wrong byte shows wherever it happens to lie
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"damaged, or no archive of NumPy: {reason[:200]}") from None
