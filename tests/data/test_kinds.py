"""Data as exporters and people leave them: each kind in small, and what the readers make of it."""

import dataclasses
import gzip
import json
import os
import tracemalloc
import unicodedata

import cv2
import numpy as np
import pytest

from autofocus_jax.data import findings as kinds
from autofocus_jax.data.cleaning import open_clean
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.findings import BadDataError, Findings
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.files import read_regular
from autofocus_jax.structures import AutoFocusError


def picture(path, value=90, height=100, width=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def yolo(root, lines, yaml="names: [cat, dog]\n"):
    """A YOLO folder of one image for each list of lines."""
    for name, text in zip("abcdefgh", lines):
        picture(root / f"images/train/{name}.png")
        if text is not None:
            write(root / f"labels/train/{name}.txt", "\n".join(text))
    write(root / "data.yaml", yaml)
    return YoloSource(str(root)).open("train")


def coco(root, annotations, names=("a.png", "b.png"), files=None, categories=("cat", "dog")):
    for name in names if files is None else files:
        picture(root / "train" / name)
    content = {
        "images": [{"id": n, "file_name": name, "height": 100, "width": 100} for n, name in enumerate(names, 1)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories, 1)],
        "annotations": annotations,
    }
    write(root / "annotations/instances_train.json", json.dumps(content))
    return CocoSource(str(root))


def box(bbox=(10, 20, 30, 40), image=1, category=1, **more):
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


def noticed(data, kind):
    return [example for found, example in data.noticed if found == kind]


# YOLO: poses, tracks, polygons.

POSE = "0 .5 .5 .4 .2  .4 .5 2  .6 .5 1"


@pytest.mark.parametrize(
    ("line", "shape"), [(POSE, "[2, 3]"), ("0 .5 .5 .4 .2 .4 .5 .6 .5 .5 .5", "[3, 2]"), ("0 .5 .5 .4 .2", "[2, 3]")]
)
def test_boxes_of_poses_are_taken_where_kpt_shape_says_so(tmp_path, line, shape):
    data = yolo(tmp_path, [[line]], f"kpt_shape: {shape}\nnames: [cat, dog]\n")
    np.testing.assert_allclose(data.ground_truth(0).boxes, [[30, 40, 70, 60]], atol=1e-4)
    assert len(noticed(data, kinds.KEYPOINTS)) == 1


@pytest.mark.parametrize(
    ("lines", "yaml"),
    [
        ([[POSE]], ""),  # a corner of a polygon is never at 2
        ([["0 .5 .5 .4 .2 .4 .5 .6 .5"] * 2, ["1 .3 .3 .2 .2 .3 .3 .35 .3", "0 .4 .4 .2 .2 0 0 .4 .4"]], ""),
        ([["0 .5 .5 .4 .2 .4 .5 .6 .5"]], "task: pose\n"),
    ],
)
def test_poses_without_kpt_shape_are_refused(tmp_path, lines, yaml):
    with pytest.raises(AutoFocusError, match=r"a\.txt, line 1: .*pose.*kpt_shape"):
        yolo(tmp_path, lines, f"{yaml}names: [cat, dog]\n")


@pytest.mark.parametrize(
    "lines",
    [
        [["0 .5 .5 .4 .2 .88 1"], ["0 .5 .52 .4 .2 .9 2", "1 .2 .2 .1 .1 .5 1"]],
        [["0 .5 .5 .4 .2 .88 1"]] * 3,
        [["0 .5 .5 .6 .5 .6 .6 .88 7"]],  # a polygon with its score and track
    ],
)
def test_results_of_tracking_are_refused(tmp_path, lines):
    with pytest.raises(AutoFocusError, match=r"a\.txt, line 1: .*track"):
        yolo(tmp_path, lines)


def test_polygons_stay_polygons(tmp_path):
    """Oriented boxes too, of which all lines are as long; what is ambiguous is settled by `task`."""
    quads = [["0 .1 .1 .3 .1 .3 .3 .1 .3", "1 .6 .6 .9 .6 .9 .9 .6 .9"] * 3, ["0 .7 .1 .8 .1 .8 .2 .7 .2"]]
    np.testing.assert_allclose(yolo(tmp_path, quads).ground_truth(1).boxes, [[70, 10, 80, 20]], atol=1e-4)
    odd = [["0 .5 .5 .4 .2 .4 .5 .6 .5"] * 5]
    data = yolo(tmp_path / "other", odd, "task: segment\nnames: [cat, dog]\n")
    np.testing.assert_allclose(data.ground_truth(0).boxes[0], [40, 20, 60, 50], atol=1e-4)
    with pytest.raises(AutoFocusError, match="corners of a polygon"):
        yolo(tmp_path / "third", [["0 .5 .5 1.5 1.2 .4 1.6"]])  # two of three corners lie outside


