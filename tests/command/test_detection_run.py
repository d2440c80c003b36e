"""The run of `autofocus detect` with a detector that fails on photographs."""

import math

import cv2
import numpy as np
import pytest

from autofocus_jax.command.detection_run import run_detection
from autofocus_jax.command.inputs import collect
from autofocus_jax.focus.buckets import Loose
from autofocus_jax.focus.plan import Plan
from autofocus_jax.foreign.callback import from_callback
from autofocus_jax.foreign.detect import ForeignDetect
from autofocus_jax.inference.model import Model
from autofocus_jax.structures import Scale, ValidRange


def run(folder, values):
    """Detect in even pictures of these values; the detector fails on those of 9."""
    for number, value in enumerate(values):
        cv2.imwrite(str(folder / f"{number:02d}.png"), np.full((48, 64, 3), value, np.uint8))

    def callback(crop):
        if crop[0, 0, 0] == 9:
            raise ValueError("nine")
        return [[1, 1, 30, 30]], [0.9], [0]

    plan = Plan([Scale(48, 64, ValidRange(0, math.inf), None)], Loose())
    model = Model(ForeignDetect(from_callback(callback)), plan, ["thing"])
    return run_detection(model, collect([str(folder)]), [], 0.5, False, 4)


def test_a_photograph_that_the_detector_fails_on_is_named_and_the_others_are_done(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    summary = run(tmp_path, [1, 9, 1, 1])
    reasons = dict(summary.skipped)
    assert reasons.pop("01.png") == "01.png: the callback raised ValueError on a crop of 48x64 px: nine"
    assert reasons.pop("broken.png").count("broken.png") == 1 and not reasons
    assert (summary.images, summary.found, summary.stopped) == (3, 3, None)


@pytest.mark.parametrize("count", [3, 30])
def test_a_detector_that_fails_on_every_photograph(tmp_path, count):
    """The command's exit code is 1 without an image that was done, and after what stopped the run."""
    summary = run(tmp_path, [9] * count)
    assert summary.images == 0 and all("nine" in reason for _, reason in summary.skipped)
    if count > 8:
        assert str(summary.stopped).startswith("the detector failed on each of the first 8 images, at last: the call")
    else:
        assert len(summary.skipped) == count and summary.stopped is None
