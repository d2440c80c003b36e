"""Bad data of every kind, in every format where it can occur: what training keeps, and what is said about the rest."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from autofocus_jax.data import findings as kinds
from autofocus_jax.data.cleaning import check, cleaned, open_clean
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.findings import BadDataError, Findings
from autofocus_jax.data.tfds import TfdsDataset
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.structures import AutoFocusError, GroundTruth

PICTURE = np.full((20, 40, 3), 90, np.uint8)


def picture(path, pixels=PICTURE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def opened(config, source, classes=2, strict=False):
    """The clean training split of a source, and the problems met on the way."""
    detector = dataclasses.replace(config.detector, num_classes=classes)
    problems = Findings(examples=9)
    return open_clean(dataclasses.replace(config, data=source, detector=detector), "train", problems, strict), problems


@pytest.fixture
def coco(tmp_path):
    """Writes annotations (image_id, category_id, bbox) for good.png, missing.png, broken.png and small.png."""
    names = ["good.png", "missing.png", "broken.png", "small.png"]
    for name in ("good.png", "small.png"):
        picture(tmp_path / "train" / name, PICTURE if name == "good.png" else PICTURE[:10])
    (tmp_path / "train" / "broken.png").write_bytes(b"nothing")
    (tmp_path / "annotations").mkdir()

    def write(annotations):
        content = {
            "images": [{"id": n, "file_name": name, "height": 20, "width": 40} for n, name in enumerate(names, 1)],
            "categories": [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}],
            "annotations": annotations,
        }
        (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
        return CocoSource(str(tmp_path))

    return write


def entry(bbox, image=1, category=5):
    return {"image_id": image, "category_id": category, "bbox": bbox}


def test_coco(tiny_config, coco):
    nan, inf = float("nan"), float("inf")
    source = coco([
        entry([1, 2, 10, 10], category=7),
        entry([nan, 2, 3, 4]), entry([1, 2, inf, 4]), entry([1, 2, 3]), entry("box"), entry([1, 2, "3", 4]),
        entry([50, 2, 3, 4]),
        entry([5, 5, 0, 4]), entry([5, 5, -3, 4]),
        entry([30, 10, 20, 5]),
        entry([3, 3, 4, 4], category=99), entry([13, 3, 4, 4], category=None),
        entry([3, 3, 4, 4], image=77),
        {"image_id": 1, "category_id": 5}, {"image_id": 1, "bbox": [1, 1, 2, 2]},
        entry([1, 2, 10, 10], category=7), entry([1, 2, 10, 10], category=5),
    ])  # fmt: skip
    data, problems = opened(tiny_config, source)
    truth = data.ground_truth(0)
    wanted = [[1, 2, 11, 12], [30, 10, 40, 15], [3, 3, 7, 7], [13, 3, 17, 7], [1, 2, 11, 12]]
    np.testing.assert_array_equal(truth.boxes, wanted)
    assert truth.ignore.tolist() == [False, False, True, True, False]
    assert truth.labels[[0, 1, 4]].tolist() == [1, 0, 0]
    assert problems.counts() == {
        kinds.BAD_BOX: 5, kinds.OUTSIDE: 1, kinds.FLAT: 2, kinds.CUT: 1, kinds.UNKNOWN_CATEGORY: 2, kinds.NO_IMAGE: 1,
        kinds.INCOMPLETE: 2, kinds.TWICE: 1, kinds.MISSING: 1, kinds.UNREADABLE: 1, kinds.OTHER_SIZE: 1,
    }  # fmt: skip
    assert "annotations[1] has bbox [nan, 2, 3, 4]" in problems.examples(kinds.BAD_BOX)[0]
    assert problems.examples(kinds.OUTSIDE) == ("good.png (40x20): box 50 2 53 6",)
    assert "missing.png cannot be read (No such file" in problems.examples(kinds.MISSING)[0]
    # The same words as in the error that an epoch meets, so that it is counted once.
    with pytest.raises(AutoFocusError) as caught:
        data.image(1)
    problems.add(kinds.UNREADABLE, str(caught.value))
    assert problems.counts()[kinds.UNREADABLE] == 1


def test_heads_of_files_under_strict(tiny_config, coco):
    with pytest.raises(BadDataError) as caught:
        opened(tiny_config, coco([entry([1, 2, 10, 10])]), strict=True)
    message = str(caught.value)
    for kind in (kinds.MISSING, kinds.UNREADABLE, kinds.OTHER_SIZE):
        assert f"1 {kind}" in message
    assert "small.png: 40x10, annotated 40x20" in message and "\n" not in message


def test_clean_data_pass_strict(tiny_config, coco, tmp_path):
    source = coco([entry([1, 2, 10, 10]), entry([0, 0, 40, 20])])
    for name in ("missing.png", "broken.png", "small.png"):
        picture(tmp_path / "train" / name)
    data, problems = opened(tiny_config, source, strict=True)
    assert problems.lines() == [] and len(data) == 4 and data.categories == ("cat", "dog")
    np.testing.assert_array_equal(data[0][0], PICTURE)
    assert data.info(2).file_name == "broken.png"


def xml(*objects):
    body = "".join(
        f"<object><name>{name}</name><bndbox>" + "".join(
            f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners)
        ) + "</bndbox></object>"
        for name, *corners in objects
    )  # fmt: skip
    return f"<annotation><size><width>40</width><height>20</height></size>{body}</annotation>"


def test_voc(tiny_config, tmp_path):
    for name in ("a", "b", "sizeless"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
    folder, lists = tmp_path / "Annotations", tmp_path / "ImageSets" / "Main"
    folder.mkdir()
    lists.mkdir(parents=True)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (lists / "train.txt").write_text("a\nb\nbroken\nabsent\nlost\n")
    good = ("dog", 2, 3, 11, 12)
    (folder / "a.xml").write_text(xml(
        good, ("cat", "nan", 1, 5, 5), ("cat", 1, 1, "inf", 5), ("cat", "x", 1, 5, 5), ("cow", 4, 4, 7, 7),
        ("", 14, 4, 17, 7), ("cat", 51, 3, 60, 9), ("cat", 9, 9, 8, 12), ("cat", 31, 11, 50, 15), good,
    ))  # fmt: skip
    (folder / "b.xml").write_text(xml())
    (folder / "broken.xml").write_text("<annotation>")
    (folder / "lost.xml").write_text("<annotation></annotation>")  # neither a size nor an image
    data, problems = opened(tiny_config, VocSource(str(tmp_path)))
    assert [data.info(index).file_name for index in range(len(data))] == ["a.png", "b.png"]
    truth = data.ground_truth(0)
    np.testing.assert_array_equal(truth.boxes, [[1, 2, 11, 12], [3, 3, 7, 7], [13, 3, 17, 7], [30, 10, 40, 15]])
    assert truth.ignore.tolist() == [False, True, True, False] and truth.labels[[0, 3]].tolist() == [1, 0]
    assert problems.counts() == {
        kinds.BAD_BOX: 3, kinds.UNKNOWN_CATEGORY: 2, kinds.BAD_FILE: 3, kinds.OUTSIDE: 1, kinds.FLAT: 1, kinds.CUT: 1,
        kinds.TWICE: 1,
    }  # fmt: skip


def test_yolo(tiny_config, tmp_path):
    for name in ("a", "b", "text"):
        picture(tmp_path / "images" / "train" / f"{name}.png")
    (tmp_path / "images" / "train" / "broken.png").write_bytes(b"nothing")
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    good = "1 0.15 0.35 0.25 0.5"
    (labels / "a.txt").write_text("\n".join([
        good, "0 nan 0.5 0.5 0.5", "0 0.5 0.5 inf 0.5", "0 0.5 0.5", "cat 0.5 0.5 0.1 0.1", "9 0.125 0.25 0.1 0.2",
        "0 1.5 0.5 0.5 0.5", "0 0.5 0.5 0 0.5", "0 1 0.5 0.5 0.5", good,
    ]))  # fmt: skip
    (labels / "text.txt").write_bytes(b"\xff\xfe\xff")
    (labels / "orphan.txt").write_text(good)
    (labels / "broken.txt").write_text(good)
    data, problems = opened(tiny_config, YoloSource(str(tmp_path)))
    assert [data.info(index).file_name for index in range(len(data))] == ["a.png", "b.png", "broken.png"]
    truth = data.ground_truth(0)
    np.testing.assert_array_equal(truth.boxes, [[1, 2, 11, 12], [3, 3, 7, 7], [30, 5, 40, 15]])
    assert truth.ignore.tolist() == [False, True, False] and truth.labels[[0, 2]].tolist() == [1, 0]
    assert problems.counts() == {
        kinds.BAD_BOX: 4, kinds.UNKNOWN_CATEGORY: 1, kinds.BAD_FILE: 1, kinds.NO_IMAGE: 1, kinds.UNREADABLE: 1,
        kinds.OUTSIDE: 1, kinds.FLAT: 1, kinds.CUT: 1, kinds.TWICE: 1, kinds.NO_LABELS: 1,
    }  # fmt: skip
    assert "orphan.txt" in problems.examples(kinds.NO_IMAGE)[0]


def test_tfds_records():
    """Records as TFDS hands them out, without its files: boxes are shares ymin, xmin, ymax, xmax."""
    png = cv2.imencode(".png", PICTURE)[1].tobytes()
    good = [0.1, 0.025, 0.6, 0.275]
    boxes = [good, [np.nan, 0, 1, 1], [0, 0, np.inf, 1], [0.15, 0.075, 0.35, 0.175], [0.1, 1.5, 0.2, 2],
             [0.5, 0.5, 0.5, 1], [0.5, 0.75, 0.75, 1.25], good]  # fmt: skip
    first = {"image": png, "objects": {"bbox": boxes, "label": [1, 0, 0, -1, 0, 0, 0, 1], "is_crowd": [False] * 8}}
    second = {"image": b"nothing", "objects": {"bbox": [good], "label": [0], "is_crowd": [False]}}

    class Labels:
        names = ("cat", "dog")

    problems = Findings()
    records = TfdsDataset([first, second], {"label": Labels, "is_crowd": None}, "the test", problems.report)
    data = cleaned(records, problems)
    truth = data.ground_truth(0)
    np.testing.assert_array_equal(truth.boxes, [[1, 2, 11, 12], [3, 3, 7, 7], [30, 10, 40, 15]])
    assert truth.ignore.tolist() == [False, True, False] and truth.labels[[0, 2]].tolist() == [1, 0]
    assert problems.counts() == {
        kinds.BAD_BOX: 2, kinds.UNKNOWN_CATEGORY: 1, kinds.OUTSIDE: 1, kinds.FLAT: 1, kinds.CUT: 1, kinds.TWICE: 1,
        kinds.UNREADABLE: 1,
    }  # fmt: skip
    assert len(data.ground_truth(1).labels) == 0
    # Without a report it stays an error, as evaluation has it.
    with pytest.raises(AutoFocusError, match="not finite or a label that has no name"):
        TfdsDataset([first], {"label": Labels, "is_crowd": None}, "the test").ground_truth(0)


def test_any_data_set_is_cleaned(memory_dataset, truth):
    """Also one of a user, whose reader checks nothing."""
    boxes = [[1, 2, 11, 12], [np.nan, 0, 5, 5], [0, 0, np.inf, 5], [50, 2, 60, 9], [5, 5, 5, 9], [30, -5, 45, 15],
             [3, 3, 7, 7], [1, 2, 11, 12]]  # fmt: skip
    truths = [truth(), truth(boxes, [1, 0, 0, 0, 0, 0, 8, 1]), truth([[0, 0, 1, 1]], [2])]
    problems = Findings()
    data = cleaned(memory_dataset([PICTURE] * 3, truths), problems)
    np.testing.assert_array_equal(data.ground_truth(1).boxes, [[1, 2, 11, 12], [30, 0, 40, 15], [3, 3, 7, 7]])
    assert data.ground_truth(1).ignore.tolist() == [False, False, True]
    assert len(data.ground_truth(0).labels) == 0 and data.ground_truth(-1).labels.tolist() == [2]
    assert [values.dtype for values in data.ground_truth(1)] == [np.float32, np.int32, bool]
    assert problems.counts() == {
        kinds.BAD_BOX: 2, kinds.OUTSIDE: 1, kinds.FLAT: 1, kinds.CUT: 1, kinds.UNKNOWN_CATEGORY: 1, kinds.TWICE: 1,
    }  # fmt: skip
    data.ground_truth(1).boxes[:] = -1  # the caller's to change
    assert (data.ground_truth(1).boxes >= 0).all()
    check(data.source, problems)  # has no files
    assert kinds.MISSING not in problems.counts()


def test_clean_truth_stays_as_it_is(memory_dataset, truth):
    truths = [truth([[0, 0, 40, 20], [1.25, 2, 3, 4]], [2, 0], [False, True]), truth()]
    problems = Findings()
    data = cleaned(memory_dataset([PICTURE] * 2, truths), problems)
    for index, wanted in enumerate(truths):
        for mine, other in zip(data.ground_truth(index), wanted, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert problems.lines() == []
    assert len(cleaned(memory_dataset([], []), problems)) == 0


def test_parts_of_other_lengths_are_one_line(memory_dataset):
    wrong = GroundTruth(np.zeros((2, 4), np.float32), np.zeros(1, np.int32), np.zeros(2, bool))
    with pytest.raises(AutoFocusError, match=r"0\.png has 2 boxes, 1 labels and 2 ignore flags"):
        cleaned(memory_dataset([PICTURE], [wrong]), Findings())
