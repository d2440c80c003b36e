"""The report of detect on images that are read by windows, and on a run that keeps too little."""

from types import SimpleNamespace

import numpy as np
import pytest

from autofocus_jax.command.report_writer import ReportWriter
from autofocus_jax.command.writers import Entry
from autofocus_jax.focus.cascade import Stage
from autofocus_jax.focus.plan import Plan
from autofocus_jax.inference.result import Result
from autofocus_jax.structures import AutoFocusError, Detections
from tests.report_page import Parsed


class Scene:
    """Regions of 3000x6000 px, red at the left and blue at the right. Nothing of their size is made."""

    shape = (3000, 6000, 3)

    def read(self, box, size):
        columns = np.linspace(box[0], box[2], size[1]) < 3000
        return np.broadcast_to(np.where(columns[:, None], (255, 0, 0), (0, 0, 255)).astype(np.uint8), (*size, 3))


def result(stages):
    boxes = np.array([[5000, 1000, 5100, 1100]], np.float32)
    return Result(boxes, np.array([0.9], np.float32), np.array([0], np.int32), ("car",), (3000, 6000), 10, 40, "s.tif",
                  stages)  # fmt: skip


@pytest.fixture
def writer(tmp_path, tiny_config):
    model = SimpleNamespace(plan=Plan.of(tiny_config), categories=("car",))
    return ReportWriter(tmp_path / "report.html", model, 0.5, 1)


def test_a_scene_that_is_read_by_windows(writer, tmp_path):
    nothing = Detections.none()
    stage = Stage(np.array([[0, 0, 6000, 3000]], np.float32), (), nothing, nothing)
    writer.add(Entry(1, "s", "s.tif", result([stage, stage]), Scene(), None))
    writer.close()
    parsed = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    (one,) = parsed.photographs().values()
    assert one["size"] == [3000, 6000] and one["panes"][2]["found"]["boxes"] == [[5000, 1000, 5100, 1100]]
    assert len(one["picture"]) < 100_000 and "4.0 times" in [text.strip() for text in parsed.texts]


@pytest.mark.parametrize(("stages", "image"), [(None, Scene()), ([], None)])
def test_a_stream_that_keeps_too_little_is_an_error(writer, stages, image):
    with pytest.raises(AutoFocusError, match="a report needs images and stages"):
        writer.add(Entry(1, "s", "s.tif", result(stages), image, None))
