"""Areas of drawn images whose shares are known, and of random boxes against painted pixels."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.experiments import areas


def test_a_drawn_image(truth):
    # 200 x 100 px. A small box inside a medium one inside a large one, and an ignore region half under the large one.
    boxes = [[10, 10, 20, 20], [0, 0, 50, 50], [0, 0, 100, 100], [80, 0, 120, 100]]
    found = areas.image_areas(truth(boxes, [0] * 4, [False, False, False, True]), 100, 200)
    assert found.objects.tolist() == [1, 1, 1]
    assert found.area.tolist() == [100, 2500 - 100, 10000 - 2500, 20 * 100, 20000 - 12000]
    assert found.boxes.tolist() == [100, 2500, 10000]


def test_cocos_limits_belong_to_medium(truth):
    sides = [31.99, 32, 96, 96.01]
    found = areas.image_areas(truth([[0, 0, side, side] for side in sides], [0] * 4), 100, 100)
    assert found.objects.tolist() == [1, 2, 1]


def test_no_objects(truth):
    found = areas.image_areas(truth(), 30, 40)
    assert found.objects.tolist() == [0, 0, 0] and found.area.tolist() == [0, 0, 0, 0, 1200]
    rows = areas.report_rows(found, {})
    assert [row["objects"] for row in rows] == [0, 0, 0, None, None] and rows[-1]["area"] == 1


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 4, st.booleans()), max_size=6), st.integers(1, 2))
def test_equals_painting(drawn, divisor):
    """Boxes on half pixels are painted at twice the size; the later paint of smaller sizes covers the larger."""
    boxes = np.array([[min(x, u), min(y, v), max(x, u) + 1, max(y, v) + 1] for x, y, u, v, _ in drawn]).reshape(-1, 4)
    ignore = np.array([item[-1] for item in drawn], bool)
    from autofocus_jax.structures import GroundTruth

    scaled = boxes * 4 / divisor  # up to 244 image px, so that all sizes occur
    found = areas.image_areas(GroundTruth(scaled.astype(np.float32), np.zeros(len(boxes), int), ignore), 244, 244)
    side = np.sqrt((scaled[:, 2] - scaled[:, 0]) * (scaled[:, 3] - scaled[:, 1]))
    size = np.where(ignore, 3, np.where(side < 32, 0, np.where(side > 96, 2, 1)))
    canvas = np.full((61 * divisor, 61 * divisor), 4)
    for row in np.argsort(-size, kind="stable"):
        x1, y1, x2, y2 = boxes[row]
        canvas[y1:y2, x1:x2] = size[row]
    painted = np.bincount(canvas.ravel(), minlength=5) * (4 / divisor) ** 2
    np.testing.assert_allclose(found.area, painted, atol=1e-6)


def test_the_experiment(tmp_path, coco_file, tiny_config_file):
    from autofocus_jax.command.main import main

    annotations = coco_file([(100, 200, [[10, 10, 20, 20], [0, 0, 100, 100]]), (50, 200, [])])
    command = ["areas", "--config", tiny_config_file, "--annotations", annotations, "--output", str(tmp_path / "out")]
    assert main(["experiment", *command]) == 0
    content = json.loads((tmp_path / "out" / "areas.json").read_text())
    shares = {row["size"]: (row["objects"], row["area"]) for row in content["rows"]}
    assert shares["small"] == (0.5, pytest.approx(100 / 30000)) and shares["large"] == (0.5, pytest.approx(0.33))
    assert shares["background"] == (None, pytest.approx(2 / 3)) and content["images"] == 2
    assert content["mean_image_side"] == pytest.approx(15000**0.5)