@pytest.mark.parametrize(("shape", "says"), [("[17]", "17"), ("[2, 4]", "'4'"), ("yes", "yes")])
def test_kpt_shape_that_is_none(tmp_path, shape, says):
    with pytest.raises(AutoFocusError, match=f"kpt_shape of data.yaml is .*{says}.*want two numbers"):
        yolo(tmp_path, [[POSE]], f"kpt_shape: {shape}\nnames: [cat, dog]\n")


# YOLO: names, lists, files.


@pytest.mark.parametrize(
    ("yaml", "wanted"),
    [
        ("names: [on, off, no, yes]", ("on", "off", "no", "yes")),
        ("names: {0: 012, 1: null, 2: 1.0, 3: 2024-01-01}", ("012", "null", "1.0", "2024-01-01")),
        ('names: {"0": cat, "1": dog}', ("cat", "dog")),
        ("names: [cat, cat, dog, cat (1)]", ("cat (2)", "cat (3)", "dog", "cat (1)")),
    ],
)
def test_names_are_read_as_they_are_written(tmp_path, yaml, wanted):
    data = yolo(tmp_path, [["0 .5 .5 .1 .1"]], yaml + "\n")
    assert data.categories == wanted
    assert len(noticed(data, kinds.EQUAL_NAMES)) == yaml.startswith("names: [cat, cat")


def test_a_blank_line_of_classes_txt_counts(tmp_path):
    yolo(tmp_path, [["2 .5 .5 .1 .1"]], "names: [a, b, c]\n")
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "classes.txt", "cat\n\ndog\n\n")
    data = YoloSource(str(tmp_path)).open("train")
    assert data.categories == ("cat", "class 1 (unnamed)", "dog") and data.ground_truth(0).labels.tolist() == [2]


def test_labels_of_no_image_and_images_without_labels(tmp_path):
    yolo(tmp_path, [["0 .5 .5 .1 .1"], None])
    write(tmp_path / "labels/train/other.txt", "0 .5 .5 .1 .1")
    write(tmp_path / "labels/train/._a.txt", "\0")  # of macOS
    data = YoloSource(str(tmp_path)).open("train")
    assert [os.path.basename(text) for text in noticed(data, kinds.NO_LABELS)] == ["b.png"]
    assert len(noticed(data, kinds.NO_IMAGE)) == 1 and "other.txt" in noticed(data, kinds.NO_IMAGE)[0]


def test_labels_that_are_no_regular_file_are_named(tmp_path):
    yolo(tmp_path, [["0 .5 .5 .1 .1"], None])
    (tmp_path / "labels/train/b.txt").symlink_to("/dev/zero")
    with pytest.raises(AutoFocusError, match=r"b\.txt cannot be read \(it is no regular file\)"):
        YoloSource(str(tmp_path)).open("train")
    found = Findings()
    assert len(YoloSource(str(tmp_path)).open_tolerant("train", found.report)) == 1
    assert found.counts() == {kinds.BAD_FILE: 1}


def test_linked_folders_and_equal_names(tmp_path):
    yolo(tmp_path, [["0 .5 .5 .1 .1"]])
    picture(tmp_path / "disk/images/a.png")
    write(tmp_path / "disk/labels/a.txt", "1 .5 .5 .2 .2")
    for room in ("images", "labels"):
        (tmp_path / room / "train/more").symlink_to(tmp_path / "disk" / room)
        (tmp_path / room / "train/loop").symlink_to(tmp_path / room)
    data = YoloSource(str(tmp_path)).open("train")
    assert [data.info(index).file_name for index in range(len(data))] == ["a.png", "more/a.png"]
    assert data.ground_truth(1).labels.tolist() == [1] and not noticed(data, kinds.NO_IMAGE)


