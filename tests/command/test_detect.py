"""autofocus detect from the command line to its files."""

import csv
import dataclasses
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from autofocus_jax.command import budget, detect, report_writer, video, writers
from autofocus_jax.command.console import Screen
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.inference.settings import with_thresholds
from autofocus_jax.scenes.source import ScenesSource
from autofocus_jax.structures import AutoFocusError, ImageError
from tests.report_page import Parsed


def table(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


ALL = ("pictures", "panels", "coco", "csv", "yolo", "yolo-scores")


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
        for room, columns in (("labels", 5), ("labels_scores", 6)):
            lines = (output / room / name).with_suffix(".txt").read_text().splitlines()
            assert len(lines) == len(found[name])
            for line, (label, score, (x, y, w, h)) in zip(lines, found[name]):
                numbers = list(map(float, line.split()))
                expected = [label, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height, score]
                np.testing.assert_allclose(numbers, expected[:columns], atol=1e-4)
        picture = cv2.imread(str((output / "pictures" / name).with_suffix(".jpg")))
        assert picture.shape[:2] == (height, width)
        assert cv2.imread(str((output / "panels" / name).with_suffix(".png"))).shape[1] > 1000
    assert not [path for path in output.rglob("*") if "partial" in path.name]


def test_a_report(autofocus, pictures, tmp_path, tiny_model):
    code, _, err = autofocus("detect", pictures, "--weights", "tiny", "--score", "0.3", "--write", "report", "coco")
    assert code == 0 and err == ""
    output = tmp_path / "runs" / "detect"
    parsed = Parsed((output / "report.html").read_text(encoding="utf-8"))
    photographs, content = parsed.photographs(), json.loads((output / "detections.json").read_text())
    assert list(photographs) == [image["file_name"] for image in content["images"]]
    for image in content["images"]:
        one = photographs[image["file_name"]]
        entries = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        *scales, result = one["panes"]
        assert one["size"] == [image["height"], image["width"]]
        assert [pane["title"] for pane in scales] == ["scale 1", "scale 2"] and result["title"] == "result"
        assert result["found"]["scores"] == pytest.approx([entry["score"] for entry in entries], abs=6e-4)
        assert scales[0]["chips"] == [[0, 0, image["width"], image["height"]]] and len(scales[0]["focus"]) == 1
        assert all(score >= 0.3 for pane in scales for kind in ("found", "removed") for score in pane[kind]["scores"])
    stages = tiny_model(pictures / "a.png", stages=True).stages
    assert photographs["a.png"]["panes"][1]["chips"] == np.round(stages[1].chips, 1).tolist()
    assert str(len(content["annotations"])) in [text.strip() for text in parsed.texts]


def test_a_report_shows_images_spread_evenly(autofocus, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(report_writer.pictures, "MOST", 2)
    assert autofocus("detect", pictures, "--weights", "tiny", "--write", "report")[0] == 0
    parsed = Parsed((tmp_path / "runs/detect/report.html").read_text(encoding="utf-8"))
    assert list(parsed.photographs()) == ["a.png", "below/a.jpg"]
    assert any("2 of 3 photographs are shown" in text for text in parsed.texts)


def test_the_file_is_what_pycocotools_reads(autofocus, pictures, tmp_path):
    assert autofocus("detect", pictures, "--weights", "tiny", "--score", "0", "--write", "coco")[0] == 0
    path = tmp_path / "runs/detect/detections.json"
    truth = COCO(str(path))
    assert len(truth.loadRes(json.loads(path.read_text())["annotations"]).anns) == len(truth.anns) > 0


def test_files_of_an_earlier_run_are_named(autofocus, pictures, tmp_path):
    words = ["--weights", "tiny", "--score", "0", "--write", "yolo", "csv"]
    assert "already" not in autofocus("detect", pictures / "a.png", *words)[1]
    code, out, _ = autofocus("detect", pictures / "below", *words)
    assert code == 0 and "labels: files are there already; those of the same names are replaced, the others stay" in out
    assert (tmp_path / "runs/detect/labels/a.txt").exists() and "pictures:" not in out


def test_settings_from_the_command_line(autofocus, pictures, monkeypatch):
    words = ("detect", pictures, "--weights", "tiny", "--write", "csv")
    whole = "100.0% of the pyramid's pixels"
    assert whole in autofocus(*words, "--threshold", "0")[1]
    assert whole not in autofocus(*words, "--threshold", "1")[1]
    # a.png, 60 x 90 px: 21 x 32 and 43 x 64; of the others, squarer, the shorter side decides.
    summaries = []
    report = detect.report
    monkeypatch.setattr(detect, "report", lambda *given: summaries.append(given[0]) or report(*given))
    code, out, _ = autofocus(*words, "--scales", "24x32", "48x64", "--threshold", "0")
    assert code == 0 and whole in out
    wanted = [21 * 32 + 24 * 24 + 24 * 30, 43 * 64 + 48 * 48 + 48 * 60]
    assert summaries[0].cost.pixels.tolist() == wanted
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
        outcomes = tiny_model.changed(lambda c, t=found.thresholds: with_thresholds(c, t)).stream(enumerate(readers))
        assert np.mean([outcome.cost.pixels.sum() for outcome in outcomes]) == found.pixels <= side**2
        assert cheapest <= found.pixels <= dearest
    assert budget.thresholds_within(tiny_model, 72, readers).pixels == dearest
    with pytest.raises(AutoFocusError, match="even the highest thresholds cost 32 px of side"):
        budget.thresholds_within(tiny_model, 31, readers)

    def broken():
        raise ImageError("no image")

    with pytest.raises(AutoFocusError, match="none of the images"):
        budget.thresholds_within(tiny_model, 40, [broken])


def test_many_images_find_everything_compiled(autofocus, pictures, monkeypatch, tiny_model):
    warmed = []
    monkeypatch.setattr(type(tiny_model), "warm_up", lambda self, progress: warmed.append(len(self.config.buckets)))
    words = ("detect", pictures, "--weights", "tiny", "--write", "csv")
    code, out, _ = autofocus(*words)
    assert code == 0 and warmed == [] and " s with compiling, " in out and "images/s" not in out
    monkeypatch.setattr(detect, "_MANY", 3)
    code, out, _ = autofocus(*words)
    (first, second), programs = out.splitlines(), len(tiny_model.config.buckets)
    assert code == 0 and warmed == [programs] and first.startswith(f"{programs} programs ready after ")
    assert second.startswith("3 images, ") and " images/s, " in second


def test_weights_of_rendered_scenes_say_so(capsys, tiny_model):
    for model, says in ((tiny_model.changed(lambda c: dataclasses.replace(c, data=ScenesSource())), True),
                        (tiny_model, False)):  # fmt: skip
        detect._say_what_it_knows(model, Screen(width=300))
        said = capsys.readouterr().out
        assert ("rendered scenes alone (ape, bee, cat …); what they find in photographs" in said) is says


def test_yolo_labels_are_a_data_set(autofocus, tmp_path, tiny_model):
    """Boxes that were found, read back by the reader of data sets, are those of Python."""
    random = np.random.default_rng(8)
    for name, shape in (("a.png", (60, 90)), ("b.jpg", (70, 50))):
        (tmp_path / "mine/images/train").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "mine/images/train" / name), random.integers(0, 255, (*shape, 3), np.uint8))
    words = ("detect", "mine/images", "--weights", "tiny", "--score", "0.3", "--output", "mine", "--write", "yolo")
    assert autofocus(*words)[0] == 0
    data = YoloSource(str(tmp_path / "mine")).open("train")
    assert data.categories == ("ape", "bee", "cat") and len(data) == 2 and data.dropped == 0
    for index, name in enumerate(("a.png", "b.jpg")):
        result, truth = tiny_model(tmp_path / "mine/images/train" / name, score=0.3), data.ground_truth(index)
        assert len(result) and truth.labels.tolist() == result.labels.tolist() and not truth.ignore.any()
        np.testing.assert_allclose(truth.boxes, result.boxes, atol=1e-3)

    labels = tmp_path / "mine/labels/train/a.txt"
    labels.write_text("0 0.5 0.5 0.1 0.1\n")  # corrected by hand
    code, _, err = autofocus(*words)
    assert code == 1 and "mine/labels/train/a.txt would be replaced; move these labels away" in err
    assert labels.read_text() == "0 0.5 0.5 0.1 0.1\n"


