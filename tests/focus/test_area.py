"""A given area: its cells, cuts and selections against naive forms, and through the cascade."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.config import StackingConfig
from autofocus_jax.errors import ImageError, PlanError
from autofocus_jax.focus import area as area_ops
from autofocus_jax.focus.area import Area, area_of
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.cascade import cascade, stream
from autofocus_jax.focus.plan import Plan
from autofocus_jax.structures import (
    STRIDE,
    ChipRule,
    Detections,
    HostAnswer,
    Placement,
    Scale,
    ValidRange,
)

SIDE = 960  # px of the image; scale 1 shows it half as large, scale 2 as it is
GRID = np.arange(30, SIDE, 60)
PLAN = Plan(
    (
        Scale(SIDE // 2, SIDE // 2, ValidRange(1e3, np.inf), ChipRule(0.5, 3, 16)),
        Scale(SIDE, SIDE, ValidRange(0, np.inf), None),
    ),
    Loose(),
    StackingConfig(border_tolerance=0, score_threshold=0.1, max_detections=10_000),
)


def dots(focus):
    """A detector that finds a box of 4 px at every 60 px of the image, and whose focus map is a constant or None."""

    def detect(crops, placements):
        found = []
        for place in placements:
            x, y = (
                np.arange(30, SIDE, 60)[(low <= np.arange(30, SIDE, 60)) & (np.arange(30, SIDE, 60) < high)]
                for low, high in zip(place.box[:2], place.box[2:])
            )
            centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
            boxes = np.concatenate([centres - 2, centres + 2], axis=1) - np.tile(place.box[:2], 2)
            boxes = (boxes * np.tile(place.factor, 2)).astype(np.float32)
            found.append(Detections(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int32)))
        shapes = [[-(-side // STRIDE) for side in crop.shape[:2]] for crop in crops]
        maps = None if focus is None else [np.full(shape, focus, np.float32) for shape in shapes]
        return HostAnswer(found, maps, len(crops), sum(crop.shape[0] * crop.shape[1] for crop in crops))

    return detect


def looked(area, focus=1.0):
    """Detections and cost of one blank image."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    detections, cost, stages = cascade([image], dots(focus), dataclasses.replace(PLAN, area=area))
    return detections[0], cost, stages[0]


