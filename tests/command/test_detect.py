"""autofocus detect from the command line to its files."""

import csv
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from autofocus_jax.api import with_thresholds
from autofocus_jax.command import budget, detect, detection_run, video, whole_file, writers
from autofocus_jax.structures import AutoFocusError, ImageError


def table(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


ALL = ("pictures", "panels", "coco", "csv", "yolo")


def test_every_form_of_output(autofocus, pictures, tmp_path, tiny_model):
    code, out, err = autofocus("detect", pictures, "--weights", "tiny", "--score", "0.3", "--write", *ALL)
    assert code == 0 and err == "" and out.startswith("3 images, ")
    output = tmp_path / "runs" / "detect"
    content = json.loads((output / "detections.json").read_text())
    sizes = {i["file_name"]: (i["height"], i["width"]) for i in content["images"]}
    assert sizes == {"a.png": (60, 90), "below/a.jpg": (64, 64), "below/b.jpg": (40, 50)}
    assert content["categories"] == [{"id": 1, "name": "ape"}, {"id": 2, "name": "bee"}, {"id": 3, "name": "cat"}]
    file_of = {i["id"]: i["file_name"] for i in content["images"]}

    found = {name: [] for name in sizes}
    for entry in content["annotations"]:
        found[file_of[entry["image_id"]]].append((entry["category_id"] - 1, entry["score"], entry["bbox"]))
    for name in sizes:  # the same as from Python
        result = tiny_model(pictures / name, score=0.3)
        assert [label for label, _, _ in found[name]] == result.labels.tolist()
        np.testing.assert_allclose([score for _, score, _ in found[name]], result.scores, atol=1e-5)
        boxes = np.array([box for _, _, box in found[name]]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, result.boxes, atol=1e-3)
    assert sum(map(len, found.values())) > 0 and f"{sum(map(len, found.values()))} detections" in out

    rows = table(output / "detections.csv")
    assert len(rows) == len(content["annotations"])
    for row, entry in zip(rows, content["annotations"]):
        assert row["image"] == file_of[entry["image_id"]] and int(row["label"]) == entry["category_id"] - 1
        x, y, w, h = entry["bbox"]
        corners = [float(row[key]) for key in ("x1", "y1", "x2", "y2")]
        np.testing.assert_allclose(corners, [x, y, x + w, y + h], atol=0.01)
    assert (output / "labels" / "classes.txt").read_text() == "ape\nbee\ncat\n"
    for name, (height, width) in sizes.items():
        lines = (output / "labels" / name).with_suffix(".txt").read_text().splitlines()
        assert len(lines) == len(found[name])
        for line, (label, score, (x, y, w, h)) in zip(lines, found[name]):
            numbers = list(map(float, line.split()))
            expected = [label, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height, score]
            np.testing.assert_allclose(numbers, expected, atol=1e-4)
        picture = cv2.imread(str((output / "pictures" / name).with_suffix(".jpg")))
        assert picture.shape[:2] == (height, width)
        assert cv2.imread(str((output / "panels" / name).with_suffix(".png"))).shape[1] > 1000
    assert not [path for path in output.rglob("*") if "partial" in path.name]


def test_the_file_is_what_pycocotools_reads(autofocus, pictures, tmp_path):
    assert autofocus("detect", pictures, "--weights", "tiny", "--score", "0", "--write", "coco")[0] == 0
    path = tmp_path / "runs/detect/detections.json"
    truth = COCO(str(path))
    assert len(truth.loadRes(json.loads(path.read_text())["annotations"]).anns) == len(truth.anns) > 0


def test_settings_from_the_command_line(autofocus, pictures):
    words = ("detect", pictures, "--weights", "tiny", "--write", "csv")
    whole = "100.0% of the pyramid's pixels"
    assert whole in autofocus(*words, "--threshold", "0")[1]
    assert whole not in autofocus(*words, "--threshold", "1")[1]
    # a.png, 60 x 90 px: 21 x 32 and 43 x 64; of the others, squarer, the shorter side decides.
    code, out, _ = autofocus(*words, "--scales", "24x32", "48x64", "--threshold", "0")
    assert code == 0 and whole in out
    (pictures / "names.txt").write_text("one\ntwo\nthree\n")
    assert autofocus(*words, "--names", pictures / "names.txt", "--score", "0")[0] == 0
    rows = table("runs/detect/detections.csv")
    assert {row["category"] for row in rows} <= {"one", "two", "three"} and rows
    (pictures / "names.json").write_text('{"categories": [{"id": 9, "name": "z"}, {"id": 2, "name": "x"}, '
                                         '{"id": 5, "name": "y"}]}')  # fmt: skip
    assert autofocus(*words, "--names", pictures / "names.json", "--score", "0")[0] == 0
    for row in table("runs/detect/detections.csv"):
        assert row["category"] == "xyz"[int(row["label"])]


def test_pixels_keeps_to_a_budget(tiny_model, memory_dataset):
    random = np.random.default_rng(2)
    images = [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(5)]
    readers = [lambda image=image: image for image in images]
    cheapest, dearest = 32 * 32, 32 * 32 + 64 * 64
    for side in (40, 55, 70):
        found = budget.thresholds_within(tiny_model, side, readers)
        outcomes = tiny_model.changed(lambda c, t=found.thresholds: with_thresholds(c, t)).stream(readers)
        assert np.mean([outcome.info.pixels.sum() for outcome in outcomes]) == found.pixels <= side**2
        assert cheapest <= found.pixels <= dearest
    assert budget.thresholds_within(tiny_model, 72, readers).pixels == dearest
    with pytest.raises(AutoFocusError, match="even the highest thresholds cost 32 px of side"):
        budget.thresholds_within(tiny_model, 31, readers)

    def broken():
        raise ImageError("no image")

    with pytest.raises(AutoFocusError, match="none of the images"):
        budget.thresholds_within(tiny_model, 40, [broken])


def test_pixels_on_the_command_line(autofocus, pictures):
    code, out, _ = autofocus("detect", pictures, "--weights", "tiny", "--write", "csv", "--pixels", "60")
    assert code == 0 and "--pixels 60: --threshold " in out and "on 3 of the images" in out


def test_bad_images_are_skipped_counted_and_named(autofocus, pictures):
    (pictures / "b.jpg").write_bytes(b"no picture")
    (pictures / "c.jpg").write_bytes((pictures / "below/b.jpg").read_bytes()[:-50])
    (pictures / "d.mp4").write_bytes(b"no video")
    code, out, err = autofocus("detect", pictures, "--weights", "tiny")
    assert code == 0 and err == "" and "3 images, " in out and "3 could not be read and were skipped" in out
    assert all(f"{name} " in out for name in ("b.jpg", "c.jpg", "d.mp4"))
    assert len(json.loads(Path("runs/detect/detections.json").read_text())["images"]) == 3


@pytest.fixture
def interrupts():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_keeps_what_is_finished(interrupts, autofocus, pictures, monkeypatch, tiny_model):
    stream = type(tiny_model).stream

    def interrupted(self, *arguments):
        for outcome in stream(self, *arguments):
            if outcome.index == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield outcome

    monkeypatch.setattr(type(tiny_model), "stream", interrupted)
    code, _, err = autofocus("detect", pictures, "--weights", "tiny", "--write", *ALL)
    assert code == 130 and "interrupted; the results of 2 images are kept" in err and err.count("\n") == 1
    assert len(json.loads(Path("runs/detect/detections.json").read_text())["images"]) == 2
    assert len(list((pictures.parent / "runs/detect/pictures").rglob("*.jpg"))) == 2


def test_an_interrupt_while_writing_waits_until_it_is_written(interrupts):
    done = []

    def work(value):
        os.kill(os.getpid(), signal.SIGINT)
        done.append(value)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        detection_run.whole(work)(3)
    assert done == [3] and signal.getsignal(signal.SIGINT) is before


def test_an_output_that_cannot_be_written_ends_the_run_and_keeps_the_rest(autofocus, pictures, monkeypatch):
    add = writers.YoloWriter.add

    def full(self, entry):
        if entry.image_id == 3:
            raise AutoFocusError("labels/x.txt cannot be written (No space left on device)")
        add(self, entry)

    monkeypatch.setattr(writers.YoloWriter, "add", full)
    code, out, err = autofocus("detect", pictures, "--weights", "tiny", "--write", "coco", "yolo")
    assert code == 1 and "No space left" in err and err.count("\n") == 1 and out.startswith("2 images, ")
    assert len(json.loads(Path("runs/detect/detections.json").read_text())["images"]) == 3


def test_videos_frame_by_frame(autofocus, tmp_path):
    random = np.random.default_rng(1)
    shown = [cv2.resize(random.integers(0, 255, (6, 8, 3), np.uint8), (96, 64)) for _ in range(7)]
    writer = video.VideoWriter(tmp_path / "clip.mp4", 64, 96, 5.0)
    for frame in shown:
        writer.add(frame)
    writer.close()
    info = video.video_info(tmp_path / "clip.mp4")
    assert info == (64, 96, 5.0, 7)
    back = list(video.frames(tmp_path / "clip.mp4"))
    assert len(back) == 7 and np.abs(back[3].astype(int) - shown[3]).mean() < 12  # RGB again, but for the compression

    code, out, err = autofocus("detect", "clip.mp4", "--weights", "tiny", "--score", "0", "--write", "pictures", "coco",
                               "yolo")  # fmt: skip
    assert code == 0 and err == "" and out.startswith("7 images, ")
    assert video.video_info(tmp_path / "runs/detect/pictures/clip.mp4") == info
    content = json.loads((tmp_path / "runs/detect/detections.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"clip.mp4#{number}" for number in range(7)]
    assert (tmp_path / "runs/detect/labels/clip_000006.txt").is_file()


def test_a_video_that_ends_early(autofocus, tmp_path, monkeypatch):
    writer = video.VideoWriter(tmp_path / "clip.mp4", 32, 32, 5.0)
    for _ in range(4):
        writer.add(np.zeros((32, 32, 3), np.uint8))
    writer.close()
    told = video.video_info
    monkeypatch.setattr(video, "video_info", lambda path: told(path)._replace(frames=40))
    code, out, _ = autofocus("detect", "clip.mp4", "--weights", "tiny", "--write", "csv")
    assert code == 0 and out.startswith("4 images, ") and "ends after 4 of 40 frames; what came before is kept" in out


def test_whole_files(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file.whole_file(path) as partial:
        partial.write_text("x")
        assert not path.exists() and partial.suffix == ".txt"
    assert path.read_text() == "x"
    with pytest.raises(ValueError, match="stop"), whole_file.whole_file(path) as partial:
        partial.write_text("y")
        raise ValueError("stop")
    assert path.read_text() == "x" and [item.name for item in path.parent.iterdir()] == ["a.txt"]
    with pytest.raises(AutoFocusError, match=r"a\.txt/b cannot be written"), whole_file.whole_file(path / "b"):
        pass


def test_huge_images_are_announced_and_work(autofocus, pictures, monkeypatch):
    monkeypatch.setattr(detect, "_HUGE", 3 * 60 * 90)
    monkeypatch.setattr(detect, "_HELD", 20_000)  # bytes: one image at a time
    windows = []
    run = detect.run_detection
    monkeypatch.setattr(detect, "run_detection", lambda *a: windows.append(a[5]) or run(*a))
    code, out, _ = autofocus("detect", pictures, "--weights", "tiny", "--write", "csv")
    assert code == 0 and windows == [1] and "3 images, " in out
    # At the finest scale, 64 x 96, it is 96 / 90 times as large.
    assert "a.png: 90x60 px, 0.0 GB when decoded; the finest scale sees it 1.1 times as large" in out
    assert "b.jpg: " not in out
