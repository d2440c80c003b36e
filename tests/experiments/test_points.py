"""Points that are kept: asked for once, also by the next process, and apart for each origin."""

import math

import pytest

from autofocus_jax.experiments.points import kept_points
from autofocus_jax.experiments.rule_search import Point
from autofocus_jax.structures import AutoFocusError, ChipRule

RULES = (ChipRule(0.05, 3, 64), None)


def test_asked_once(tmp_path):
    asked = []

    def run(rules):
        asked.append(rules)
        return Point(rules, 60.125, math.nan, 1e6 / 3)

    first = kept_points(run, tmp_path, {"weights": "a"})(RULES)
    for _ in range(2):
        again = kept_points(run, tmp_path, {"weights": "a"})(RULES)
        assert (again.rules, again.ap, again.pixels) == (first.rules, 60.125, 1e6 / 3) and math.isnan(again.ap50)
    assert asked == [RULES]
    kept_points(run, tmp_path, {"weights": "b"})(RULES)
    kept_points(run, tmp_path, {"weights": "a"})((RULES[0], RULES[0]))
    assert asked == [RULES, RULES, (RULES[0], RULES[0])]


def test_damaged_file(tmp_path):
    kept_points(lambda rules: Point(rules, 1, 2, 3), tmp_path, {})(RULES)
    (file,) = tmp_path.glob("*/points.json")
    for content in ("{", "[]", '{"a": {"AP": 1}}'):
        file.write_text(content)
        with pytest.raises(AutoFocusError, match="remove it, and its points are run again"):
            kept_points(lambda rules: Point(rules, 1, 2, 3), tmp_path, {})(RULES)
