"""The VOC reader against hand-written files, real data whose COCO file is given, and all that can be wrong."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.voc import VocSource, write_voc
from autofocus_jax.structures import ImageError, ImageInfo

SHARED = Path(__file__).parents[3] / "shared" / "data"


def an_object(name="cat", corners=(3, 5, 12, 20), extra="") -> str:
    texts = zip(("xmin", "ymin", "xmax", "ymax"), corners)
    box = "".join(f"<{key}>{value}</{key}>" for key, value in texts)
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def an_image(*objects: str, size=(40, 30), filename="") -> str:
    width, height = size
    head = f"<filename>{filename}</filename><size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{head}{''.join(objects)}</annotation>"


@pytest.fixture
def year(tmp_path):
    """A folder laid out as a year of VOC with images one.jpg (40x30) and two.png (40x30) and lists of them."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("one.jpg", "two.png"):
        cv2.imwrite(str(tmp_path / "JPEGImages" / name), np.full((30, 40, 3), 90, np.uint8))
    (tmp_path / "Annotations" / "one.xml").write_text(an_image(an_object("dog"), an_object("cat", (1, 1, 40, 30))))
    (tmp_path / "Annotations" / "two.xml").write_text(an_image(an_object("cow", extra="<difficult>1</difficult>")))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("one\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("two\n")
    return tmp_path


def test_hand_written_files(year):
    data = VocSource(str(year)).open("train")
    assert data.categories == ("cat", "cow", "dog")  # of all splits
    image, truth = data[0]
    assert image.shape == (30, 40, 3) and data.info(0) == ImageInfo(1, "one.jpg", 30, 40)
    np.testing.assert_array_equal(truth.boxes, [[2, 4, 12, 20], [0, 0, 40, 30]])  # counted from 1, inclusive
    assert truth.labels.tolist() == [2, 0] and not truth.ignore.any()
    val = VocSource(str(year)).open("val")
    assert val.ground_truth(0).ignore.tolist() == [True] and val.info(0).file_name == "two.png"
    zero = VocSource(str(year), one_based=False).open("train")
    np.testing.assert_array_equal(zero.ground_truth(0).boxes, [[3, 5, 12, 20], [1, 1, 40, 30]])


def test_class_lists(year, complaint):
    data = VocSource(str(year), categories=("dog", "cat", "cow")).open("train")
    assert data.categories == ("dog", "cat", "cow") and data.ground_truth(0).labels.tolist() == [0, 1]
    (year / "labels.txt").write_text("horse\ndog\n\ncat\ncow\n")
    assert VocSource(str(year)).open("train").ground_truth(0).labels.tolist() == [1, 2]
    (year / "labels.txt").write_text("dog\ncow\n")
    message = complaint(lambda: VocSource(str(year)).open("train"))
    assert "one.xml" in message and "'cat'" in message


def test_years_of_a_devkit(year, tmp_path_factory):
    devkit = tmp_path_factory.mktemp("devkit")
    for name in ("VOC2007", "VOC2012"):
        os.symlink(year, devkit / name)
    source = VocSource(str(devkit), train="VOC2007/train VOC2012/val", val="VOC2012/val")
    data = source.open("train")
    assert [data.info(index).file_name for index in range(len(data))] == ["one.jpg", "two.png"]
    assert [data.info(index).image_id for index in range(2)] == [1, 2]
    assert len(source.open("val")) == 1 and len(source.open("VOC2012/train")) == 1
    assert source.open("val").categories == ("cat", "cow", "dog")


def test_lists_hold_names_with_suffixes_flags_and_blanks(year):
    (year / "Annotations" / "my cat.xml").write_text(an_image(filename="two.png"))
    (year / "ImageSets" / "Main" / "odd.txt").write_text(
        "\ufeffone.jpg\r\n\r\ntwo  1\r\nmy cat\r\none\r\n", encoding="utf-8"
    )
    data = VocSource(str(year)).open("odd")
    assert [data.info(index).file_name for index in range(len(data))] == ["one.jpg", "two.png", "two.png"]


def test_a_pair_of_folders(year, complaint):
    plain = VocSource(str(year), lists="")
    assert len(plain.open("all")) == 2
    assert "put {split} into it" in complaint(lambda: plain.open("val"))  # else one would report what one trained on
    for split, name in (("train", "one"), ("val", "two")):
        (year / split / "xml").mkdir(parents=True)
        os.replace(year / "Annotations" / f"{name}.xml", year / split / "xml" / f"{name}.xml")
    source = VocSource(str(year), annotations="{split}/xml", lists="", images="JPEGImages")
    assert len(source.open("train")) == 1 and source.open("train").categories == ("cat", "cow", "dog")
    assert source.open("val").image(0).shape == (30, 40, 3)
    assert "holds no XML file" in complaint(lambda: source.open("test"))


@pytest.mark.parametrize("named", ["two.png", "two.bmp"])
def test_of_two_forms_of_an_image_the_named_one_is_taken(named, year):
    for name in ("two.bmp", "two.jpg"):
        cv2.imwrite(str(year / "JPEGImages" / name), np.zeros((30, 40, 3), np.uint8))
    (year / "Annotations" / "two.xml").write_text(an_image(an_object("cow"), filename=named))
    assert VocSource(str(year)).open("val").files == [year / "JPEGImages" / named]


def test_images_are_found_by_stem_before_the_name_that_the_file_states(year):
    (year / "Annotations" / "one.xml").write_text(an_image(filename="two.png"))
    assert VocSource(str(year)).open("train").info(0).file_name == "one.jpg"
    os.remove(year / "JPEGImages" / "one.jpg")
    assert VocSource(str(year)).open("train").info(0).file_name == "two.png"


def test_a_size_that_is_not_stated_is_the_images(year, complaint):
    for text in (an_image(size=(0, 0)), "<annotation/>", an_image(size=("", "x"))):
        (year / "Annotations" / "one.xml").write_text(text)
        assert VocSource(str(year)).open("train").info(0) == ImageInfo(1, "one.jpg", 30, 40)
    os.remove(year / "JPEGImages" / "one.jpg")
    message = complaint(lambda: VocSource(str(year)).open("train"))
    assert "one.xml does not say how large its image is" in message and "one.jpg cannot be read" in message


def test_boxes_outside_are_cut_or_counted(year):
    corners = [(-5, 3, 400, 12), (41, 5, 60, 9), (9, 9, 3, 20), (7, 7, 7, 7), (7, 7, 6, 9)]
    (year / "Annotations" / "one.xml").write_text(an_image(*(an_object("cat", item) for item in corners)))
    data = VocSource(str(year)).open("train")
    np.testing.assert_array_equal(data.ground_truth(0).boxes, [[0, 2, 40, 12], [6, 6, 7, 7]])  # one pixel is a box
    assert data.dropped == 3


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", "not XML"),
        ("<annotation><object></annotation>", "not XML"),
        ("\x00\x01", "not XML"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "not XML"),
        (an_image(an_object(""), an_object()), "object 1 has the name ''"),
        (an_image(an_object(), an_object(corners=(1, "x", 3, 4))), "object 2"),
        (an_image(an_object(corners=(1, 2, "nan", 4))), "['1', '2', 'nan', '4']"),
        (an_image(an_object(corners=(1, 2, "1e999", 4))), "finite"),
        (an_image("<object><name>cat</name></object>"), "[None, None, None, None]"),
    ],
)
def test_malformed_files_are_one_line_naming_the_object(year, complaint, text, wanted):
    (year / "Annotations" / "one.xml").write_text(text)
    message = complaint(lambda: VocSource(str(year)).open("train"))
    assert wanted in message and "one.xml" in message


