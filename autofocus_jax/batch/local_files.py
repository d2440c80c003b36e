"""Files of a local folder by names that are UTF-8, whatever bytes the disk holds."""

from __future__ import annotations

import logging
import os
import re

from autofocus_jax.machine.terminal import printable

log = logging.getLogger("autofocus_jax.batch")


def sizes(root: str) -> dict[str, int]:
    """Return the size in bytes of the regular files below a local folder, by path, without hidden ones.

    A name that is not UTF-8 is escaped, as caf\\xe9.jpg. A folder that links lead to several times is listed once.
    """
    files, seen = {}, set()
    for folder, below, names in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(folder))
        # Real folders come before links, so that a link never takes the place of what it leads to.
        below.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        kept = []
        for name in below:
            target = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and target not in seen:
                seen.add(target)
                kept.append(name)
        below[:] = kept
        for name in (*names, *below):
            path = os.path.join(folder, name)
            if name.startswith(".") or os.path.isdir(path):
                continue
            shown = os.fsencode(os.path.relpath(path, root)).decode("utf-8", "backslashreplace")
            if os.path.isfile(path):
                files[shown] = os.path.getsize(path)
            else:
                log.warning("%s is no regular file; it is passed over", printable(shown))
    return dict(sorted(files.items()))


def stored(path: str) -> str:
    """Return the path on the disk of a file that `sizes` lists, with the folder before it."""
    if "\\x" not in path or os.path.lexists(path):
        return path
    return os.fsdecode(re.sub(rb"\\x([89a-f][0-9a-f])", lambda byte: bytes.fromhex(byte[1].decode()), path.encode()))


def foreign(path: str) -> bool:
    """Return whether a path on the disk is not UTF-8, so that Arrow does not take it."""
    return re.search("[\udc80-\udcff]", path) is not None
