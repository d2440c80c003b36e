"""The YOLO reader against hand-written files, all layouts that its programs write, and all that can be wrong."""

import cv2
import numpy as np
import pytest
from PIL import Image

from autofocus_jax.data.yolo import YoloSource, write_yolo
from autofocus_jax.structures import ImageError, ImageInfo


def picture(path, height=20, width=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def labels(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def folder(tmp_path):
    """images/train with a.jpg (40x20) and b.png, labels/train/a.txt, and classes.txt."""
    picture(tmp_path / "images" / "train" / "a.jpg")
    picture(tmp_path / "images" / "train" / "b.png")
    labels(tmp_path / "labels" / "train" / "a.txt", "1 0.5 0.5 0.25 0.5\n\n0 0.25 0.25 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return tmp_path


def test_hand_written_files(folder):
    data = YoloSource(str(folder)).open("train")
    assert data.categories == ("cat", "dog") and len(data) == 2 and data.dropped == 0
    assert data.info(0) == ImageInfo(1, "a.jpg", 20, 40)
    image, truth = data[0]
    assert image.shape == (20, 40, 3)
    np.testing.assert_array_equal(truth.boxes, [[15, 5, 25, 15], [0, 0, 20, 10]])
    assert truth.labels.tolist() == [1, 0] and not truth.ignore.any()
    assert data.ground_truth(1).boxes.shape == (0, 4)  # no text file, no objects


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, dog]\ntrain: images/train\n",
        "names: {0: cat, 1: dog}\ntrain: [images/train]\npath: .\n",
        "names:\n- cat\n- dog\ntrain: ../images/train\n",  # as some programs write it
        "names: [cat, dog]\npath: ../elsewhere/that/is/not\ntrain: images/train\n",
        "names: [cat, dog]\ntrain: train.txt\n",
        "names: [cat, dog]\n",
    ],
)
def test_data_yaml(folder, text):
    (folder / "classes.txt").unlink()
    (folder / "train.txt").write_text("./images/train/b.png\nimages/train/a.jpg\n")
    (folder / "data.yaml").write_text(text)
    for root in (folder, folder / "data.yaml"):
        data = YoloSource(str(root)).open("train")
        assert [data.info(index).file_name for index in range(len(data))] == ["a.jpg", "b.png"]
        assert data.categories == ("cat", "dog") and len(data.ground_truth(0).labels) == 2


