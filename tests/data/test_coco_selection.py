"""Splits by a field and categories taken together, on a file of three scenes."""

import json

import pytest

from autofocus_jax.data.annotations import AnnotationError
from autofocus_jax.data.coco import CocoSource
from autofocus_jax.data.coco_selection import groups

SPLITS = ("train=park,street", "val=yard")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations").mkdir()
    scenes = ("park", "street", "street", "yard")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 60, "width": 90, "scene": scene}
                   for n, scene in enumerate(scenes)],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}, {"id": 5, "name": "minibus"}],
        "annotations": [{"id": n, "image_id": image, "category_id": category, "bbox": [n, 10, 20, 30]}
                        for n, (image, category) in enumerate([(0, 1), (1, 5), (2, 2), (3, 5), (3, 1)], 1)],
    }  # fmt: skip
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(content))
    return tmp_path


def source(root, **settings):
    return CocoSource(str(root), annotations="annotations/instances.json", **settings)


def test_splits_by_scene(root):
    made = source(root, field="scene", splits=SPLITS)
    train, val, everything = (made.open(split) for split in ("train", "val", "all"))
    assert [train.info(index).file_name for index in range(len(train))] == ["0.png", "1.png", "2.png"]
    assert [len(train.ground_truth(index).labels) for index in range(3)] == [1, 1, 1]
    assert len(val) == 1 and val.ground_truth(0).labels.tolist() == [2, 0] and len(everything) == 4
    assert val.categories == ("car", "bus", "minibus")


def test_categories_taken_together(root):
    data = source(root, merged=("vehicle=minibus,car",)).open("all")
    assert data.categories == ("bus", "vehicle")  # by id, that of the first
    assert [data.ground_truth(index).labels.tolist() for index in range(4)] == [[1], [1], [0], [1, 1]]
    # One name may mark regions that are not judged, after it was taken together.
    ignored = source(root, merged=("vehicle=minibus,car",), ignore_categories=("bus",)).open("all")
    assert ignored.categories == ("vehicle",) and ignored.ground_truth(2).ignore.tolist() == [True]


@pytest.mark.parametrize("settings, says", [
    ({"field": "scene"}, "data.field and data.splits go together"),
    ({"splits": SPLITS}, "data.field and data.splits go together"),
    ({"field": "place", "splits": SPLITS}, "has no 'place'; correct data.field"),
    ({"field": "scene", "splits": ("train=park",)}, "data.splits has no 'val', only train"),
    ({"field": "scene", "splits": ("val=lake",)}, "no image has scene 'lake', only park, street, yard"),
    ({"field": "scene", "splits": SPLITS, "merged": ("vehicle=car,boat",)}, "'boat' of data.merged is no category"),
    ({"field": "scene", "splits": SPLITS, "merged": ("a=car", "b=car")}, "'car' of data.merged stands in two groups"),
])  # fmt: skip
def test_what_cannot_be(root, settings, says):
    with pytest.raises(AnnotationError, match=says):
        source(root, **settings).open("val")


@pytest.mark.parametrize("words", [("train",), ("=a",), ("train=",), ("train=a,,b",), ("a=b", "a=c")])
def test_words_that_are_no_groups(words):
    with pytest.raises(AnnotationError, match=r"data\.splits has"):
        groups(words, "data.splits")


def test_one_file_is_wanted_for_splits_by_a_field(root):
    with pytest.raises(AnnotationError, match="wants one file for all splits; name it"):
        CocoSource(str(root), field="scene", splits=SPLITS).open("val")
