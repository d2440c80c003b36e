"""Data sources: where images and boxes come from."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable

from autofocus_jax.structures import Dataset


@dataclasses.dataclass(frozen=True)
class DataSource(abc.ABC):
    """A source of images and boxes. Subclasses in autofocus_jax/data read one kind of data each."""

    @abc.abstractmethod
    def open(self, split: str) -> Dataset:
        """Return the images of one split ("train", "val", "tune")."""

    def open_tolerant(self, split: str, report: Callable[[str, str, str], None]) -> Dataset:
        """Open a split for training: wrong annotations go to `report` and are left out instead of raising an error.

        Args:
            split: name of the split.
            report: a data.findings.Report. Sources that cannot tell one annotation from another keep this default.
        """
        return self.open(split)