def test_pictures_of_every_kind_are_one_picture(autofocus, tmp_path):
    """What a file stores in another way (turned, in a palette, deeper, in other colours) is seen as what it shows."""
    picture = Image.fromarray(np.kron(np.random.default_rng(3).integers(0, 255, (6, 9, 3), np.uint8),
                                      np.ones((8, 8, 1), np.uint8)))  # fmt: skip
    rgb = np.asarray(picture)
    tag = Image.Exif()
    tag[274] = 6  # to be turned a quarter to the right
    folder = tmp_path / "kinds"
    folder.mkdir()
    picture.save(folder / "plain.png")
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=tag)
    picture.quantize(256, dither=Image.Dither.NONE).save(folder / "palette.gif")
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.convert("CMYK").save(folder / "cmyk.tif")
    cv2.imwrite(str(folder / "deep.png"), rgb[..., ::-1].astype(np.uint16) * 257)
    assert autofocus("detect", folder, "--weights", "tiny", "--score", "0.3", "--write", "coco", "pictures")[0] == 0
    content = json.loads(Path("runs/detect/detections.json").read_text())
    assert len(content["images"]) == 6 and {(i["height"], i["width"]) for i in content["images"]} == {(48, 72)}
    found = {i["file_name"]: [] for i in content["images"]}
    names = {i["id"]: i["file_name"] for i in content["images"]}
    for entry in content["annotations"]:
        found[names[entry["image_id"]]].append([entry["category_id"], entry["score"], *entry["bbox"]])
    assert len(found["plain.png"]) > 0
    for name, rows in found.items():
        np.testing.assert_allclose(rows, found["plain.png"], atol=1e-3, err_msg=name)
    pixels = [cv2.imread(str(path)) for path in Path("runs/detect/pictures").iterdir()]
    assert all(np.array_equal(image, pixels[0]) for image in pixels)

    grey = np.asarray(picture.convert("L"))
    cv2.imwrite("grey.png", grey)
    assert autofocus("detect", "grey.png", "--weights", "tiny", "--score", "1", "--write", "pictures")[0] == 0
    shown = cv2.imread("runs/detect/pictures/grey.jpg")
    assert np.abs(shown.astype(int) - grey[..., None]).mean() < 3 and np.ptp(shown, axis=2).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(300, 20_000), pytest.param(20_000, 20_000, marks=pytest.mark.slow)])
