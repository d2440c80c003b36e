"""Comparison of arrays with a detector by name and shape, the start of every way to take weights.

Three policies build on it: `strict` (all arrays of the package's own weights), `conversion.fit` (a foreign file, whose
missing heads are drawn) and `initial.read` (the part of a file that a training can use).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autofocus_jax.weights.safetensors import WeightsError, flatten

Shapes = Mapping[str, tuple[int, ...]]  # by "collection/module/array"


class Report(NamedTuple):
    """Differences between arrays and a detector's arrays; names in the detector's order, then in the file's."""

    missing: list[str]  # in the detector alone
    unexpected: list[str]  # in the file alone
    other: dict[str, str]  # in both, of another shape -> "name (2, 3) instead of (4, 3)"


def shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes by name of a nested or flat tree of arrays or shape structs."""
    return {name: tuple(array.shape) for name, array in flatten(tree).items()}


def compare(have: Shapes, want: Shapes) -> Report:
    """Compare the shapes of a file with the shapes of a detector."""
    return Report(
        [name for name in want if name not in have],
        [name for name in have if name not in want],
        {name: f"{name} {have[name]} instead of {want[name]}" for name in want
         if name in have and have[name] != want[name]},
    )  # fmt: skip


def strict(variables: Mapping[str, Any], expected: Mapping[str, Any], source: str = "weights") -> None:
    """Raise WeightsError unless names and shapes equal those of `expected` (arrays or shape structs)."""
    report = compare(shapes(variables), shapes(expected))
    complaints = {
        "missing": sorted(report.missing),
        "unexpected": sorted(report.unexpected),
        "of another shape": [report.other[name] for name in sorted(report.other)],
    }
    found = [f"{len(names)} {what}: {some(names)}" for what, names in complaints.items() if names]
    if found:
        raise WeightsError(f"{source} do not fit the config's detector ({'; '.join(found)}); use the config they "
                           "were trained with")  # fmt: skip


def some(names: Sequence[str], count: int = 3) -> str:
    """Return the first of many names, for a message of one line."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
