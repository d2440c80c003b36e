"""The folder of a training: what it was made with, and whether a command may go on in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autofocus_jax.config import Config
from autofocus_jax.config.load import to_dict
from autofocus_jax.config.stored import renamed
from autofocus_jax.ledger import Ledger
from autofocus_jax.weights import checkpoint
from autofocus_jax.weights.safetensors import WeightsError
from autofocus_jax.weights.variables import notes

PROPOSALS = "proposals"  # folder of the proposals stage inside a workdir


def began(workdir: Path) -> bool:
    """Return True if something was trained in the folder already."""
    return bool(checkpoint.steps(workdir) or checkpoint.steps(workdir / PROPOSALS))


def workdir_ledger(
    config: Config, workdir: Path, data: Mapping[str, Any], initial: Mapping[str, str] | None,
    categories: Sequence[str] = (),
) -> Ledger:  # fmt: skip
    """Return the ledger of a training's folder, whose note is config.json.

    data: ledger.data_identity of the training images, with boxes. initial: file and sha256 of what the training starts
    from. categories: names of the classes, for those who detect with the folder. A setting that is newer than the
    folder had its default. Nothing is known about what a folder does not note.
    """
    known: dict[str, Any] = {"trained on": dict(data)} | ({"initial": dict(initial)} if initial else {})
    known |= {"categories": list(categories)} if categories else {}

    def upgrade(before: dict[str, Any]) -> dict[str, Any]:
        return with_defaults(renamed({**known, **before}), config)

    fix = "use another --workdir, or --accept-changes to go on with what is given now"
    return Ledger(workdir, to_dict(config) | known, "config.json", fix=fix, upgrade=upgrade)


def with_defaults(stored: Any, settings: Any) -> Any:
    """Return JSON data of settings, completed with the present defaults of `settings` (dataclasses)."""
    if dataclasses.is_dataclass(settings) and isinstance(stored, dict):
        filled = dict(stored)
        for field in dataclasses.fields(settings):
            if field.name in stored:
                filled[field.name] = with_defaults(stored[field.name], getattr(settings, field.name))
            elif field.default is not dataclasses.MISSING:
                filled[field.name] = to_dict(field.default)
        return filled
    if isinstance(settings, tuple) and isinstance(stored, list) and len(stored) == len(settings):
        return [with_defaults(*both) for both in zip(stored, settings)]
    return stored


def started_from(workdir: Path, given: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return file and sha256 of what a training in the workdir starts from: what it was begun with, else `given`.

    given: file and sha256 of --initial. Raises WeightsError when the training was begun with something else.
    """
    if not began(workdir):
        return given
    source = notes(workdir).get("initial")
    if given is not None and given["sha256"] != (source or {}).get("sha256"):
        started = source["file"] if source else "random weights"
        raise WeightsError(
            f"--initial {given['file']}, but {workdir} was started from {started}; leave --initial out to go on "
            "there, or use another --workdir"
        )
    return source