def test_pictures_of_20000_px_a_side(autofocus, monkeypatch, height, width):
    monkeypatch.setattr(detect, "_HUGE", 3 * 300 * 20_000)
    cv2.imwrite("sky.png", np.zeros((height, width), np.uint8))
    monkeypatch.setenv("AUTOFOCUS_MAX_PIXELS", "1")  # which is put back, as the option sets it
    limit = ("--max-pixels", str(height * width))
    code, out, _ = autofocus("detect", "sky.png", "--weights", "tiny", "--write", "coco", *limit)
    assert code == 0 and f"sky.png: 20000x{height} px, {3 * height * width / 1e9:.1f} GB when decoded" in out
    (image,) = json.loads(Path("runs/detect/detections.json").read_text())["images"]
    assert (image["height"], image["width"]) == (height, width)


def test_pixels_on_the_command_line(autofocus, pictures):
    code, out, _ = autofocus("detect", pictures, "--weights", "tiny", "--write", "csv", "--pixels", "60")
    assert code == 0 and "--pixels 60: --threshold " in out and "on 3 of the images" in out


def test_bad_images_are_skipped_counted_and_named(autofocus, pictures):
    (pictures / "b.jpg").write_bytes(b"no picture")
    (pictures / "c.jpg").write_bytes((pictures / "below/b.jpg").read_bytes()[:-50])
    (pictures / "d.mp4").write_bytes(b"no video")
    code, out, err = autofocus("detect", pictures, "--weights", "tiny")
    assert code == 0 and err == "" and "3 images, " in out and "3 failed and were skipped" in out
    assert all(f"{name} " in out for name in ("b.jpg", "c.jpg", "d.mp4"))
    assert len(json.loads(Path("runs/detect/detections.json").read_text())["images"]) == 3


