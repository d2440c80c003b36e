"""What the sources share: flat arrays of a split, shares into pixels, templates of paths; and a config's one line."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.config import load
from autofocus_jax.data.annotations import AnnotatedImages, AnnotationError, NoSplitError, fill, pixels, read_lines
from autofocus_jax.data.image import read_image
from autofocus_jax.structures import ImageInfo


def images(boxes, owner, dropped=0):
    infos = [ImageInfo(1, "a.png", 10, 20), ImageInfo(2, "b.png", 30, 40)]
    labels, ignore = np.arange(len(boxes)) % 3, np.arange(len(boxes)) % 2 == 0
    files = [Path("a.png"), Path("b.png")]
    return AnnotatedImages("xyz", infos, files, owner, boxes, labels, ignore, read_image, dropped)


def test_annotations_go_to_their_images_in_their_order():
    boxes = [[0, 0, 5, 5], [1, 1, 2, 2], [10, 5, 30, 20], [3, 3, 4, 4]]
    data = images(boxes, [1, 0, 1, 0])
    assert data.categories == ("x", "y", "z") and len(data) == 2 and data.info(1).file_name == "b.png"
    first, second = data.ground_truth(0), data.ground_truth(1)
    np.testing.assert_array_equal(first.boxes, [[1, 1, 2, 2], [3, 3, 4, 4]])
    np.testing.assert_array_equal(second.boxes, [[0, 0, 5, 5], [10, 5, 30, 20]])
    assert first.labels.tolist() == [1, 0] and second.labels.tolist() == [0, 2]
    assert first.ignore.tolist() == [False, False] and second.ignore.tolist() == [True, True]


def test_boxes_are_cut_at_their_own_image_and_counted():
    data = images([[-3, -3, 25, 12], [20, 0, 25, 5], [5, 5, 5, 9], [25, 5, 50, 50]], [0, 0, 0, 1], dropped=4)
    np.testing.assert_array_equal(data.ground_truth(0).boxes, [[0, 0, 20, 10]])
    np.testing.assert_array_equal(data.ground_truth(1).boxes, [[25, 5, 40, 30]])
    assert data.dropped == 6


def test_no_boxes_and_no_images():
    data = images([], [])
    assert data.ground_truth(0).boxes.shape == (0, 4) and data.dropped == 0
    empty = AnnotatedImages((), [], [], [], [], [], [], read_image)
    assert len(empty) == 0
    with pytest.raises(IndexError):
        empty.ground_truth(0)


def test_worker_processes_can_have_a_copy():
    data = pickle.loads(pickle.dumps(images([[0, 0, 5, 5]], [1])))
    np.testing.assert_array_equal(data.ground_truth(1).boxes, [[0, 0, 5, 5]])


@given(
    st.lists(st.integers(0, 16 * 1600), min_size=4, max_size=4), st.integers(1, 1600), st.integers(1, 1600),
    st.sampled_from([1, 16, 100]),
)  # fmt: skip
def test_shares_come_back_as_the_pixels_that_they_were_made_of(corners, height, width, grid):
    """Whole pixels, sixteenths and hundredths, through float32 and through nine decimals."""
    sides = np.array([width, height, width, height])
    boxes = np.minimum(np.array([corners]) / grid, sides)
    for shares in ((boxes / sides).astype(np.float32), np.round(boxes / sides, 9)):
        back = pixels(shares.astype(np.float64), np.array([height]), np.array([width]))
        np.testing.assert_array_equal(back.astype(np.float32), boxes.astype(np.float32))


def test_templates():
    assert fill("a/{split}/{split}.json", "val", "x") == "a/val/val.json"
    assert fill("a.json", "all", "x") == "a.json" and fill("{split}.json", "all", "x") == "all.json"
    assert fill("a.json", "train", "x") == "a.json"
    with pytest.raises(NoSplitError, match=r"CocoSource's annotations 'a\.json' is the same for every split"):
        fill("a.json", "val", "CocoSource's annotations")


def test_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffone \r\n\r\n  zwölf\n".encode())
    assert read_lines(path) == ["one", "zwölf"]
    with pytest.raises(AnnotationError, match=r"nowhere\.txt cannot be read"):
        read_lines(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    "line, overrides, wanted",
    [
        ("CocoSource('a')", ["--data.root", "b", "--data.images", "c"], {"root": "b", "images": "c"}),
        ("VocSource('a')", ["--data.categories", "x", "y", "--data.no-one-based"], {"categories": ["x", "y"]}),
        (
            "VocSource('a', train='VOC2007/trainval')",
            ["--data.val", "test"],
            {"train": "VOC2007/trainval", "val": "test"},
        ),
        ("YoloSource('a')", ["--data.root", "b/data.yaml"], {"root": "b/data.yaml"}),
        ("TfdsSource('coco/2017')", ["--data.data-dir", "b"], {"name": "coco/2017", "data_dir": "b"}),
    ],
)
def test_a_config_names_a_source_in_one_line_and_the_command_line_overrides_it(tmp_path, line, overrides, wanted):
    path = tmp_path / "config.py"
    path.write_text(
        "import dataclasses\nfrom autofocus_jax import *\n"
        "def get_config():\n"
        f"    return dataclasses.replace(load_config('configs/demo.py'), data={line})\n"
    )
    data = load.to_dict(load.load_config(path, overrides).data)
    assert data["kind"] == line.split("(")[0] and data | wanted == data
