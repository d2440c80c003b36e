"""autofocus compare --recall and its drawing: a photograph followed by hand, tiny ones run, and what is refused."""

import json
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from autofocus_jax.command import compare_figure
from autofocus_jax.command.compare_recall import follow, table
from autofocus_jax.experiments import figure
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.flow import Outcome, Stage
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import ChipRule, Detections, Scale, ValidRange

ALWAYS = ("--side", "96", "--padding", "0", "0", "0", "--threads", "1", "--canvases", "--sample", "1", "--recall")


def found(*rows):
    """Detections of label 0 from (x1, y1, x2, y2, score)."""
    values = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(values[:, :4], values[:, 4], np.zeros(len(values), np.int32))


def test_a_photograph_followed_by_hand(truth):
    """100x200 px, as large at scale 1 and four times as large at scale 2."""
    plan = Plan((Scale(100, 200, ValidRange(40, math.inf), ChipRule(0.5, 1, 16)),
                 Scale(400, 800, ValidRange(0, 50), None)), Loose())  # fmt: skip
    whole, cut, missed, large, crowd = (0, 0, 10, 10), (32, 32, 50, 48), (150, 50, 160, 60), (100, 0, 180, 80), (
        60, 0, 70, 10)  # fmt: skip
    boxes = truth([whole, cut, missed, large, crowd], [0] * 5, [False] * 4 + [True])
    focus = np.zeros((7, 13), np.float32)
    focus[0, 0], focus[2, 2], focus[3, 9] = 0.6, 0.5, 0.4
    chips = np.array([(0, 0, 40, 48), (60, 0, 80, 20), (120, 64, 160, 96)], np.float32)
    nothing = found()
    stages = [Stage(np.array([[0, 0, 200, 100]], np.float32), (focus,), nothing, nothing),
              Stage(chips, (), found((*whole, 0.9), (*cut, 0.2)), nothing)]  # fmt: skip
    outcome = Outcome(0, (100, 200), found((*whole, 0.9), (*missed, 0.25)), None, stages)
    coarse = found((*whole, 0.3), (40, 40, 45, 45, 0.05), (*large, 0.9))
    followed = follow(outcome, boxes, coarse, plan)
    assert followed.sizes.tolist() == [10, pytest.approx(18 * 16 / math.sqrt(18 * 16)), 10], "large and crowd are out"
    assert followed.seen.tolist() == [0, 1, 2]
    assert followed.map.tolist() == [True, True, False]
    assert followed.chips.tolist() == [True, False, False] and followed.inside.tolist() == [True, False, False]
    assert followed.found.tolist() == [True, False, True]
    assert followed.spent.tolist() == [160 * 192, 80 * 80, 160 * 128]
    assert followed.false.tolist() == [False, False, True], "what a crowd touches is not false"


@pytest.fixture
def compare(autofocus, square_finder, squares, tmp_path):
    """compare(word, …) -> (content of comparison.json, what was printed), with --recall."""

    def run(*words):
        code, out, err = autofocus("compare", "photos", "--detector", square_finder(), "--annotations", "boxes.json",
                                   *ALWAYS, *words)  # fmt: skip
        assert (code, err) == (0, ""), err
        return json.loads((tmp_path / "runs/compare/comparison.json").read_text()), out

    return run


def test_recall(compare, bright_network, tmp_path):
    blind = bright_network(gain=0, bias=-200)
    content, out = compare("--focus", "weak", "weak:0.9", "network", "--focus-weights", blind)
    rows = content["recall"]
    assert list(rows) == ["weak focus 0.02", "weak focus 0.9", "network focus 0.02", "perfect focus"]
    of = {name: {group["of"]: group for group in row["groups"]} for name, row in rows.items()}
    for name in rows:
        assert list(of[name]) == ["all", "8 to 16 px", "weak at scale 1"] and of[name]["all"]["objects"] == 8
    everything = {"map": 100, "chips": 100, "in_chips": 100, "found": 100}
    for name in ("weak focus 0.02", "perfect focus"):
        assert {key: of[name]["all"][key] for key in everything} == everything
        assert rows[name]["false_chips"] == rows[name]["false_px"] == 0
    assert {key: of["network focus 0.02"]["all"][key] for key in everything} == {
        "map": 0, "chips": 0, "in_chips": None, "found": 0}  # fmt: skip
    assert of["weak focus 0.9"]["all"]["map"] < 100
    assert "what limits the search" in out and "in chips: share of these" in out
    text = (tmp_path / "runs/compare/comparison.txt").read_text()
    assert "weak at scale 1" in text and text.index("what limits") > text.index("perfect focus")
    assert all((tmp_path / f"runs/compare/comparison.{kind}").stat().st_size for kind in ("svg", "png"))


def test_false_places_cost(compare, tmp_path):
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    kept = boxes["annotations"][0]
    boxes["annotations"] = [kept]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    row = compare("--focus", "weak")[0]["recall"]["weak focus 0.02"]
    assert row["groups"][0]["objects"] == 1 and row["false_chips"] >= 0.75, "three photographs have no object left"
    assert 50 < row["false_px"] < 100


def test_table():
    group = {"of": "all", "objects": 3, "map": 66.7, "chips": 33.3, "found": 0.0, "in_chips": None}
    shown = table({"weak": {"groups": [group, {**group, "of": "8 to 16 px"}], "false_chips": 1.25, "false_px": 40.0}})
    assert [list(column.cells) for column in shown.columns] == [
        ["weak", ""], ["all", "8 to 16 px"], ["3", "3"], ["67", "67"], ["33", "33"], ["-", "-"], ["0", "0"],
        ["1.2", ""], ["40", ""],
    ]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), [
    ((), "--recall follows objects that somebody drew; give --annotations"),
    (("--annotations", "boxes.json"), "wants a plan of two scales, got 1"),
])  # fmt: skip
def test_refused(autofocus, square_finder, squares, words, says):
    code, _, err = autofocus("compare", "photos", "--detector", square_finder(), "--recall", *words)
    assert code == 1 and says in err and err.count("\n") == 1


def test_drawing():
    rows = {name: {"AP": score, "side": side} for name, score, side in (
        ("whole 96", 10.0, 96), ("slices 96", 30.0, 600), ("slices 96, ranges", 31.0, 600),
        ("weak focus 0.5", 20.0, 200), ("weak focus 0.02", 25.0, 300), ("weak focus 0.02, canvas 160", 99.0, 300),
        ("perfect focus", None, 100),
    )}  # fmt: skip
    (axis,) = compare_figure.draw(rows, "AP", "AP").axes
    lines = {line.get_label(): [list(values) for values in line.get_data()] for line in axis.lines}
    assert lines == {"weak": [[0.04, 0.09], [20, 25]], "whole": [[96**2 / 1e6], [10]],
                     "slices": [[0.36, 0.36], [30, 31]]}  # fmt: skip
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "AP"
    colours = {to_hex(line.get_color()) for line in axis.lines}
    assert len(colours) == 3 and colours <= {colour.lower() for colour in figure.COLORS}
