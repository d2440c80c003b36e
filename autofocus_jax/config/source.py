"""Where images and boxes come from."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable

from autofocus_jax.structures import Dataset


@dataclasses.dataclass(frozen=True)
class DataSource(abc.ABC):
    """Where images and boxes come from; one subclass a kind of source, in autofocus_jax/data."""

    @abc.abstractmethod
    def open(self, split: str) -> Dataset:
        """The images of one split ("train", "val", "tune")."""

    def open_tolerant(self, split: str, report: Callable[[str, str, str], None]) -> Dataset:
        """As open, for training: an annotation that is wrong is told to `report` and left out, rather than raised.

        report: a data.findings.Report. Sources that cannot tell one annotation from another leave this as it is.
        """
        return self.open(split)
