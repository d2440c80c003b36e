"""Fitting the arrays of a foreign file, once renamed, into the detector of a config."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from autofocus_jax.config import Config, DetectorSettings
from autofocus_jax.detector.api import Variables
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.errors import FitError
from autofocus_jax.weights.fit import compare, shapes, some
from autofocus_jax.weights.safetensors import WeightsError, check_finite, flatten, unflatten


class Foreign(NamedTuple):
    """A foreign file with renamed arrays."""

    kind: str  # what it is, for the user
    backbone: str  # the BackboneConfig.kind that it fits
    arrays: dict[str, np.ndarray]  # "params/backbone/conv0/kernel" -> values in our layout
    origins: dict[str, str]  # our name -> the name in the file; a constant that no array of the file gives is left out
    ignored: dict[str, str]  # name in the file -> why the detector has no use for it
    unknown: list[str]  # names in the file that nobody knows
    notes: tuple[str, ...] = ()  # what the user should know


class Fitted(NamedTuple):
    """The variables of a config's detector, and where they come from."""

    variables: Variables
    drawn: list[str]  # our names that the file lacks: drawn at random, to be trained


def fit(foreign: Foreign, config: Config, source: str) -> Fitted:
    """Return the variables of the config's detector from a foreign file.

    Parts that the file may lack are drawn as for a new training: whole heads and, in a backbone-only file, the offsets
    of deformable layers.

    Raises:
        FitError: names or shapes differ; the message begins with `source` and names arrays and shapes.
    """
    backbone = config.detector.backbone.kind
    if foreign.backbone != backbone:
        raise FitError(f"{source} ({foreign.kind}) has a backbone of kind {foreign.backbone!r}, config {config.name!r} "
                       f"one of kind {backbone!r}; set detector.backbone.kind")  # fmt: skip
    want, have = _shapes(config.detector), shapes(foreign.arrays)
    report = compare(have, want)
    drawn = _may_be_drawn(set(report.missing), have)
    telling = sorted(report.other, key=lambda name: (name not in foreign.origins, not name.endswith("/kernel")))
    found = {
        "of another shape": [report.other[name] + _origin(foreign, name) for name in telling],
        "missing": [name for name in report.missing if name not in drawn],
        "that the config has no place for": [
            name + _origin(foreign, name) for name in report.unexpected
        ] + [name for name in foreign.unknown if _inside_a_unit(name)],
    }  # fmt: skip
    complaints = [f"{len(names)} {what}: {some(names)}" for what, names in found.items() if names]
    if complaints:
        hints = _hints(have, want, detector_of(config.detector).names.classes)
        raise FitError(f"{source} ({foreign.kind}) does not fit the detector of config {config.name!r}: "
                       f"{'; '.join([*hints, *complaints])}")  # fmt: skip
    check_finite({name: foreign.arrays[name] for name in want if name in foreign.arrays}, f"{source} ({foreign.kind})")
    values = _draw(config.detector, drawn, config.seed) if drawn else {}
    arrays = {name: values[name] if name in values else foreign.arrays[name] for name in want}
    return Fitted(unflatten({name: np.asarray(array, np.float32) for name, array in arrays.items()}), drawn)


def module(name: str) -> str:
    """Return the part of the detector that an array belongs to: "backbone/stage1", "box_head" …"""
    _, *parts = name.split("/")
    return "/".join([parts[0], re.sub(r"_unit\d+$", "", parts[1])]) if parts[0] == "backbone" else parts[0]


def was_drawn(name: str, untrained: Iterable[str]) -> bool:
    """Return True if `fit` drew an array at random.

    Args:
        name: name of the array.
        untrained: modules of the names in Fitted.drawn, as a file keeps them.
    """
    return module(name) in untrained and (_is_head(name.split("/")[1]) or "offset" in name.split("/"))


def same_name(names: Iterable[str], path: object) -> None:
    """Raise WeightsError if two arrays of a file would get the same name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise WeightsError(f"weights {path} hold {name!r} twice; want each array once")
        seen.add(name)


def _is_head(part: str) -> bool:
    """Return True if a part of a detector may be absent as a whole: the file is then of a backbone, or lacks a head."""
    return part != "backbone"


def _may_be_drawn(missing: set[str], have: Mapping[str, object]) -> list[str]:
    heads = {name.split("/")[1] for name in have if _is_head(name.split("/")[1])}

    def allowed(name: str) -> bool:
        collection, top, *rest = name.split("/")
        if _is_head(top):
            return top not in heads
        return collection == "params" and "offset" in rest and not heads and not any("/offset/" in n for n in have)

    backbone = any(name.split("/")[1] == "backbone" for name in have)
    return sorted(name for name in missing if allowed(name)) if backbone else []


@functools.cache
def _shapes(config: DetectorSettings) -> dict[str, tuple[int, ...]]:
    return shapes(jax.eval_shape(detector_of(config).init, jax.random.key(0)))


def _draw(config: DetectorSettings, names: list[str], seed: int) -> dict[str, np.ndarray]:
    """Initial values of some variables; the compiler leaves the others out."""

    def some(key):
        flat = flatten(detector_of(config).init(key))
        return {name: flat[name] for name in names}

    return jax.device_get(jax.jit(some)(jax.random.key(seed)))


def _hints(have: Mapping[str, tuple], want: Mapping[str, tuple], classes: Iterable[str]) -> list[str]:
    """Differences that explain many others."""
    hints = []
    depths = [_units(names) for names in (have, want)]
    if depths[0] != depths[1]:
        hints.append(f"the file has {depths[0]} units in its stages, the config {depths[1]}")
    counts = {(have[name][-1], want[name][-1]) for name in classes if name in have and name in want}
    hints += [f"the file has {ours} class scores, the config {theirs}" for ours, theirs in counts if ours != theirs]
    return hints


def _units(names: Iterable[str]) -> tuple[int, ...]:
    found = {tuple(map(int, match)) for name in names for match in re.findall(r"/stage(\d+)_unit(\d+)/", name)}
    return tuple(sum(stage == number for number, _ in found) for stage in sorted({stage for stage, _ in found}))


def _inside_a_unit(name: str) -> bool:
    """Return True if a name of a foreign file is of a residual unit or the stem, of which nothing may be missing."""
    return re.match(r"stage\d+_unit\d+_|layer\d+\.|stages\.\d+\.|stem\.|conv\d+[._]", name) is not None


def _origin(foreign: Foreign, name: str) -> str:
    return f" (from {foreign.origins[name]})" if name in foreign.origins else ""