def block(low, high):
    """A map of the image's size, 1 in rows and columns low..high."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[low:high, low:high] = True
    return mask


MIDDLE, SHARE = block(300, 603), 0.0996


def centres(found):
    return {(int(x), int(y)) for x, y in (found.boxes[:, :2] + found.boxes[:, 2:]) / 2}


EVERYWHERE = {(x, y) for x in range(30, SIDE, 60) for y in range(30, SIDE, 60)}


def test_a_tenth_costs_at_most_12_percent_and_nothing_outside_is_reported():
    found, cost, _ = looked(area_of(MIDDLE))
    assert SHARE * SIDE**2 <= cost.pixels[1] <= 0.12 * SIDE**2
    assert centres(found) == {(x, y) for x, y in EVERYWHERE if 300 <= x < 603 and 300 <= y < 603}


def test_the_whole_image_is_as_without_an_area():
    for area in (area_of(np.ones((3, 3), bool)), None):
        found, cost, _ = looked(area)
        assert centres(found) == EVERYWHERE and cost.pixels[1] == SIDE**2


def test_where_the_detector_sees_nothing_an_area_that_limits_adds_nothing():
    found, cost, _ = looked(area_of(MIDDLE), focus=0.0)
    assert not len(found.scores) and cost.pixels[1] == 0


def test_either_looks_inside_in_any_case_and_reports_everything():
    found, cost, _ = looked(area_of(MIDDLE, "either"), focus=0.0)
    assert SHARE * SIDE**2 <= cost.pixels[1] <= 0.2 * SIDE**2, "dilated, not cut"
    assert {(x, y) for x, y in EVERYWHERE if 300 <= x < 603 and 300 <= y < 603} <= centres(found)
    assert len(looked(area_of(MIDDLE, "either"), focus=1.0)[0].scores) == len(EVERYWHERE)


def test_a_detector_without_a_map_is_led_by_the_area_alone():
    found, cost, _ = looked(area_of(MIDDLE), focus=None)
    assert cost.pixels[1] <= 0.12 * SIDE**2 and len(found.scores) == 25


def test_the_pyramid_is_cut_too():
    plan = dataclasses.replace(PLAN.pyramid(), area=area_of(MIDDLE))
    _, cost, _ = cascade([np.zeros((SIDE, SIDE, 3), np.uint8)], dots(None), plan)
    assert cost.pixels[1] <= 0.12 * SIDE**2


def test_nothing_marked_nothing_found():
    found, cost, stages = looked(area_of(np.zeros((1, 1), bool)))
    assert not len(found.scores) and cost.pixels[1] == 0 and not len(stages[1].chips)


def test_each_image_has_its_own():
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    plan = dataclasses.replace(PLAN, area=area_of([block(0, 110), block(900, 960)]))
    (one, two), _, _ = cascade([image, image], dots(1.0), plan)
    assert centres(one) == {(x, y) for x in (30, 90) for y in (30, 90)} and centres(two) == {(930, 930)}


def test_an_image_without_a_map_is_named_and_the_others_go_on():
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    plan = dataclasses.replace(PLAN, area=area_of({"a": block(0, 110)}))
    outcomes = list(stream([("b", lambda: image), ("a", lambda: image)], dots(1.0), plan))
    assert "no area of image 'b' was given" in outcomes[0].error and len(outcomes[1].detections.scores) == 4
    with pytest.raises(ImageError, match="no area of image 'c'"):
        cascade([image], dots(1.0), plan, keys=["c"])


@pytest.mark.parametrize(
    "values, says",
    [
        (np.zeros((2, 2, 3)), r"must be an array \[H, W\]"),
        (np.zeros((0, 2)), r"must be an array \[H, W\]"),
        (np.array([["a"]]), r"must be an array \[H, W\]"),
        (np.full((2, 2), 255, np.uint8), r"in 0..1, got 255 to 255; divide"),
        (np.array([[np.nan]]), r"in 0..1, got nan"),
        (np.array([[-0.1]]), r"in 0..1"),
    ],
)
def test_maps_that_are_none(values, says):
    with pytest.raises(PlanError, match=says):
        area_of(values)


def test_an_unknown_join():
    with pytest.raises(PlanError, match="'both' or 'either', got 'neither'"):
        Area(lambda key, size: np.ones((1, 1), np.float32), "neither")


@pytest.mark.parametrize("values", [np.ones((2, 2, 1)), None, [[np.nan]], np.zeros((0, 1))])
def test_an_answer_that_is_no_map_names_the_image(values):
    plan = dataclasses.replace(PLAN, area=Area(lambda key, size: values))
    with pytest.raises(ImageError, match=r"image 0: (values of )?an area must|image 0: values of"):
        cascade([np.zeros((SIDE, SIDE, 3), np.uint8)], dots(1.0), plan)


def test_a_plan_wants_an_area_and_not_a_map():
    with pytest.raises(PlanError, match=r"area must be an Area, got ndarray; make one by area_of\(map\)"):
        dataclasses.replace(PLAN, area=np.ones((2, 2)))


def test_the_map_that_chose_the_chips_is_in_the_stage():
    _, _, stages = looked(area_of(MIDDLE), focus=0.7)
    focus = stages[0].focus[0]
    assert focus.max() == np.float32(0.7) and focus[0, 0] == 0 and focus[focus.shape[0] // 2, focus.shape[1] // 2] > 0


maps = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
sides = st.integers(1, 70)


def drawn(rows, columns, seed):
    random = np.random.default_rng(seed)
    return np.where(random.random((rows, columns)) < 0.3, random.random((rows, columns)), 0).astype(np.float32)


def overlaps(low, high, step, number):
    """Whether row `number` of a map, `step` px high, shares more than rounding with an interval of px."""
    return min(high, (number + 1) * step) - max(low, number * step) > 1e-3


@given(maps, st.tuples(sides, sides), st.tuples(*[st.floats(0, 1)] * 4), st.sampled_from([0.5, 1.0, 2.5]))
def test_cells_are_the_largest_value_in_them(given_map, size, corners, factor):
    heat = drawn(*given_map)
    x1, y1 = int(corners[0] * (size[1] - 1)), int(corners[1] * (size[0] - 1))
    x2, y2 = x1 + 1 + int(corners[2] * (size[1] - x1 - 1)), y1 + 1 + int(corners[3] * (size[0] - y1 - 1))
    chip = max(1, round((y2 - y1) * factor)), max(1, round((x2 - x1) * factor))
    factors = np.array([chip[1] / (x2 - x1), chip[0] / (y2 - y1)], np.float32)
    cells = area_ops.cells(heat, size, Placement(0, 1, np.array([x1, y1, x2, y2], np.float32), factors), chip)
    assert cells.shape == (-(-chip[0] // STRIDE), -(-chip[1] // STRIDE))
    steps = size[0] / heat.shape[0], size[1] / heat.shape[1]
    for row, column in np.ndindex(*cells.shape):
        top, bottom = (y1 + min(edge * STRIDE, chip[0]) / factors[1] for edge in (row, row + 1))
        left, right = (x1 + min(edge * STRIDE, chip[1]) / factors[0] for edge in (column, column + 1))
        held = [heat[i, j] for i, j in np.ndindex(*heat.shape)
                if overlaps(top, bottom, steps[0], i) and overlaps(left, right, steps[1], j)]  # fmt: skip
        assert cells[row, column] == max(held)


@given(maps, st.tuples(sides, sides), st.floats(0, 5), st.floats(0, 30))
def test_cuts_keep_all_that_is_marked_and_no_more(given_map, size, margin, least):
    heat = drawn(*given_map)
    middle = max(1, size[1] // 2)
    regions = [[0, 0, middle, size[0]]] + ([[middle, 0, size[1], size[0]]] if middle < size[1] else [])
    cut = area_ops.cut(np.array(regions, np.int32), heat, size, margin, least)
    # Pixels that touch a marked place of the map.
    steps = size[0] / heat.shape[0], size[1] / heat.shape[1]
    rows, columns = (
        np.array([[overlaps(at, at + 1, step, number) for number in range(count)] for at in range(side)])
        for side, step, count in zip(size, steps, heat.shape)
    )
    marked = rows.astype(int) @ (heat > 0) @ columns.T > 0
    kept = np.zeros(size, bool)
    parents = set()
    for x1, y1, x2, y2 in cut:
        (parent,) = [number for number, box in enumerate(regions) if box[0] <= x1 < x2 <= box[2] and 0 <= y1 < y2]
        parents.add(parent)
        kept[y1:y2, x1:x2] = True
        inside = marked[:, regions[parent][0] : regions[parent][2]]
        ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        assert y2 - y1 <= max(np.ptp(ys) + 1 + 2 * margin, least) + 2, "no higher than it must be"
        assert x2 - x1 <= max(np.ptp(xs) + 1 + 2 * margin, least) + 2, "no wider than it must be"
        assert y2 - y1 >= min(least, size[0]) - 1e-3 and x2 - x1 >= min(least, regions[parent][2] - regions[parent][0])
    assert (kept | ~marked).all() and len(parents) == len(cut)


@given(maps, st.tuples(sides, sides), st.integers(0, 2**32 - 1))
def test_a_detection_counts_by_its_centre(given_map, size, seed):
    heat = drawn(*given_map)
    centre = np.random.default_rng(seed).random((20, 2)) * size[::-1]
    boxes = np.concatenate([centre - 3, centre + 3], axis=1).astype(np.float32)
    keep = area_ops.inside(heat, size, Detections(boxes, np.ones(20, np.float32), np.zeros(20, np.int32)))
    for (x, y), kept in zip((boxes[:, :2] + boxes[:, 2:]) / 2, keep):
        row, column = (
            int(min(max(at * count / side, 0), count - 1)) for at, count, side in zip((y, x), heat.shape, size)
        )
        assert kept == (heat[row, column] > 0)
