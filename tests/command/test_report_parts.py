"""Parts of a report: lost and won objects, panes of stages, tables."""

import numpy as np
from rich.table import Table

from autofocus_jax.command.report_parts import looked_closer, marks, pictured, stage_panes, table_of
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.report.values import LOST, MISSED, WON, Mark, Pane
from autofocus_jax.structures import Detections, GroundTruth, Scale, ValidRange

A, B, C, D = (0, 0, 20, 20), (100, 0, 120, 20), (0, 100, 20, 120), (100, 100, 120, 120)


def detections(*rows):
    """Detections of rows (box, score, label)."""
    boxes, scores, labels = zip(*rows) if rows else ((), (), ())
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32),
                      np.array(labels, np.int32))  # fmt: skip


def truth(*rows):
    """Ground truth of rows (box, label, ignore)."""
    boxes, labels, ignore = zip(*rows)
    return GroundTruth(np.array(boxes, np.float32), np.array(labels, np.int32), np.array(ignore, bool))


def kinds(found):
    return [(mark.kind, tuple(mark.box), mark.label) for mark in found]


def test_marks_against_boxes_that_somebody_drew():
    objects = truth((A, 0, False), (B, 1, False), (C, 0, False), (D, 0, True))
    reference = detections((A, 0.4, 0), (B, 0.9, 0), (D, 0.9, 0))  # B with the wrong class; D is an ignore region
    ours = detections((A, 0.2, 0), (B, 0.3, 1))  # A too weak
    found = marks(reference, ours, objects)
    assert kinds(found) == [(LOST, A, 0), (WON, B, 1), (MISSED, C, 0)]
    assert [round(mark.score, 2) for mark in found] == [0.4, 0.3, 1.0]
    assert marks(reference, reference, truth((A, 0, False))) == [], "both find it"
    assert kinds(marks(detections(), detections(), objects)) == [(MISSED, A, 0), (MISSED, B, 1), (MISSED, C, 0)]


def test_marks_without_boxes_are_sure_detections_without_a_partner():
    reference = detections((A, 0.9, 0), (B, 0.6, 0), (C, 0.4, 0))  # C is not sure
    ours = detections((A, 0.3, 0), (D, 0.8, 1), (B, 0.7, 1))  # A answers; B has another class
    assert kinds(marks(reference, ours, None)) == [(WON, D, 1), (WON, B, 1), (LOST, B, 0)], "surest first"
    assert marks(reference, reference, None) == []


def stages():
    chips = np.array([A, D], np.float32)
    whole = np.array([[0, 0, 200, 100]], np.float32)
    kept, removed = detections((A, 0.9, 0), (B, 0.2, 0)), detections((D, 0.7, 0))
    return [Stage(whole, (np.eye(3, 4),), kept, detections()), Stage(chips, (), detections(), removed)]


def test_panes_of_stages():
    scales = [Scale(50, 100, ValidRange(0, 99), None), Scale(100, 200, ValidRange(0, 99), None)]
    first, second = stage_panes(stages(), scales, (100, 200), 0.5)
    assert (first.title, second.title) == ("scale 1", "scale 2")
    assert first.note == "1 chip, 5k px (100% of 100x50)" and second.note == "2 chips, 1k px (4% of 200x100)"
    assert first.found.boxes.tolist() == [list(A)], "0.2 is below the score"
    assert first.focus[0].box == [0, 0, 200, 100] and np.array_equal(first.focus[0].values, np.eye(3, 4))
    assert second.chips.tolist() == [list(A), list(D)] and second.removed.boxes.tolist() == [list(D)]
    assert second.focus == []


def test_a_pane_of_the_result_has_the_first_map_and_the_chips_that_it_led_to():
    pane = looked_closer(Pane("ours", "", detections()), stages())
    assert len(pane.focus) == 1 and pane.chips.tolist() == [list(A), list(D)]
    plain = Pane("ours", "", detections())
    assert looked_closer(plain, stages()[:1]) is plain, "one scale leads to nothing"


def test_a_photograph_has_crops_of_lost_and_won_alone():
    image = np.zeros((100, 200, 3), np.uint8)
    found = [Mark(WON, A, 0, 0.9), Mark(MISSED, B, 0, 1.0)]
    made = pictured("a.jpg", image, [], 10**5, found, truth((A, 0, False), (B, 1, True)))
    assert [number for number, _ in made.crops] == [0] and made.size == (100, 200)
    assert made.truth == [([0, 0, 20, 20], 0)], "without ignore regions"
    assert len(made.picture) + sum(len(data) for _, data in made.crops) <= 10**5


def test_a_table_of_a_terminal_as_one_of_a_report():
    table = Table(title="rows")
    for heading in ("", "AP"):
        table.add_column(heading)
    table.add_row("[b]ours[/b]", "1.0")
    assert table_of(table, ["[b]ours[/b]"]) == ("rows", ["", "AP"], [("[b]ours[/b]", "1.0")], ["[b]ours[/b]"])
