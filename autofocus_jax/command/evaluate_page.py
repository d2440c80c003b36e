"""The report of an evaluation: its table, a plot, and the images of its panels with lost and won objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autofocus_jax.command.panels import Seen
from autofocus_jax.command.report_parts import above, looked_closer, marks, pictured, stage_panes
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference.measure import AUTOFOCUS, PYRAMID, Measurement, headline
from autofocus_jax.report import pictures
from autofocus_jax.report.values import LOST, WON, Figure, Mark, Pane, Photograph, Plot, Point, Report, Table
from autofocus_jax.structures import Dataset, Detections

_LEAST = 0.05  # score of a detection on the page


class EvaluationPage:
    """Collects images for the report while panels are drawn. The page has at most 500 of them."""

    def __init__(self, dataset: Dataset, plan: Plan, measured: Mapping[str, Measurement], count: int):
        """Take what was measured.

        Args:
            dataset: images and ground truth.
            plan: of AutoFocus.
            measured: the rows by name, with that of AutoFocus.
            count: number of images to expect.
        """
        self._dataset, self._plan = dataset, plan
        self._ours, pyramid = _by_index(measured[AUTOFOCUS]), measured.get(PYRAMID)
        self._pyramid = None if pyramid is None else _by_index(pyramid)
        self._share = pictures.share(count)
        self._photographs: list[Photograph] = []

    def add(self, seen: Seen) -> None:
        """Take an image with its stages."""
        if len(self._photographs) == pictures.MOST:
            return
        ours = Pane(AUTOFOCUS, "", above(self._ours[seen.key], _LEAST), marked=True)
        panes = [*stage_panes(seen.stages, self._plan.scales, seen.image.shape[:2], _LEAST),
                 looked_closer(ours, seen.stages)]  # fmt: skip
        if self._pyramid is not None and seen.key in self._pyramid:
            panes.insert(0, Pane(PYRAMID, "", above(self._pyramid[seen.key], _LEAST), marked=True))
        name = self._dataset.info(seen.key).file_name
        self._photographs.append(pictured(name, seen.image, panes, self._share, self._marks(seen.key), seen.truth))

    def report(
        self, title: str, metrics: Mapping[str, Mapping[str, Any]], table: Table, lines: Sequence[str]
    ) -> Report:  # fmt: skip
        """Return the report.

        Args:
            title: of the page.
            metrics: rows of metrics.json.
            table: of the rows.
            lines: sentences below it.
        """
        key = headline(metrics[AUTOFOCUS])
        points = [Point(name, name.rstrip("0123456789"), row["pixels_per_image"], row[key])
                  for name, row in metrics.items() if row[key] is not None]  # fmt: skip
        versus = "" if self._pyramid is None else (
            f"lost: objects that the {PYRAMID} finds and {AUTOFOCUS} does not; won: the other way round (from a score "
            "of 0.25 on, with an IoU of 0.5)."
        )  # fmt: skip
        return Report(title, self._dataset.categories, self._figures(metrics, key), lines,
                      [table._replace(title="", strong=[AUTOFOCUS])], Plot(key, points), self._photographs,
                      len(self._ours), versus)  # fmt: skip

    def _figures(self, metrics: Mapping[str, Mapping[str, Any]], key: str) -> list[Figure]:
        ours, whole = metrics[AUTOFOCUS], metrics.get(PYRAMID)
        if whole is None or self._pyramid is None:
            return []
        figures = [Figure(f"{whole['pixels_per_image'] / ours['pixels_per_image']:.1f} times",
                          "fewer pixels than the whole pyramid")]  # fmt: skip
        if None not in (ours[key], whole[key]):
            figures.append(Figure(f"{ours[key] - whole[key]:+.1f} {key}", f"{ours[key]:.1f} instead of "
                                  f"{whole[key]:.1f}"))  # fmt: skip
        kinds = [mark.kind for index in self._ours for mark in self._marks(index)]
        return [*figures, Figure(f"{kinds.count(LOST)} / {kinds.count(WON)}", "objects lost / won in all images")]

    def _marks(self, index: int) -> list[Mark]:
        ours = self._ours[index]
        reference = ours if self._pyramid is None else self._pyramid.get(index, ours)
        return marks(reference, ours, self._dataset.ground_truth(index))


def _by_index(measured: Measurement) -> dict[int, Detections]:
    return dict(zip(measured.run.indices, measured.run.detections, strict=True))
