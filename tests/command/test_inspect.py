"""autofocus inspect: every kind of problem in one small data set, counted and named."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.data.inspection import inspect
from tests.report_page import Parsed


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of five images: good, missing, damaged, of another size, and without an object."""
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    for name in ("good.png", "damaged.jpg", "empty.png"):
        cv2.imwrite(str(root / "train" / name), picture)
    damaged = (root / "train" / "damaged.jpg").read_bytes()
    (root / "train" / "damaged.jpg").write_bytes(damaged[: len(damaged) // 2])
    cv2.imwrite(str(root / "train" / "other.png"), picture[:50])
    names = ["good.png", "missing.png", "damaged.jpg", "other.png", "empty.png"]
    boxes = [
        (1, 4, [10, 10, 40, 40]), (1, 4, [10, 10, 40, 39.9]),  # the same twice
        (1, 7, [10, 10, 40, 40]),  # of another class, which is no problem
        (2, 7, [80, 50, 30, 30]),  # reaches over the image
        (3, 4, [200, 200, 9, 9]),  # outside
        (4, 4, [5, 5, 1, 1]),
    ]  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": name, "height": 60, "width": 90} for n, name in enumerate(names, 1)],
        "categories": [{"id": 4, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "emu"}],
        "annotations": [{"id": n, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0}
                        for n, (image, category, bbox) in enumerate(boxes, 1)],
    }  # fmt: skip
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 4, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


def test_counts_and_problems(autofocus, folder, tmp_path):
    code, out, err = autofocus("inspect", folder, "--samples", "5")
    assert code == 0 and err == ""
    report = json.loads((tmp_path / "runs/inspect/report.json").read_text())
    assert (report["images"], report["objects"], report["ignored"], report["empty"]) == (5, 5, 1, 2)
    assert (report["per_image"], report["most"]) == (1.0, 3) and report["small"] == pytest.approx(2 / 5)
    assert report["heights"] == [60] * 7 and report["widths"] == [90] * 7
    table = {entry["name"]: (entry["objects"], entry["images"]) for entry in report["categories"]}
    assert table == {"cat": (3, 2), "dog": (2, 2), "emu": (0, 0)} and report["categories"][2]["size"] is None
    found = {problem["what"]: problem for problem in report["problems"]}
    expected = {
        "boxes that reach over their image by more than 1 px": (1, ["missing.png (90x60): box 80 50 110 80"]),
        "boxes of which nothing lies in their image": (1, ["damaged.jpg (90x60): box 200 200 209 209"]),
        "boxes that are there twice (same class, nearly the same box)": (1, ["good.png: boxes 0 and 1"]),
        "boxes below 2 px": (1, ["other.png: box 5, 1 px"]),
        "categories without an object": (1, ["emu"]),
        "image files that are missing": (1, [str(folder / "train" / "missing.png")]),
        "images of another size than their annotations say": (1, ["other.png: 90x50, annotated 90x60"]),
    }
    for what, (count, examples) in expected.items():
        assert (found[what]["count"], found[what]["examples"]) == (count, examples), what
    assert len(found) == len(expected)
    for problem in expected:
        assert problem in out
    samples = sorted(path.name for path in (tmp_path / "runs/inspect/samples").iterdir())
    parsed = Parsed((tmp_path / "runs/inspect/report.html").read_text(encoding="utf-8"))
    ((name, one),) = parsed.photographs().items()
    assert name == "good.png" and sorted((box["label"], *box["box"][:2]) for box in one["truth"]) == [
        (0, 10, 10), (0, 10, 10), (1, 10, 10)
    ]  # fmt: skip
    assert all(f"- 1 {problem}" in " ".join(parsed.texts) for problem in expected)
    assert samples == ["000000_good.jpg"] and "1 pictures" in out and out.count("no picture: ") == 2


def test_a_name_forges_no_row(autofocus, folder):
    """A line break or an escape sequence in a category's name comes out as text, in one cell."""
    annotations = folder / "annotations" / "instances_train.json"
    content = json.loads(annotations.read_text())
    content["categories"][0]["name"], content["categories"][1]["name"] = "cat\nforged  9  9", "\x1b]0;dog\x07"
    annotations.write_text(json.dumps(content))
    _, out, _ = autofocus("inspect", folder)
    rows = [line.split() for line in out.splitlines()]
    assert ["cat\\nforged", "9", "9", "3", "2"] in [row[:5] for row in rows]
    assert ["\\x1b]0;dog\\x07", "2", "2"] in [row[:3] for row in rows]


def test_decode_finds_damage_that_the_head_does_not_show(autofocus, folder, tmp_path):
    assert autofocus("inspect", folder, "--decode", "--samples", "0")[0] == 0
    problems = json.loads((tmp_path / "runs/inspect/report.json").read_text())["problems"]
    (damaged,) = [problem for problem in problems if "cannot be read" in problem["what"]]
    assert damaged["count"] == 2 and "damaged.jpg is cut off" in damaged["examples"][0]


def test_what_is_no_problem(truth, memory_dataset):
    images = [np.zeros((40, 50, 3), np.uint8)] * 2
    data = memory_dataset(images, [truth([[0, 0, 40, 30], [5, 5, 9, 9]], [0, 1]), truth([[1, 1, 50, 40]], [2])])
    report = inspect(data)
    assert report.problems == [] and report.objects == 3 and report.large == 0
    empty = inspect(memory_dataset(images, [truth(), truth()]))
    assert np.isnan(empty.sizes).all() and empty.empty == 2
    assert [problem.what for problem in empty.problems] == ["categories without an object"]


def test_other_formats(autofocus, tmp_path):
    """The same two images as YOLO and as VOC give the same counts."""
    picture = np.full((60, 90, 3), 90, np.uint8)
    yolo, voc = tmp_path / "yolo", tmp_path / "voc"
    for path in (yolo / "images/train", yolo / "labels/train", voc / "Annotations", voc / "JPEGImages",
                 voc / "ImageSets/Main"):  # fmt: skip
        path.mkdir(parents=True)
    (yolo / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cat, dog]\n")
    for number in (1, 2):
        cv2.imwrite(str(yolo / f"images/train/{number}.jpg"), picture)
        cv2.imwrite(str(voc / f"JPEGImages/{number}.jpg"), picture)
        (yolo / f"labels/train/{number}.txt").write_text(f"{number - 1} 0.5 0.5 0.2 0.5\n")
        (voc / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><size><width>90</width><height>60</height></size><object>"
            f"<name>{['cat', 'dog'][number - 1]}</name><bndbox><xmin>37</xmin><ymin>16</ymin><xmax>54</xmax>"
            "<ymax>45</ymax></bndbox></object></annotation>"
        )
    (voc / "ImageSets/Main/train.txt").write_text("1\n2\n")
    reports = []
    for folder in (yolo, voc):
        code, _, err = autofocus("inspect", folder)
        assert code == 0 and err == ""
        reports.append(json.loads(Path("runs/inspect/report.json").read_text()))
    assert reports[0] == reports[1] and [c["objects"] for c in reports[0]["categories"]] == [1, 1]