def test_lines_of_a_list_are_relative_to_path_too(tmp_path):
    picture(tmp_path / "images/train/a.png")
    write(tmp_path / "labels/train/a.txt", "0 .5 .5 .1 .1")
    write(tmp_path / "data.yaml", "path: .\ntrain: lists/train.txt\nnames: [cat]\n")
    write(tmp_path / "lists/train.txt", "./images/train/a.png\n")
    assert len(YoloSource(str(tmp_path)).open("train").ground_truth(0).labels) == 1


# COCO.


def test_whole_numbers_with_a_point_are_ids(tmp_path):
    data = coco(tmp_path, [box(image=1.0, category=2.0), box(image=2.0, iscrowd=1.0)]).open("train")
    assert data.ground_truth(0).labels.tolist() == [1] and data.ground_truth(1).ignore.tolist() == [True]
    for wrong in (1.5, True, "1", None, 2**70):
        with pytest.raises(AutoFocusError, match="image_id"):
            coco(tmp_path, [box(image=wrong)]).open("train")


def test_files_are_found_as_exporters_name_them(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))
    names = ["train/a.png", "site\\b.png", composed, "../../server/upload\\c.png", "x/d.png", "y/d.png", "gone.png"]
    source = coco(tmp_path, [], names, ["a.png", "site/b.png", decomposed, "c.png", "d.png"])
    data = source.open("train")
    found = [str(file.relative_to(tmp_path / "train")) for file in data.files]
    assert found[:4] == ["a.png", "site/b.png", decomposed, "c.png"]
    assert found[4:] == ["x/d.png", "y/d.png", "gone.png"]  # two images want d.png, so neither gets it
    assert [example.split(": ")[0] for example in noticed(data, kinds.FOUND_ELSEWHERE)] == [names[3]]


def test_roboflow_export(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "a.png")
        content = {"images": [{"id": 0, "file_name": "a.png", "height": 100, "width": 100}],
                   "categories": [{"id": 0, "name": "cat"}], "annotations": [box(image=0, category=0)]}  # fmt: skip
        write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
    for split, folder in (("train", "train"), ("val", "valid"), ("valid", "valid")):
        data = CocoSource(str(tmp_path)).open(split)
        assert data.files == [tmp_path / folder / "a.png"] and len(data.ground_truth(0).labels) == 1


def test_a_file_of_annotations_is_a_regular_file(tmp_path):
    coco(tmp_path, [])
    (tmp_path / "annotations/instances_val.json").symlink_to("/dev/zero")
    with pytest.raises(AutoFocusError, match="no regular file"):
        CocoSource(str(tmp_path)).open("val")


# VOC.


def voc(root, files, names=("a",), **settings):
    for name, text in files.items():
        write(root / "Annotations" / f"{name}.xml", f"<annotation>{text}</annotation>")
    write(root / "ImageSets/Main/train.txt", "\n".join(names))
    return VocSource(str(root), **settings).open("train")


def item(*corners, name="cat"):
    sides = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>"


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("a", "<filename>cam2/a.png</filename>"),
        ("a", "<filename>cam2\\a.png</filename>"),
        ("a", "<folder>cam2</folder><filename>a.png</filename>"),
        ("cam2/a", "<filename>a.png</filename>"),
    ],
)
def test_the_image_that_the_xml_file_names(tmp_path, xml, text):
    picture(tmp_path / "JPEGImages/a.png", 10)
    picture(tmp_path / "JPEGImages/cam2/a.png", 200)
    data = voc(tmp_path, {xml: text + item(1, 1, 9, 9)}, [xml])
    assert data.image(0)[0, 0, 0] == 200 and data.info(0).file_name == "cam2/a.png"


def test_an_image_in_the_top_folder_stands_in_once(tmp_path):
    """A named folder that is not there is a program's own; two files that name one image are not guessed at."""
    picture(tmp_path / "JPEGImages/a.png", 10)
    texts = {"a": "<filename>gone/a.png</filename>", "sub/a": "<filename>lost/a.png</filename>"}
    size = "<size><width>100</width><height>100</height></size>"
    data = voc(tmp_path, {name: text + size + item(1, 1, 9, 9) for name, text in texts.items()}, ["a", "sub/a"])
    assert data.files == [tmp_path / "JPEGImages/a.png", tmp_path / "JPEGImages/lost/a.png"]
    assert len(noticed(data, kinds.FOUND_ELSEWHERE)) == 1


