"""Starting a training from a weights file: the part that fits a config's detector, and the part that stays random."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from autofocus_jax.config import Config
from autofocus_jax.detector.api import Detector, Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.files import require_regular
from autofocus_jax.weights import safetensors
from autofocus_jax.weights.conversion import FitError, module, was_drawn
from autofocus_jax.weights.fit import compare, shapes, some
from autofocus_jax.weights.meaning import changed_meaning
from autofocus_jax.weights.safetensors import WeightsError, flatten, unflatten


class Initial(NamedTuple):
    """Arrays that a training takes from a file; names are as "params/backbone/conv0/kernel"."""

    kind: str  # what the file is, for the user
    arrays: dict[str, np.ndarray]  # taken, float32
    absent: list[str]  # of the detector, not in the file
    untrained: list[str]  # of the detector, and random in the file too: its source lacked them
    classes: list[str]  # of the detector, for another number of classes than in the file
    unused: list[str]  # of the file, with no place in the detector
    notes: list[str]  # settings, of those that the arrays depend on, that are not those of the file


def read(path: str | os.PathLike, config: Config) -> Initial:
    """Read a weights file of this package (a converted backbone, a whole detector) as the start of a training.

    Arrays are matched by name. These stay random: arrays that the file lacks, class scores for another number of
    classes, and arrays that the file itself marks as random.

    Raises:
        WeightsError: the file is missing, broken or foreign.
        FitError: nothing fits, an array has another shape, or the backbone is of another kind or has folded batch
            norms.
    """
    if Path(path).is_dir():
        raise WeightsError(f"weights {path} are a folder; give a .safetensors file, as the model.safetensors in it")
    variables, metadata = safetensors.load(path)
    made_with = metadata["config"].get("detector") or {}
    detector = detector_of(config.detector)
    want = shapes(jax.eval_shape(detector.init, jax.random.key(0)))
    have, again = flatten(variables), metadata.get("untrained") or ()
    drawn = {name for name in have if was_drawn(name, again)}
    report = compare(shapes(have), want)
    classes = [name for name in report.other if name in detector.names.classes and name not in drawn]
    taken = [name for name in want if name in have and name not in drawn and name not in classes]
    where = f"weights {path} do not fit the detector of config {config.name!r}"
    if not taken:
        raise FitError(f"{where}: none of their {len(have)} trained arrays has a name of the detector's; "
                       "give weights of a detector or backbone")  # fmt: skip
    _check_backbone(made_with.get("backbone") or {}, config, taken, where)
    parts = {module(name).split("/")[0] for name in taken}
    notes = [line for line in changed_meaning(made_with, config.detector) if _part(detector, line) in parts]
    other = [line for name, line in report.other.items() if name in taken]
    if other:
        shown, changed = some(other), some(notes)
        raise FitError(f"{where}: {len(other)} arrays of another shape: {shown}; set the detector to what they were "
                       f"made with{changed and f' ({changed})'}")  # fmt: skip
    return Initial(
        kind=metadata.get("kind", "autofocus_jax weights"),
        arrays={name: have[name] for name in taken},
        absent=report.missing,
        untrained=[name for name in want if name in drawn],
        classes=classes,
        unused=report.unexpected,
        notes=notes,
    )


def put(initial: Initial, variables: Variables) -> Variables:
    """Return a copy of `variables` with the arrays of the file."""
    return unflatten({**flatten(variables), **initial.arrays})


def summary(initial: Initial, path: object) -> Iterator[str]:
    """Return lines that say what was taken, what stays random and why, and what was not used."""
    total = len(initial.arrays) + sum(map(len, (initial.absent, initial.untrained, initial.classes)))
    yield f"starting from {path}, {initial.kind}: {len(initial.arrays)} of the detector's {total} arrays taken"
    for names, what in (
        (list(initial.arrays), "taken"),
        (initial.absent, "random, not in the file"),
        (initial.untrained, "random, and untrained in the file too"),
        (initial.classes, "random, of another number of classes in the file"),
        (initial.unused, "in the file and not used"),
    ):
        if names:
            yield f"  {what}: {_parts_of(names)}"
    for note in initial.notes:
        yield f"  note: made with another setting than the config's: detector.{note}"


def digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        require_regular(path)
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read ({error.strerror}); give a .safetensors file") from None


def _check_backbone(made_with: Mapping[str, Any], config: Config, taken: list[str], where: str) -> None:
    if not any(module(name).startswith("backbone") for name in taken):
        return
    kind, wanted = made_with.get("kind", config.detector.backbone.kind), config.detector.backbone.kind
    if kind != wanted:
        raise FitError(f"{where}: their backbone is of kind {kind!r}, the config's of kind {wanted!r}; "
                       "set detector.backbone.kind")  # fmt: skip
    if made_with.get("folded", False) != config.detector.backbone.folded:
        raise FitError(f"{where}: batch norms are folded into the convolutions of one of them; want both without")


def _part(detector: Detector, line: str) -> str | None:
    """The part of the detector whose weights depend on the setting that a line of `changed_meaning` is about."""
    return detector.names.settings.get(re.split("[.:]", line)[0])


def _parts_of(names: list[str]) -> str:
    """The parts of the detector that arrays belong to, each with how many: "backbone/stage1 (45), box_head (12)"."""
    counts: dict[str, int] = {}
    for part in map(module, names):
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items())
