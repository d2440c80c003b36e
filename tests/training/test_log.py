"""The log: lines, TensorBoard's events, pictures, and what a killed run leaves behind."""

import json

import cv2
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from autofocus_jax.structures import AutoFocusError
from autofocus_jax.training import curves
from autofocus_jax.training.log import open_log, read, seconds


def events(workdir):
    """TensorBoard's events of a workdir, file by file; a TFRecord is length, checksum, data, checksum."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, position = path.read_bytes(), 0
        while position < len(content):
            length = int.from_bytes(content[position : position + 8], "little")
            found.append(Event.FromString(content[position + 12 : position + 12 + length]))
            position += 16 + length
    return found


def scalars(workdir):
    """(step, tag, value) that TensorBoard shows: a session that starts at a step takes back what had reached it."""
    shown = []
    for event in events(workdir):
        if event.session_log.status == event.session_log.START:
            shown = [entry for entry in shown if entry[0] < event.step]
        shown += [
            (event.step, value.tag, value.simple_value) for value in event.summary.value if not value.HasField("image")
        ]
    return shown


def test_lines_and_events_hold_the_same(tmp_path):
    with open_log(tmp_path / "run", 0) as log:
        log.scalars(2, {"loss": np.float32(0.5), "AP": None})
        log.scalars(4, {"loss": 0.25})
    assert read(tmp_path / "run") == [{"step": 2, "loss": 0.5, "AP": None}, {"step": 4, "loss": 0.25}]
    assert scalars(tmp_path / "run") == [(2, "loss", 0.5), (4, "loss", 0.25)]


def test_what_is_not_finite_is_null_in_strict_json(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.scalars(1, {"loss": float("nan"), "norm": float("inf")})
    text = (tmp_path / "log.jsonl").read_text()
    assert text == '{"step": 1, "loss": null, "norm": null}\n'
    values = {tag: value for _, tag, value in scalars(tmp_path)}
    assert np.isnan(values["loss"]) and np.isinf(values["norm"])  # TensorBoard marks them


def test_lines_are_there_at_once(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.scalars(1, {"loss": 1.0})
        assert read(tmp_path) == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize(
    "tail", ["", '{"step": 5, "lo', '{"step": 5, "loss": 1.0}', "\x00\x00\n", "[1]\n", '{"a": 1}\n']
)
def test_a_run_that_goes_on_has_no_step_twice(tmp_path, tail):
    with open_log(tmp_path, 0) as log:
        for step in (2, 4, 6, 8):
            log.scalars(step, {"loss": step / 10})
            log.images(step, {"chips": np.full((4, 6, 3), step, np.uint8)})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write(tail)
    with open_log(tmp_path, 5) as log:  # the checkpoint is that of step 5
        assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == [
            "0000002_chips.png",
            "0000004_chips.png",
        ]
        for step in (6, 8, 10):
            log.scalars(step, {"loss": step / 100})
    assert [entry["step"] for entry in read(tmp_path)] == [2, 4, 6, 8, 10]
    assert [entry["loss"] for entry in read(tmp_path)] == [0.2, 0.4, 0.06, 0.08, 0.1]
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == read(tmp_path)
    assert [step for step, _, _ in scalars(tmp_path)] == [2, 4, 6, 8, 10]
    assert scalars(tmp_path)[2][2] == pytest.approx(0.06)
    assert not list(tmp_path.rglob(".*.partial*"))


def test_a_run_that_begins_anew_drops_all(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.scalars(1, {"loss": 1.0})
    with open_log(tmp_path, 0):
        assert read(tmp_path) == []
    assert scalars(tmp_path) == []


def test_lines_that_stay_are_not_written_again(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.scalars(1, {"loss": 1.0})
    before = (tmp_path / "log.jsonl").stat()
    with open_log(tmp_path, 1):
        pass
    after = (tmp_path / "log.jsonl").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_pictures(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    with open_log(tmp_path, 0) as log:
        log.images(3, {"chips/scale 1": picture})
    saved = cv2.imread(str(tmp_path / "panels" / "0000003_chips_scale_1.png"))[..., ::-1]
    np.testing.assert_array_equal(saved, picture)
    (image,) = [value.image for event in events(tmp_path) for value in event.summary.value if value.HasField("image")]
    shown = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(shown, picture)


@pytest.mark.parametrize("picture", [np.zeros((5, 7, 3)), np.zeros((5, 7), np.uint8), np.zeros((5, 7, 4), np.uint8)])
def test_pictures_of_another_kind_are_refused(tmp_path, picture):
    with open_log(tmp_path, 0) as log, pytest.raises(AutoFocusError, match=r"want uint8 \[height, width, 3\]"):
        log.images(3, {"chips": picture})


def test_other_processes_write_nothing(tmp_path):
    with open_log(tmp_path / "run", 0, write=False) as log:
        log.scalars(1, {"loss": 1.0})
        log.images(1, {"chips": np.zeros((4, 4, 3), np.uint8)})
    assert not (tmp_path / "run").exists() and read(tmp_path / "run") == []


def test_a_workdir_that_cannot_be_written_is_an_oserror(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OSError, match=r"log\.jsonl"), open_log(tmp_path, 0):
        pass


def test_the_time_of_a_training_counts_what_came_before_it_was_resumed(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.scalars(10, {"loss": 2.0, "chips_per_second": 8.0})  # 10 steps of 4 chips: 5 s
        log.scalars(10, {"AP": 12.0, "AP50": 30.0})
    with open_log(tmp_path, 10) as log:
        log.scalars(30, {"loss": 1.0, "chips_per_second": 20.0})  # 20 steps: 4 s
    assert seconds(tmp_path, 4) == pytest.approx(9)
    assert seconds(tmp_path / "none", 4) == 0


def test_curves_are_drawn_of_what_was_logged(tmp_path):
    assert curves.draw(tmp_path) is None
    with open_log(tmp_path, 0) as log:
        log.scalars(10, {"loss": 2.0})
        log.scalars(20, {"loss": 1.0})
    plain = cv2.imread(str(curves.draw(tmp_path)))
    with open_log(tmp_path, 20) as log:
        log.scalars(20, {"AP": 50.0, "AP50": None})
    scored = cv2.imread(str(curves.draw(tmp_path)))
    assert plain.shape == scored.shape and (plain != scored).any()