def test_other_layouts(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n")
    picture(tmp_path / "valid" / "images" / "deep" / "a.png")  # as Roboflow writes it
    labels(tmp_path / "valid" / "labels" / "deep" / "a.txt", "0 0.5 0.5 1 1")
    data = YoloSource(str(tmp_path)).open("val")
    np.testing.assert_array_equal(data.ground_truth(0).boxes, [[0, 0, 40, 20]])
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: mixed\n")
    picture(tmp_path / "mixed" / "b.png")
    labels(
        tmp_path / "mixed" / "b.txt", "0 0.5 0.5 0.5 0.5"
    )  # images and text files in one folder, as Darknet has them
    np.testing.assert_array_equal(YoloSource(str(tmp_path)).open("train").ground_truth(0).boxes, [[10, 5, 30, 15]])


def test_polygons_become_their_boxes(folder):
    labels(folder / "labels" / "train" / "a.txt", "1 0.25 0.5 0.5 0.25 0.75 1.0 0.3 0.3")
    np.testing.assert_array_equal(YoloSource(str(folder)).open("train").ground_truth(0).boxes, [[10, 5, 30, 20]])


def test_ignore_regions_have_their_own_folder(folder):
    labels(folder / "ignore" / "train" / "b.txt", "0 0.5 0.5 1 1")
    truth = YoloSource(str(folder)).open("train").ground_truth(1)
    np.testing.assert_array_equal(truth.boxes, [[0, 0, 40, 20]])
    assert truth.ignore.tolist() == [True]


def test_six_decimals_of_whole_pixels_come_back_nearly_whole(folder):
    picture(folder / "images" / "train" / "a.jpg", 427, 640)
    box = np.array([13, 28, 614, 333])
    centre, side = (box[:2] + box[2:]) / 2 / [640, 427], (box[2:] - box[:2]) / [640, 427]
    labels(folder / "labels" / "train" / "a.txt", "0 " + " ".join(f"{value:.6f}" for value in (*centre, *side)))
    truth = YoloSource(str(folder)).open("train").ground_truth(0)
    np.testing.assert_allclose(truth.boxes[0], box, atol=1e-3)


def test_boxes_belong_to_the_image_as_it_is_shown(folder):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(folder / "images" / "train" / "a.jpg", exif=exif)
    data = YoloSource(str(folder)).open("train")
    assert data.info(0)[2:] == (40, 20) and data.image(0).shape == (40, 20, 3)
    np.testing.assert_array_equal(data.ground_truth(0).boxes[0], [7.5, 10, 12.5, 30])


def test_boxes_outside_are_cut_or_counted(folder):
    labels(folder / "labels" / "train" / "a.txt", "0 0 0 1 1\n0 1.5 0.5 0.5 0.5\n0 0.5 0.5 0 0.5\n0 0.5 0.5 -0.1 0.5\n")
    data = YoloSource(str(folder)).open("train")
    np.testing.assert_array_equal(data.ground_truth(0).boxes, [[0, 0, 20, 10]])
    assert data.dropped == 3


def test_an_image_that_cannot_be_read_is_kept_to_be_named(folder):
    (folder / "images" / "train" / "a.jpg").write_bytes(b"nothing")
    data = YoloSource(str(folder)).open("train")
    assert len(data) == 2 and data.dropped == 2 and len(data.ground_truth(0).labels) == 0
    with pytest.raises(ImageError, match=r"a\.jpg cannot be decoded"):
        data.image(0)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("0 0.5 0.5 0.5", "line 1: '0 0.5 0.5 0.5'"),
        ("0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5 0.9", "line 2"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "line 1"),
        ("cat 0.5 0.5 0.5 0.5", "line 1: 'cat"),
        ("0 0.5 0.5 0.5 nan", "between 0 and 1"),
        ("0 0.5 0.5 inf 0.5", "between 0 and 1"),
        ("0 320 240 100 50", "shares of the image's sides"),  # pixels
        ("2 0.5 0.5 0.5 0.5", "classes.txt names 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "class -1"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5"),
        ("nan 0.5 0.5 0.5 0.5", "nan 0.5 0.5 0.5 0.5"),
    ],
)
def test_malformed_lines_are_named(folder, complaint, text, wanted):
    labels(folder / "labels" / "train" / "a.txt", text)
    message = complaint(lambda: YoloSource(str(folder)).open("train"))
    assert wanted in message and "a.txt" in message


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("names: [cat", "not YAML"),
        ("- a\n- b\n", "holds a list"),
        ("names: 3\n", "names no classes"),
        ("names: {0: a, 2: b}\n", "no name for class 1"),
        ("names: []\n", "names no classes"),
        ("names: [a]\ntrain: nowhere\n", "nowhere is no folder of images"),
        ("names: [a]\ntrain: missing.txt\n", "missing.txt cannot be read"),
    ],
)
def test_malformed_data_yaml(folder, complaint, text, wanted):
    (folder / "data.yaml").write_text(text)
    assert wanted in complaint(lambda: YoloSource(str(folder)).open("train"))


def test_missing_files(folder, complaint):
    assert "has no split 'val'" in complaint(lambda: YoloSource(str(folder)).open("val"))
    assert "nowhere is no folder" in complaint(lambda: YoloSource(str(folder / "nowhere")).open("train"))
    assert "nowhere.yaml cannot be read" in complaint(lambda: YoloSource(str(folder / "nowhere.yaml")).open("train"))
    (folder / "classes.txt").unlink()
    assert "names no classes" in complaint(lambda: YoloSource(str(folder)).open("train"))


def test_no_labels_at_all_is_an_error(folder, complaint):
    (folder / "labels").rename(folder / "label")
    assert "labels" in complaint(lambda: YoloSource(str(folder)).open("train"))


def test_written_files_are_read_back(sample, same, tmp_path):
    infos = [sample.info(index) for index in range(len(sample))]
    for split in ("train", "val"):
        truths = (sample.ground_truth(index) for index in range(len(sample)))
        write_yolo(tmp_path, split, infos, sample.categories, truths)
        (tmp_path / "images" / split).mkdir(parents=True)
        for index in range(len(sample)):
            path = tmp_path / "images" / split / sample.info(index).file_name
            cv2.imwrite(str(path), sample.image(index)[..., ::-1])
    for split in ("train", "val"):
        same(YoloSource(str(tmp_path)).open(split), sample)
    lines = (tmp_path / "labels" / "val" / "0.txt").read_text().splitlines()
    assert lines[0].split() == ["3", "0.500000000", "0.500000000", "1.000000000", "1.000000000"]
    assert len((tmp_path / "labels" / "val" / "2.txt").read_text().splitlines()) == 2  # without the ignore region