def test_missing_files(year, tmp_path, complaint):
    assert "test.txt cannot be read" in complaint(lambda: VocSource(str(year)).open("test"))
    assert "nowhere" in complaint(lambda: VocSource(str(tmp_path / "nowhere")).open("train"))
    (year / "ImageSets" / "Main" / "train.txt").write_text("one\nthree\n")
    assert "three.xml are not there (line 'three' of" in complaint(lambda: VocSource(str(year)).open("train"))
    (year / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\xff")
    assert "UTF-8" in complaint(lambda: VocSource(str(year)).open("train"))


def test_a_missing_image_is_an_image_error_when_it_is_asked_for(year):
    os.remove(year / "JPEGImages" / "one.jpg")
    data = VocSource(str(year)).open("train")
    assert len(data.ground_truth(0).labels) == 2
    with pytest.raises(ImageError, match=r"one\.jpg"):
        data.image(0)
    cv2.imwrite(str(year / "JPEGImages" / "one.jpg"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(ImageError, match=r"20x20 px but .*Annotations says 40x30"):
        VocSource(str(year)).open("train").image(0)


def test_written_files_are_read_back(sample, same, tmp_path):
    infos = [sample.info(index)._replace(file_name=f"sub/{index}.png") for index in range(len(sample))]
    truths = [sample.ground_truth(index) for index in range(len(sample))]
    write_voc(tmp_path, "val", infos, sample.categories, truths)
    (tmp_path / "JPEGImages").mkdir()
    for index in range(len(sample)):
        cv2.imwrite(str(tmp_path / "JPEGImages" / f"{index}.png"), sample.image(index)[..., ::-1])
    same(VocSource(str(tmp_path)).open("val"), sample)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not here")
@pytest.mark.parametrize("name, count, difficult", [("voc100", 273, 38), ("bccd", 4888, 0)])
def test_real_files_agree_with_their_conversion_to_coco(name, count, difficult):
    root = str(SHARED / name)
    data = VocSource(root, annotations="annotations_voc", lists="", images="images").open("all")
    coco = CocoSource(root, annotations="annotations/instances.json", images="images").open("all")
    assert data.categories == coco.categories and len(data) == len(coco) and data.dropped == coco.dropped == 0
    place = {coco.info(index).file_name: index for index in range(len(coco))}
    flags = 0
    for index in range(len(data)):
        other = place[data.info(index).file_name]
        assert data.info(index)[2:] == coco.info(other)[2:]
        mine, theirs = data.ground_truth(index), coco.ground_truth(other)
        np.testing.assert_array_equal(mine.boxes, theirs.boxes)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
        flags += int(mine.ignore.sum())
        count -= len(mine.labels)
    assert count == 0 and flags == difficult
    assert data.image(0).shape[:2] == data.info(0)[2:]