@pytest.fixture
def shell():
    """Signals as a shell leaves them: the tests may run in the background of one, or of a program that handles some."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM"),
])  # fmt: skip
def test_being_stopped_keeps_what_is_finished(shell, autofocus, pictures, monkeypatch, tiny_model, number, code, word):
    stream = type(tiny_model).stream

    def stopped(self, *arguments, **options):
        for position, outcome in enumerate(stream(self, *arguments, **options)):
            if position == 2:
                assert callable(signal.getsignal(number)), "this signal would end the tests"
                os.kill(os.getpid(), number)
            yield outcome

    monkeypatch.setattr(type(tiny_model), "stream", stopped)
    ended, _, err = autofocus("detect", pictures, "--weights", "tiny", "--write", *ALL)
    assert ended == code and f"{word}; the results of 2 images are kept" in err and err.count("\n") == 1
    assert len(json.loads(Path("runs/detect/detections.json").read_text())["images"]) == 2
    assert len({row["image"] for row in table("runs/detect/detections.csv")}) <= 2
    assert len(list((pictures.parent / "runs/detect/pictures").rglob("*.jpg"))) == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_being_stopped_before_the_first_image(shell, autofocus, pictures, monkeypatch):
    def loading(*_):
        assert callable(signal.getsignal(signal.SIGTERM)), "this signal would end the tests"
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(detect, "load", loading)
    assert autofocus("detect", pictures, "--weights", "x") == (143, "", "autofocus detect: stopped by SIGTERM\n")


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


def test_what_is_above_max_pixels_is_skipped_and_counted(autofocus, pictures, monkeypatch):
    monkeypatch.setenv("AUTOFOCUS_MAX_PIXELS", "1")
    code, out, _ = autofocus("detect", "pictures", "--weights", "tiny", "--write", "coco", "--max-pixels", "4096")
    assert code == 0 and "1 failed and were skipped" in out
    assert "a.png has 90x60 px, above the limit of 4096 pixels" in out
    assert autofocus("detect", "pictures", "--weights", "tiny", "--max-pixels", "0")[0] == 1


def test_images_that_are_nearly_black_are_counted(autofocus, pictures):
    cv2.imwrite(str(pictures / "dark.png"), np.full((40, 40), 900, np.uint16))
    code, out, err = autofocus("detect", "pictures", "--weights", "tiny", "--write", "coco")
    assert code == 0 and "1 images of 16 bits that use the lower ones alone (nearly black)" in out and err == ""
    assert "dark.png has 16 bits a sample and uses the lower 10 alone" in out


def test_long_images_are_announced(autofocus, pictures):
    cv2.imwrite(str(pictures / "street.png"), np.zeros((20, 3000), np.uint8))
    _, out, _ = autofocus("detect", "pictures", "--weights", "tiny", "--write", "coco")
    assert "street.png: 3000x20 px, 0.0 GB when decoded; the finest scale sees it 0.032 times as large" in out


def test_a_video_whose_name_is_no_text(autofocus, tmp_path, pictures):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 8, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    os.rename(tmp_path / "v.mp4", os.fsencode(pictures) + b"/caf\xe9.mp4")
    code, out, _ = autofocus("detect", "pictures", "--weights", "tiny", "--write", "coco", "csv", "pictures")
    assert code == 0 and "6 images" in out
    text = Path("runs/detect/detections.json").read_text(encoding="utf-8")
    assert r"caf\\xe9.mp4#2" in text and "\\ud" not in text


def test_names_of_coco_bring_their_ids(autofocus, pictures):
    names = pictures / "names.json"
    categories = [{"id": number, "name": name} for number, name in ((17, "x"), (90, "y"), (3, "z"))]
    names.write_text(json.dumps({"categories": categories}))
    words = ("detect", "pictures", "--weights", "tiny", "--score", "0", "--write", "coco", "--names")
    assert autofocus(*words, names)[0] == 0
    content = json.loads(Path("runs/detect/detections.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in content["categories"]] == [(3, "z"), (17, "x"), (90, "y")]
    assert {entry["category_id"] for entry in content["annotations"]} <= {3, 17, 90} and content["annotations"]
    (pictures / "names.txt").write_text("one\n\nthree\n")  # line numbers are labels
    assert autofocus(*words, pictures / "names.txt")[0] == 0
    content = json.loads(Path("runs/detect/detections.json").read_text())
    assert [entry["name"] for entry in content["categories"]] == ["one", "class 1 (unnamed)", "three"]
