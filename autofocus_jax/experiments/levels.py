"""Answers of a detector on the whole levels of every image, computed once and kept on disk.

Chips, recalls and searches of chip rules are computed from them without running the detector again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autofocus_jax.config import Config
from autofocus_jax.config.load import to_dict
from autofocus_jax.experiments.detector import Trained
from autofocus_jax.experiments.inputs import Inputs
from autofocus_jax.experiments.result import Track
from autofocus_jax.files import read_npz, write_npz
from autofocus_jax.focus.buckets import shapes
from autofocus_jax.focus.cascade import Outcome
from autofocus_jax.focus.plan import Plan
from autofocus_jax.focus.stacking import ScaleDetections, stack
from autofocus_jax.focus.walk import place, whole_image
from autofocus_jax.inference import engine
from autofocus_jax.ledger import Ledger, data_identity
from autofocus_jax.structures import AutoFocusError, Dataset, Detections, Scale, ValidRange

VERSION = 1
FIX = "use another --output"  # where a folder holds results of other settings


class Levels(NamedTuple):
    """One image."""

    size: tuple[int, int]  # (height, width), image px
    found: tuple[Detections, ...]  # of each scale: every size, above the score threshold, not merged; image frame
    focus: tuple[np.ndarray, ...]  # focus maps [ceil(H / 16), ceil(W / 16)] of each level but the last


class Kept(NamedTuple):
    """Levels of the images that could be read."""

    indices: list[int]
    levels: list[Levels]  # one per entry of `indices`
    skipped: list[str]  # why there are none of the others


def whole_levels(config: Config) -> Plan:
    """Return the plan that sees every level whole and keeps detections of every size."""
    everything = ValidRange(0, math.inf)
    scales = tuple(dataclasses.replace(scale, valid=everything) for scale in config.scales)
    return dataclasses.replace(Plan.of(config), scales=scales).pyramid()


def levels_of(outcome: Outcome) -> Levels:
    """Return the levels of an image from its outcome, with stages, of a run with the plan of whole_levels."""
    *coarser, _ = outcome.stages
    return Levels(outcome.size, tuple(one.kept for one in outcome.stages), tuple(one.focus[0] for one in coarser))


def level_sizes(size: tuple[int, int], plan: Plan) -> list[tuple[int, int]]:
    """Return (height, width) in px of each level of an image of `size` as it is processed: made to fit its bucket."""
    whole = whole_image(size)
    return [place(None, size, number, whole, plan)[0].size for number in range(1, len(plan.scales) + 1)]


def merge_levels(levels: Levels, scales: Sequence[Scale], config: Config) -> Detections:
    """Stack whole levels. With the config's own scales the result is that of the full pyramid.

    `scales` are the first scales of the config, or all, with the valid ranges to use. The result equals a run of the
    cascade.
    """
    height, width = levels.size
    chip = np.array([[0, 0, width, height]], np.float32)
    found = [ScaleDetections(part, np.zeros(len(part.scores), np.intp), chip) for part in levels.found[: len(scales)]]
    return stack(found, levels.size, scales, config.stacking)[0]


def keep_levels(
    inputs: Inputs, config: Config, trained: Trained, dataset: Dataset, indices: Sequence[int], track: Track
) -> Kept:
    """Return the levels of images, read from OUTPUT/levels/SPLIT or else computed and kept there, one by one.

    Raises:
        LedgerError: the kept levels came from another detector, other levels or other images.
        AutoFocusError: files cannot be read or written.
    """
    folder = Path(inputs.output) / "levels" / inputs.split
    skipped: dict[int, str] = {}
    ledger = Ledger(folder, origin(config, trained, dataset), "origin.json", makes=(f"{'[0-9]' * 6}.npz",), fix=FIX)
    with ledger.claim():
        missing = [index for index in indices if not _file(folder, index).exists()]
        readers = ((index, partial(dataset.image, index)) for index in missing)
        stream = engine.stream(readers, trained.detect, whole_levels(config), keep_stages=True)
        for outcome in track(stream, f"levels ({inputs.split})", len(missing)):
            if outcome.error is not None:
                skipped[outcome.key] = outcome.error
            else:
                _write(_file(folder, outcome.key), levels_of(outcome))
    good = [index for index in indices if index not in skipped]
    if not good:
        raise AutoFocusError(f"none of {len(indices)} images could be read; the first: {next(iter(skipped.values()))}")
    return Kept(good, [read_levels(_file(folder, index), len(config.scales)) for index in good], list(skipped.values()))


def origin(config: Config, trained: Trained, dataset: Dataset) -> dict[str, Any]:
    """Return everything that the levels of a dataset's images depend on, as JSON holds it."""
    return {
        "version": VERSION,
        "weights": trained.fingerprint,
        "detector": to_dict(config.detector),
        "buckets": shapes(config.buckets).tolist() if isinstance(config.buckets, tuple) else [],
        "sides": [[scale.min_side, scale.max_side] for scale in config.scales],
        "shrink": config.shrink,
        "score_threshold": config.stacking.score_threshold,
        "data": data_identity(dataset, contents=True),
    }


def read_levels(path: Path, scales: int) -> Levels:
    """Read the file that keep_levels wrote for one image.

    Raises:
        AutoFocusError: the file is damaged.
    """
    try:
        arrays = read_npz(path)
        found = [Detections(*(arrays[f"{name}{n}"] for name in Detections._fields)) for n in range(scales)]
        focus = [arrays[f"focus{n}"] for n in range(scales - 1)]
        height, width = arrays["size"].tolist()
    except (OSError, ValueError, KeyError) as error:
        raise AutoFocusError(f"{path} cannot be read ({error}); remove it, and it will be computed again") from None
    return Levels((height, width), tuple(found), tuple(focus))


def _write(path: Path, levels: Levels) -> None:
    arrays: dict[str, Any] = {"size": np.array(levels.size)}
    for number, found in enumerate(levels.found):
        arrays |= {f"{name}{number}": value for name, value in found._asdict().items()}
    arrays |= {f"focus{number}": focus for number, focus in enumerate(levels.focus)}
    write_npz(path, arrays, compress=False)


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.npz"
