"""Data sets written out in four formats: identical ground truth through all four readers."""

import cv2
import numpy as np
import pytest
from PIL import Image

from autofocus_jax.data.coco import CocoDataset, CocoSource, write_coco
from autofocus_jax.data.export import export_coco, export_voc, export_yolo, image_file
from autofocus_jax.data.image import read_image
from autofocus_jax.data.tfds import TfdsSource, write_tfds
from autofocus_jax.data.voc import VocSource
from autofocus_jax.data.yolo import YoloSource
from autofocus_jax.scenes.source import ScenesSource
from autofocus_jax.structures import AutoFocusError, GroundTruth, ImageInfo


def numbered(data):
    """Position of each scene, by the number in its file's name: TFDS shuffles."""
    return {int("".join(filter(str.isdigit, data.info(index).file_name))): index for index in range(len(data))}


def test_scenes_are_the_same_through_all_four_readers(tmp_path):
    scenes = {
        split: ScenesSource(seed=3, train=12, val=6, folder=str(tmp_path)).open(split) for split in ("train", "val")
    }
    for split, dataset in scenes.items():
        export_coco(dataset, tmp_path / "coco", split)
        export_voc(dataset, tmp_path / "voc", split)
        export_yolo(dataset, tmp_path / "yolo", split)
    write_tfds(tmp_path / "tfds", "scenes", {"train": scenes["train"], "validation": scenes["val"]})
    sources = (
        CocoSource(str(tmp_path / "coco")), VocSource(str(tmp_path / "voc")), YoloSource(str(tmp_path / "yolo")),
        TfdsSource("scenes", str(tmp_path / "tfds")),
    )  # fmt: skip
    seen = 0
    for split, wanted in scenes.items():
        for source in sources:
            data = source.open(split)
            assert data.categories == wanted.categories and len(data) == len(wanted)
            places = numbered(data)
            for index in range(len(wanted)):
                image, truth = data[places[index]]
                np.testing.assert_array_equal(image, wanted.image(index))
                assert data.info(places[index])[2:] == wanted.info(index)[2:]
                for mine, other in zip(truth, wanted.ground_truth(index), strict=True):
                    np.testing.assert_array_equal(mine, other)
                    assert mine.dtype == other.dtype
                seen += len(truth.labels)
            assert data.dropped == 0
    assert seen > 4 * 60


@pytest.mark.parametrize(
    "export, source", [(export_coco, CocoSource), (export_voc, VocSource), (export_yolo, YoloSource)]
)
def test_any_data_set_can_be_exported(sample, same, tmp_path, export, source):
    export(sample, tmp_path / "out", "val")
    same(source(str(tmp_path / "out")).open("val"), sample)


def test_files_are_kept_unless_an_orientation_tag_would_turn_them(tmp_path):
    exif = Image.Exif()
    exif[274] = 3
    generator = np.random.default_rng(0)
    pixels = cv2.blur(generator.integers(0, 256, (30, 40, 3), np.uint8), (5, 5))
    Image.fromarray(pixels).save(tmp_path / "plain.jpg")
    Image.fromarray(pixels).save(tmp_path / "tagged.jpg", exif=exif)
    infos = [ImageInfo(1, "plain.jpg", 30, 40), ImageInfo(2, "tagged.jpg", 30, 40)]
    truth = GroundTruth(np.array([[1, 2, 30, 20]], np.float32), np.array([0], np.int32), np.array([False]))
    write_coco(tmp_path / "boxes.json", infos, ["thing"], [truth, truth])
    data = CocoDataset(tmp_path, tmp_path / "boxes.json")
    assert image_file(data, 0) == (".jpg", (tmp_path / "plain.jpg").read_bytes())
    assert image_file(data, 1)[0] == ".png"
    export_yolo(data, tmp_path / "yolo", "val")  # its reader follows the tag
    again = YoloSource(str(tmp_path / "yolo")).open("val")
    np.testing.assert_array_equal(again.image(1), read_image(tmp_path / "tagged.jpg"))
    np.testing.assert_array_equal(again.ground_truth(1).boxes, truth.boxes)


def test_equal_names_in_different_folders_stay_apart(sample, same, tmp_path):
    infos = [ImageInfo(index + 5, f"{index}/view.png", *sample.info(index)[2:]) for index in range(len(sample))]
    for info, image in zip(infos, sample.images):
        (tmp_path / info.file_name).parent.mkdir()
        cv2.imwrite(str(tmp_path / info.file_name), image[..., ::-1])
    write_coco(tmp_path / "boxes.json", infos, sample.categories, sample.truths)
    export_voc(CocoDataset(tmp_path, tmp_path / "boxes.json"), tmp_path / "voc", "val")
    same(VocSource(str(tmp_path / "voc")).open("val"), sample)


def test_a_folder_that_cannot_be_made_is_one_line(sample):
    with pytest.raises(AutoFocusError, match="/dev/null/x cannot be made"):
        export_yolo(sample, "/dev/null/x", "val")