@pytest.mark.parametrize(
    ("boxes", "count"),
    [([(0, 0, 8, 8), (5, 5, 9, 9)], 1), ([(20.5, 10, 28, 18)], 1), ([(1, 1, 8, 8)], 0),
     ([(1.5, 2, 8, 8)] + [(5, 5, 9, 9)] * 20, 0), ([(0.5, 3, 8, 8)] + [(5, 5, 9, 9)] * 20, 1)],
)  # fmt: skip
def test_corners_that_count_from_0(tmp_path, boxes, count):
    picture(tmp_path / "JPEGImages/a.png")
    files = {"a": "".join(item(*corners) for corners in boxes)}
    assert len(noticed(voc(tmp_path, files), kinds.FROM_ZERO)) == count
    assert not noticed(voc(tmp_path, files, one_based=False), kinds.FROM_ZERO)


def test_a_list_names_what_is_not_there(tmp_path):
    picture(tmp_path / "JPEGImages/a.png")
    with pytest.raises(AutoFocusError, match=r"frame 2\.xml are not there \(line 'frame 2' of .*train\.txt\)"):
        voc(tmp_path, {"a": item(1, 1, 9, 9)}, ["a.jpg", "frame 2"])


# A training in which nothing is left.


def clean(config, source):
    detector = dataclasses.replace(config.detector, num_classes=2)
    found = Findings()
    return open_clean(dataclasses.replace(config, data=source, detector=detector), "train", found), found


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ([], "0 objects, 0 ignore regions and 0 annotations"),
        ([box(iscrowd=1), box(image=2, iscrowd=1)], "0 objects, 2 ignore regions"),
        ([{"image_id": 1, "category_id": 1, "segmentation": {}}], "1 annotations that lack .*no 'bbox'"),
        ([box(category=9), box(image=77)], "1 ignore regions and 2 annotations .*is not there.*unknown category"),
        ([box((0.1, 0.2, 0.5, 0.25)), box((0.5, 0.5, 0.5, 0.5), 2)], "2 boxes within 0 to 1, as shares"),
        ([box((50, 50, 0.4, 0.4))], "1 objects, all below 1 px"),
    ],
)
def test_a_training_without_an_object_is_refused(tmp_path, tiny_config, annotations, says):
    with pytest.raises(BadDataError, match=f"no object is left to train on: .*{says}") as caught:
        clean(tiny_config, coco(tmp_path, annotations))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["missing", "damaged", "other size", "pipe"])
def test_a_training_without_an_image_is_refused(tmp_path, tiny_config, fault):
    source = coco(tmp_path, [box()], files=[] if fault in ("missing", "pipe") else None)
    for name in ("a.png", "b.png"):
        path = tmp_path / "train" / name
        if fault == "damaged":
            path.write_bytes(path.read_bytes()[:40])
        elif fault == "other size":
            picture(path, height=30)
        elif fault == "pipe":
            path.parent.mkdir(exist_ok=True)
            os.mkfifo(path)
    with pytest.raises(BadDataError, match=r"none of the 1 images that hold an object can be used; .*a\.png"):
        clean(tiny_config, source)


def test_most_that_is_lost_is_said_first(tmp_path, tiny_config):
    annotations = [box(), *(box((0, 0, n, 9), image=50) for n in range(1, 4))]
    _, found = clean(tiny_config, coco(tmp_path, annotations))
    assert found.lines()[0] == "MOST ANNOTATIONS ARE LOST: 3 of 4 cannot be used"
    names = [f"{number}.png" for number in range(5)]
    _, found = clean(tiny_config, coco(tmp_path / "more", [box()], names, names[:1]))
    assert found.lines()[0] == "MOST IMAGES ARE MISSING: 4 of 5 image files are not there"


def test_a_limit_costs_no_memory(tmp_path):
    """A buffer of the limit's size would be made before a byte is read."""
    (tmp_path / "small.json").write_bytes(b"{}")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "small.json", 2**33) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_expands_without_end_is_stopped(tmp_path, monkeypatch):
    coco(tmp_path, [box()])
    file = tmp_path / "annotations/instances_train.json"
    file.write_bytes(gzip.compress(file.read_bytes() + b" " * 10_000))
    assert len(CocoSource(str(tmp_path)).open("train")) == 2
    monkeypatch.setattr("autofocus_jax.data.coco.LARGEST_TABLE", 9_000)
    with pytest.raises(AutoFocusError, match="more than 9000 bytes when it is expanded"):
        CocoSource(str(tmp_path)).open("train")
