"""autofocus detect --detector: a detector that is not ours, on photographs and videos, with each option that it has."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.command import video
from autofocus_jax.command.options.detector import ModelOptions
from autofocus_jax.command.plan_file import plan_text
from autofocus_jax.foreign.found import CropDetector, ForeignError
from autofocus_jax.foreign.proposal import of_scales
from autofocus_jax.structures import Detections

pytest.importorskip("onnxruntime", reason="wants onnxruntime: pip install -e '.[test]'")

ALWAYS = ("--padding", "0", "0", "0", "--threads", "1", "--write", "coco")
SMALL = ("--side", "96")


@pytest.fixture
def detect(autofocus, square_finder, squares):
    """detect(word, …) -> (boxes found, summary line, all that was printed), for the four photographs of `squares`."""

    def run(*words, model=None, photos=squares):
        code, out, err = autofocus("detect", photos, "--detector", model or square_finder(), *ALWAYS, *words)
        assert (code, err) == (0, ""), err
        content = json.loads(Path("runs/detect/detections.json").read_text())
        (summary,) = [line for line in out.splitlines() if "detections of score" in line]
        return content["annotations"], summary, out

    return run


def share(summary):
    return float(re.search(r"([\d.]+)% of the pyramid's pixels", summary)[1])


def canvases(summary):
    return float(re.search(r"([\d.]+) canvases an image", summary)[1])


def test_finds_all_squares_in_a_part_of_the_pixels(detect, tmp_path):
    found, summary, out = detect(*SMALL)
    wanted = json.loads((tmp_path / "boxes.json").read_text())["annotations"]
    key = lambda box: (box["image_id"], box["category_id"], *np.round(box["bbox"], 1))  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, wanted))
    assert summary.startswith("4 images, 8 detections") and 10 < share(summary) < 70
    assert 1 < canvases(summary) <= 3 and out.startswith("2 scales of 96, 384 px, looking again from scores of 0.02\n")


def test_where_to_look(detect):
    pixels = lambda *words: share(detect(*SMALL, *words)[1])  # noqa: E731
    weak = pixels()
    assert pixels("--focus", "none") == 100 > weak
    assert "all of them whole" in detect(*SMALL, "--focus", "none")[2]
    assert pixels("--focus-size", "2") < weak and pixels("--focus-score", "0.9") < weak
    assert pixels("--threshold", "0.9") == pixels("--focus-score", "0.9")
    tight = detect(*SMALL, "--pixels", "200")
    assert "--pixels 200: --threshold" in tight[2] and share(tight[1]) < weak


def test_scales(detect, tmp_path):
    assert detect("--scales", "64x96", "128x192", "256x384")[2].startswith("3 scales of 96, 192, 384 px")
    assert detect("--scales", "256x384")[2].startswith("one scale of 384 px")
    (tmp_path / "plan.json").write_text(plan_text(of_scales([96, 256], 384)))
    assert detect("--plan", "plan.json")[2].startswith("2 scales of 96, 256 px")
    assert detect("--plan", "plan.json", "--scales", "64x96", "100x200")[2].startswith("2 scales of 96, 200 px")
    assert detect()[2].startswith("one scale of 416 px"), "the photographs are no larger than the side assumed"


def test_canvases_of_a_fixed_input(detect, square_finder):
    alone, packed = (detect(*SMALL, *words, model=square_finder(160)) for words in (("--no-packed",), ()))
    assert canvases(packed[1]) <= canvases(alone[1]) and len(packed[0]) == 8
    told = detect(*SMALL, "--canvas", "160", "160")
    assert canvases(told[1]) == canvases(packed[1]) and told[0] == packed[0]


def test_all_writers_and_a_video(autofocus, square_finder, squares):
    film = video.VideoWriter(squares / "film.mp4", 256, 384, 25)
    for name in "123":
        film.add(cv2.imread(str(squares / f"{name}.png"))[..., ::-1])
    film.close()
    code, out, err = autofocus("detect", squares, "--detector", square_finder(), *ALWAYS[:6], *SMALL, "--write",
                               "pictures", "panels", "coco", "csv", "yolo", "yolo-scores")  # fmt: skip
    assert (code, err) == (0, "") and "7 images" in out
    there = {str(path.relative_to("runs/detect")) for path in Path("runs/detect").rglob("*") if path.is_file()}
    assert {"pictures/1.jpg", "pictures/film.mp4", "panels/1.png", "panels/film_000002.png", "detections.json",
            "detections.csv", "labels/1.txt", "labels_scores/film_000000.txt"} <= there  # fmt: skip


def test_a_focus_network_on_a_video(autofocus, square_finder, squares, bright_network, tmp_path):
    film = video.VideoWriter(tmp_path / "film.mp4", 256, 384, 25)
    for name in "1234":
        film.add(cv2.imread(str(squares / f"{name}.png"))[..., ::-1])
    film.close()
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(video.frames(tmp_path / "film.mp4")):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), frame[..., ::-1])
    network = ("--focus", "either", "--focus-weights", bright_network(gain=20, bias=-10))
    found = {}
    for photos in ("film.mp4", "frames"):
        code, _, err = autofocus("detect", photos, "--detector", square_finder(), *ALWAYS[:6], *SMALL, *network,
                                 "--write", "csv")  # fmt: skip
        assert (code, err) == (0, "")
        rows = [line.split(",", 1) for line in Path("runs/detect/detections.csv").read_text().splitlines()[1:]]
        found[photos] = [(name.replace("film.mp4#", "").replace(".png", ""), rest) for name, rest in rows]
    assert found["film.mp4"] == found["frames"] and len(found["frames"]) >= 4


def test_photographs_of_other_sizes_share_a_plan(detect, squares):
    cv2.imwrite(str(squares / "large.png"), np.zeros((800, 1200, 3), np.uint8))
    out = detect(*SMALL)[2]
    assert "the longer sides of the photographs are 384 to 1200 px and share one plan, for 384 px; run those" in out


def test_a_photograph_that_the_detector_cannot_bear_is_named_and_the_run_goes_on(autofocus, squares, monkeypatch):
    def find(crops):
        if crops[0].max() == 13:
            raise ForeignError("no good")
        return [Detections.none() for _ in crops]

    detector = CropDetector(find, None, 32, (0, 0, 0), ("red", "green"))
    monkeypatch.setattr(ModelOptions, "load", lambda self, path: detector)
    cv2.imwrite(str(squares / "3bad.png"), np.full((256, 384, 3), 13, np.uint8))
    (squares / "4.png").write_bytes(b"no picture")
    code, out, err = autofocus("detect", squares, "--detector", "m.onnx", "--write", "csv")
    assert (code, err) == (0, "") and "3 images, 0 detections" in out and "2 failed and were skipped:" in out
    assert "  3bad.png: no good\n" in out and "4.png" in out
    code, out, err = autofocus("detect", squares / "3bad.png", "--detector", "m.onnx", "--write", "csv")
    assert (code, err) == (1, "autofocus detect: not one image could be processed\n") and "3bad.png: no good" in out
    code, _, err = autofocus("detect", squares / "4.png", "--detector", "m.onnx", "--write", "csv")
    assert (code, err) == (1, "autofocus detect: not one image could be processed\n")


@pytest.mark.parametrize(("words", "says"), [
    (("--weights", "tiny"), "--weights and --detector exclude each other; give one of them"),
    (("--config", "c.py"), "--config goes with --weights; a detector takes --plan"),
    (("--focus", "none", "--pixels", "300"), "--pixels chooses thresholds, and --focus none has none"),
    (("--focus-score", "0.1", "--pixels", "300"), "give it or --focus-score, not both"),
    (("--focus", "none", "--threshold", "0.1"), "--focus none looks everywhere and has no threshold"),
    (("--focus-score", "0.1", "--threshold", "0.1"), "--focus-score and --threshold both set"),
    (("--focus-score", "2"), "--focus-score must be in [0, 1], got 2"),
    (("--focus-size", "0"), "max_side_px must be above 0, got 0.0"),
    (("--side", "96", "--scales", "64x96"), "--side is for a plan that is proposed"),
    (("--side", "96", "--threshold", "0.1", "0.2"), "2 thresholds for 1 chip rules"),
    (("--scales", "128x192", "64x96"), "order the scales from coarse to fine"),
    (("--plan", "none.json"), "plan none.json cannot be read"),
    (("--providers", "abacus"), "provider 'abacus' is not in this onnxruntime"),
])  # fmt: skip
def test_options_that_make_no_sense(autofocus, squares, square_finder, words, says):
    code, _, err = autofocus("detect", squares, "--detector", square_finder(), *words)
    assert code == 1 and says in err and err.count("\n") == 1


def test_options_of_a_detector_without_one(autofocus, squares):
    for words in (("--focus", "none"), ("--layout", "yolox"), ("--no-packed",), ("--plan", "p.json")):
        code, _, err = autofocus("detect", squares, "--weights", "tiny", *words)
        assert code == 1 and f"{words[0].replace('no-', '')} goes with --detector; leave it out" in err
    code, _, err = autofocus("detect", squares)
    assert code == 1 and "--weights is missing" in err and "or --detector with an .onnx file" in err


def test_an_area_limits_adds_and_leaves_out(detect, tmp_path):
    everything, summary, _ = detect(*SMALL)
    left = {"left.json": [[0, 0, 192, 256]], "right.json": [[192, 0, 384, 256]]}
    for name, boxes in left.items():
        (tmp_path / name).write_text(json.dumps(boxes))
    corner = lambda found: sorted((box["image_id"], *np.round(box["bbox"], 1)) for box in found)  # noqa: E731
    half, cheaper, out = detect(*SMALL, "--where", "left.json")
    assert corner(half) == corner([box for box in everything if box["bbox"][0] < 192]) and 0 < len(half) < 8
    assert share(cheaper) < share(summary) and "looking again and reporting only inside left.json" in out
    other = detect(*SMALL, "--where", "right.json", "--where-use", "not")
    assert corner(other[0]) == corner(half) and share(other[1]) == pytest.approx(share(cheaper), abs=0.5)
    added = detect(*SMALL, "--where", "left.json", "--where-use", "also")
    assert corner(added[0]) == corner(everything) and share(added[1]) > share(summary)
    alone = detect(*SMALL, "--where", "left.json", "--focus", "none")
    assert corner(alone[0]) == corner(half) and share(cheaper) < share(alone[1]) < 60
    np.save(tmp_path / "heat.npy", np.full((2, 3), 0.4))
    graded = ("--where", "heat.npy", "--focus", "none", "--threshold")
    assert share(detect(*SMALL, *graded, "0.5")[1]) < share(detect(*SMALL, *graded, "0.3")[1]) == 100


def test_an_area_that_does_not_fit(autofocus, detect, square_finder, squares, tmp_path):
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((100, 100), 255, np.uint8))
    words = ("detect", squares, "--detector", square_finder(), *ALWAYS)
    code, out, err = autofocus(*words, "--where", "mask.png")
    assert code == 1 and "1.png" in out and "100x100 px for an image of 384x256 px" in out and "Traceback" not in err
    code, _, err = autofocus(*words, "--where-use", "not")
    assert code and "--where-use not goes with --where" in err
    code, _, err = autofocus(*words, "--where", "mask.png", "--where-use", "also", "--scales", "256x384")
    assert code and "a single scale never does" in err
    code, _, err = autofocus(*words, "--where", "")
    assert code and "--where got an empty name" in err
    code, _, err = autofocus(*words, "--where", "mask.png", "--pixels", "100")
    assert code and "give it or --where, not both" in err
