"""Pictures of a page: their bytes, what crops show, focus maps."""

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from autofocus_jax.report import pictures
from autofocus_jax.report.values import LOST, FocusMap, Mark


def decoded(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("limit", [120_000, 60_000, 8_000])
def test_a_thumbnail_keeps_to_its_bytes_and_shape(limit):
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8), (1600, 900))
    data = pictures.thumbnail(image, limit)
    height, width = decoded(data).shape[:2]
    assert limit / 2 < len(data) <= limit and width / height == pytest.approx(16 / 9, rel=0.03)


def test_a_small_photograph_stays_as_it_is():
    image = np.full((40, 90, 3), (200, 30, 60), np.uint8)
    shown = decoded(pictures.thumbnail(image, 10**6))
    assert shown.shape == image.shape and np.abs(shown.astype(int) - image).max() < 8


def test_a_thumbnail_that_cannot_be_small_enough_ends():
    image = np.random.default_rng(0).integers(0, 255, (64, 600, 3), np.uint8)
    assert decoded(pictures.thumbnail(image, 10)).shape[1] == 64


def test_the_shares_of_all_photographs_fit():
    for count in (0, 1, 90, 500):
        assert count * pictures.share(count) <= pictures.BUDGET
    assert pictures.share(1) == pictures.share(2) < pictures.BUDGET / 50


@hypothesis.given(*[st.floats(-50, 500)] * 2, *[st.floats(0, 400)] * 2, st.tuples(*[st.integers(1, 400)] * 2))
def test_surroundings_are_a_square_inside_the_image(x, y, across, down, size):
    x1, y1, x2, y2 = pictures.surroundings([x, y, x + across, y + down], size)
    assert 0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0] and x2 - x1 == y2 - y1
    assert x2 - x1 >= min(48, *size) and x2 - x1 >= min(*size, 2 * max(across, down))


def test_a_crop_shows_its_object_enlarged():
    image = np.zeros((300, 400, 3), np.uint8)
    image[100:124, 200:224] = 255
    ((number, data),) = pictures.crops(image, [Mark(LOST, [200, 100, 224, 124], 0, 0.9)], 10**6)
    shown = decoded(data)
    assert number == 0 and shown.shape[0] == shown.shape[1] > 3 * 48
    lit = shown[..., 0] > 128
    assert lit.mean() == pytest.approx(0.25, abs=0.02) and lit[len(lit) // 2, len(lit) // 2]


def test_crops_end_at_their_bytes_and_number():
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    marks = [Mark(LOST, [10 * n, 10, 10 * n + 20, 40], 0, 0.9) for n in range(30)]
    assert [number for number, _ in pictures.crops(image, marks, 10**7)] == list(range(pictures.CROPS))
    few = pictures.crops(image, marks, 50_000)
    assert 0 < len(few) < pictures.CROPS and sum(len(data) for _, data in few) <= 50_000
    assert pictures.crops(image, marks, 10) == []


def test_a_focus_map_is_opaque_where_it_is_sure():
    data = pictures.focus_png(FocusMap([0, 0, 9, 9], np.array([[0, 0.25, 1, np.nan]])))
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown[0, :, 3].tolist() == [0, 128, 255, 0] and shown[0, 2, :3].tolist() == [0, 159, 230]
