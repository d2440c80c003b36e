"""The plot of a report: where its points and names stand."""

import math

import hypothesis
import pytest
from hypothesis import strategies as st

from autofocus_jax.report import plot
from autofocus_jax.report.values import Plot, Point

POINT = st.builds(
    Point, st.text(min_size=1, max_size=30), st.sampled_from("abcdefgh"), st.floats(1, 1e9), st.floats(-5, 100)
)


def test_no_points_no_plot():
    assert plot.draw(Plot("AP", [])) is None


def test_pixels_go_by_their_logarithm_and_scores_upwards():
    drawn = plot.draw(Plot("AP", [Point("a", "a", 1e5, 10), Point("b", "a", 1e6, 20), Point("c", "b", 1e7, 40)]))
    one, two, three = drawn.points
    assert two.x - one.x == pytest.approx(three.x - two.x) and one.y - two.y == pytest.approx((two.y - three.y) / 2)
    assert one.style == two.style != three.style and one.shape != three.shape
    at = {tick.text: tick.at for tick in drawn.across}
    assert at["1"] == pytest.approx(two.x) and {"0.1", "0.2", "0.5", "1", "2", "5", "10"} <= at.keys()
    assert {tick.text: tick.at for tick in drawn.down}["20"] == pytest.approx(two.y)
    assert "b: 20.0, 1 million pixels" in two.said


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.lists(POINT, min_size=1, max_size=20))
def test_everything_is_inside_and_names_cover_no_point(points):
    drawn = plot.draw(Plot("AP", points))
    left, upper, right, lower = drawn.frame
    for point in drawn.points:
        assert left <= point.x <= right and upper <= point.y <= lower
    for tick in drawn.down:
        assert upper - 1e-6 <= tick.at <= lower + 1e-6 and math.isfinite(tick.at)
    assert 2 <= len(drawn.down) <= 16
    for named in drawn.points:
        if named.text is not None:
            x, base, anchor = named.text
            long = 7.2 * len(named.name)
            begin = x - {"start": 0, "middle": long / 2, "end": long}[anchor]
            for point in drawn.points:
                assert not (begin < point.x < begin + long and base - 10 < point.y < base + 3)


def test_only_one_of_two_equal_points_has_no_room_for_its_name_at_the_right():
    drawn = plot.draw(Plot("AP", [Point("same", "a", 1e6, 20)] * 2))
    assert [point.text[2] for point in drawn.points] == ["start", "end"]
