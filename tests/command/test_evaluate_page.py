"""The report of an evaluation: lost and won objects, panes, headline, on two images drawn by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from autofocus_jax.command.evaluate_page import EvaluationPage
from autofocus_jax.command.panels import Seen
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.focus.plan import Plan
from autofocus_jax.report.values import Table
from autofocus_jax.structures import Detections

A, B = [10, 10, 40, 40], [50, 20, 80, 50]
WHOLE = np.array([[0, 0, 90, 60]], np.float32)
METRICS = {"scale1": {"AP": 10.0, "pixels_per_image": 1000}, "pyramid": {"AP": 50.0, "pixels_per_image": 9000},
           "autofocus": {"AP": 47.5, "pixels_per_image": 3000}}  # fmt: skip


def found(*boxes):
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32),
                      np.zeros(len(boxes), np.int32))  # fmt: skip


@pytest.fixture
def page(memory_dataset, truth, tiny_config):
    """page(names of rows) -> (EvaluationPage of two images that one row or the other finds more in, an image seen)."""
    image = np.zeros((60, 90, 3), np.uint8)
    objects = truth([A, B], [0, 0])
    dataset = memory_dataset([image] * 2, [objects] * 2)
    runs = {"pyramid": [found(A, B), found(A)], "autofocus": [found(A), found(A, B)]}

    def make(*names):
        measured = {name: SimpleNamespace(run=SimpleNamespace(indices=[0, 1], detections=runs[name])) for name in names}
        stages = [Stage(WHOLE, (np.ones((2, 3)),), found(), found()), Stage(WHOLE[:0], (), found(A), found(B))]
        return EvaluationPage(dataset, Plan.of(tiny_config), measured, 2), Seen(0, image, objects, stages)

    return make


def test_lost_and_won_against_the_pyramid(page):
    collected, seen = page("pyramid", "autofocus")
    collected.add(seen)
    report = collected.report("a title", METRICS, Table("", ["", "AP"], [["autofocus", "47.5"]]), ["a line"])
    assert [(figure.value, figure.caption) for figure in report.figures] == [
        ("3.0 times", "fewer pixels than the whole pyramid"), ("-2.5 AP", "47.5 instead of 50.0"),
        ("1 / 1", "objects lost / won in all images"),
    ]  # fmt: skip
    (shown,) = report.photographs
    assert [(mark.kind, mark.box) for mark in shown.marks] == [("lost", B)] and len(shown.crops) == 1
    assert [pane.title for pane in shown.panes] == ["pyramid", "scale 1", "scale 2", "autofocus"]
    assert [pane.marked for pane in shown.panes] == [True, False, False, True]
    assert shown.panes[2].removed.boxes.tolist() == [B] and report.of_photographs == 2
    assert [(point.kind, point.pixels, point.score) for point in report.plot.points] == [
        ("scale", 1000, 10.0), ("pyramid", 9000, 50.0), ("autofocus", 3000, 47.5)
    ]  # fmt: skip


def test_without_the_pyramid_objects_are_found_or_missed(page):
    collected, seen = page("autofocus")
    collected.add(seen)
    report = collected.report("", {"autofocus": METRICS["autofocus"]}, Table("", [""], []), [])
    (shown,) = report.photographs
    assert [(mark.kind, mark.box) for mark in shown.marks] == [("missed", B)] and shown.crops == []
    assert report.figures == [] and report.versus == "" and shown.panes[0].title == "scale 1"
