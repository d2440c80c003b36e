"""The COCO reader against pycocotools, hand-written files, and everything that can be wrong with them."""

import gzip
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from autofocus_jax.data.coco import AnnotationError, CocoDataset, CocoSource, write_coco
from autofocus_jax.structures import AutoFocusError, GroundTruth, ImageError, ImageInfo


def content() -> dict:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 30, "width": 40},
            {"id": 3, "file_name": "b.png", "height": 20, "width": 50},
            {"id": 9, "file_name": "c.png", "height": 10, "width": 10},
        ],
        "categories": [{"id": 90, "name": "tooth brush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "sign"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1.5, 2, 10.25, 5], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [-5, 4, 10, 100], "iscrowd": 0},
            {"id": 3, "image_id": 3, "category_id": 13, "bbox": [0, 0, 50, 20], "iscrowd": 1},
            {"id": 4, "image_id": 7, "category_id": 13, "bbox": [5, 5, 2, 2], "ignore": 1},
            {"id": 5, "image_id": 7, "category_id": 13, "bbox": [41, 5, 2, 2]},
            {"id": 6, "image_id": 7, "category_id": 13, "bbox": [5, 5, 0, 2]},
            {"id": 7, "image_id": 7, "category_id": 13, "bbox": [5, 5, -3, 2]},
        ],
    }


def write(folder, data) -> CocoDataset:
    path = folder / "annotations.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return CocoDataset(folder, path)


def test_hand_written_file(tmp_path):
    data = write(tmp_path, content())
    assert len(data) == 3
    assert data.categories == ("person", "sign", "tooth brush")
    assert data.category_ids.tolist() == [1, 13, 90]
    assert data.info(1) == ImageInfo(3, "b.png", 20, 50)
    first, second, third = (data.ground_truth(i) for i in range(3))
    np.testing.assert_array_equal(first.boxes, [[0, 4, 5, 30], [5, 5, 7, 7]])  # cut at the image's borders
    assert (first.labels.tolist(), first.ignore.tolist()) == ([0, 1], [False, True])
    np.testing.assert_array_equal(second.boxes, [[1.5, 2, 11.75, 7], [0, 0, 50, 20]])
    assert (second.labels.tolist(), second.ignore.tolist()) == ([2, 1], [False, True])
    assert third.boxes.shape == (0, 4)
    assert data.dropped == 3
    assert (first.boxes.dtype, first.labels.dtype, first.ignore.dtype) == (np.float32, np.int32, bool)
    np.testing.assert_array_equal(data.ground_truth(-2).boxes, second.boxes)
    with pytest.raises(IndexError):
        data.ground_truth(3)


def test_ground_truth_is_the_callers_to_change(tmp_path):
    data = write(tmp_path, content())
    data.ground_truth(0).boxes[:] = -1
    assert (data.ground_truth(0).boxes >= 0).all()


def test_written_file_is_read_back_by_us_and_by_pycocotools(tmp_path):
    generator = np.random.default_rng(0)
    infos = [ImageInfo(10 + i, f"{i}.jpg", 400, 600) for i in range(20)]
    truths = []
    for _ in infos:
        count = int(generator.integers(0, 6))
        low = generator.integers(0, 3000, (count, 2)) / 16
        boxes = np.concatenate([low, low + generator.integers(16, 3000, (count, 2)) / 16], axis=1).astype(np.float32)
        labels = generator.integers(0, 4, count).astype(np.int32)
        truths.append(GroundTruth(boxes, labels, generator.random(count) < 0.2))
    path = tmp_path / "annotations.json"
    write_coco(path, infos, ("a", "b", "c", "d"), truths)

    data = CocoDataset(tmp_path, path)
    theirs = COCO(str(path))
    for index, (info, truth) in enumerate(zip(infos, truths)):
        assert data.info(index) == info
        for mine, wanted in zip(data.ground_truth(index), truth):
            np.testing.assert_array_equal(mine, wanted)
        other = theirs.loadAnns(theirs.getAnnIds(imgIds=info.image_id))
        xywh = np.array([a["bbox"] for a in other]).reshape(-1, 4)
        np.testing.assert_array_equal(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), truth.boxes)
        assert [data.category_ids[label] for label in truth.labels] == [a["category_id"] for a in other]
        assert [bool(a["iscrowd"]) for a in other] == truth.ignore.tolist()


def test_images_are_rgb(tmp_path):
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :, 0], pixels[5, 6] = 200, (1, 2, 3)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    data = write(tmp_path, content())
    image, truth = data[0]
    np.testing.assert_array_equal(image, pixels)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert len(truth.boxes) == 2


def image_file(tmp_path, damage: str) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    if damage == "folder":
        path.mkdir()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("this is no image")
    elif damage == "cut":
        path.write_bytes(jpeg[: len(jpeg) // 2])
    elif damage == "size":
        path.write_bytes(cv2.imencode(".png", pixels[:20])[1].tobytes())


@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "text", "cut", "size"])
def test_bad_images_are_one_line_naming_the_file(tmp_path, damage):
    image_file(tmp_path, damage)
    data = write(tmp_path, content())
    with pytest.raises(ImageError) as caught:
        data.image(0)
    assert "a.png" in str(caught.value) and "\n" not in str(caught.value)


def changed(table: str, position: int, key: str, value) -> dict:
    data = content()
    if value is None:
        del data[table][position][key]
    else:
        data[table][position][key] = value
    return data


@pytest.mark.parametrize(
    "data, wanted",
    [
        ("{not json", "JSON"),
        ("", "JSON"),
        ("[1, 2]", "list"),
        ("[" * 200_000, "JSON"),
        ({"images": [], "categories": []}, "'annotations'"),
        ({**content(), "images": {"id": 1}}, "'images'"),
        ({**content(), "annotations": [1]}, "'annotations'"),
        (changed("images", 1, "width", None), "images[1] has no 'width'"),
        (changed("images", 1, "width", "50"), "'50'"),
        (changed("images", 1, "width", 0), "0x20"),
        (changed("images", 1, "id", 7), "more than once"),
        (changed("categories", 1, "id", 90), "more than once"),
        (changed("categories", 0, "name", None), "categories[0] has no 'name'"),
        (changed("annotations", 2, "bbox", None), "annotations[2] has no 'bbox'"),
        (changed("annotations", 2, "image_id", 8), "annotations[2] has image_id 8"),
        (changed("annotations", 2, "category_id", [8]), "annotations[2] has category_id [8]"),
        (changed("annotations", 2, "bbox", [1, 2, 3]), "annotations[2] has bbox [1, 2, 3]"),
        (changed("annotations", 2, "bbox", [1, 2, 3, "4"]), "annotations[2]"),
        (changed("annotations", 2, "bbox", [1, 2, 3, float("nan")]), "annotations[2]"),
        (changed("annotations", 2, "bbox", [1, 2, 3, 10**400]), "annotations[2]"),
        (changed("annotations", 2, "bbox", {"x": 1}), "annotations[2]"),
        (
            {**content(), "annotations": [{**entry, "bbox": [[1, 2], [3, 4]]} for entry in content()["annotations"]]},
            "annotations[0] has bbox [[1, 2], [3, 4]]",
        ),
        (changed("annotations", 2, "bbox", [[1], 2, 3, 4]), "annotations[2]"),
        (changed("annotations", 2, "iscrowd", "0"), "annotations[2] has iscrowd '0'; want 0 or 1"),
        (changed("annotations", 0, "ignore", [1]), "annotations[0] has ignore [1]; want 0 or 1"),
    ],
)
def test_malformed_annotations_are_one_line_naming_the_entry(tmp_path, data, wanted):
    with pytest.raises(AutoFocusError) as caught:
        write(tmp_path, data)
    message = str(caught.value)
    assert wanted in message and "annotations.json" in message and "\n" not in message


def test_missing_annotations(tmp_path):
    with pytest.raises(AutoFocusError, match=r"nowhere\.json cannot be read"):
        CocoDataset(tmp_path, tmp_path / "nowhere.json")


def test_gzip_is_read_whatever_its_name(tmp_path):
    plain = write(tmp_path, content())
    for name in ("annotations.json.gz", "packed.json"):
        (tmp_path / name).write_bytes(gzip.compress(json.dumps(content()).encode()))
        packed = CocoDataset(tmp_path, tmp_path / name)
        assert packed.categories == plain.categories and len(packed) == len(plain)
        for one, other in zip(packed.ground_truth(0), plain.ground_truth(0)):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:20], lambda data: data[:12] + data[20:]])
def test_damaged_gzip_is_one_line(tmp_path, damage):
    path = tmp_path / "annotations.json.gz"
    path.write_bytes(damage(gzip.compress(json.dumps(content()).encode())))
    with pytest.raises(AutoFocusError, match=r"annotations\.json\.gz are a damaged gzip file") as caught:
        CocoDataset(tmp_path, path)
    assert "\n" not in str(caught.value)


def test_no_images_and_no_annotations(tmp_path):
    data = write(tmp_path, {"images": [], "categories": [{"id": 1, "name": "a"}], "annotations": []})
    assert len(data) == 0 and data.categories == ("a",) and data.dropped == 0
    data = write(tmp_path, {**content(), "annotations": []})
    assert data.ground_truth(0).boxes.shape == (0, 4)


def test_source_follows_cocos_layout(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content()))
    cv2.imwrite(str(tmp_path / "val2017" / "a.png"), np.zeros((30, 40, 3), np.uint8))
    assert CocoSource(str(tmp_path)).open("val2017").image(0).shape == (30, 40, 3)


def lay_out(root, annotations, images):
    for path in (root / annotations, root / images / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(content()).encode()
    (root / annotations).write_bytes(gzip.compress(data) if annotations.endswith(".gz") else data)
    cv2.imwrite(str(root / images / "a.png"), np.zeros((30, 40, 3), np.uint8))


@pytest.mark.parametrize(
    "annotations, images, split, settings",
    [
        ("annotations/instances_val.json", "val", "val", {}),
        ("annotations/instances_val2017.json", "val2017", "val", {}),
        ("annotations/instances_val.json.gz", "val", "val", {}),
        ("annotations/instances_val2017.json.gz", "images/val2017", "val", {}),
        ("annotations/instances_val2017.json", "images/val2017", "val2017", {}),
        ("annotations/instances_train2014.json", "images", "train", {}),
        ("boxes/val.json", "all", "val", {"annotations": "boxes/{split}.json", "images": "all"}),
        ("val/_annotations.coco.json", "val", "val", {"annotations": "{split}/_annotations.coco.json"}),
        ("boxes.json", "pictures", "all", {"annotations": "boxes.json", "images": "pictures"}),
        ("annotations/instances_val2017.json", "raw/val2017/x", "val", {"images": "raw/{split}/x"}),
    ],
)
def test_layouts(tmp_path, annotations, images, split, settings):
    lay_out(tmp_path, annotations, images)
    assert CocoSource(str(tmp_path), **settings).open(split).image(0).shape == (30, 40, 3)


def test_layouts_that_leave_a_doubt_are_one_line(tmp_path, complaint):
    lay_out(tmp_path, "annotations/instances_val2017.json", "val2017")
    lay_out(tmp_path, "annotations/instances_val2014.json", "val2014")
    message = complaint(lambda: CocoSource(str(tmp_path)).open("val"))
    assert "instances_val2014.json, instances_val2017.json" in message and "name one" in message
    assert "instances_train.json cannot be read" in complaint(lambda: CocoSource(str(tmp_path)).open("train"))
    whole = CocoSource(str(tmp_path), annotations="annotations/instances_val2017.json")
    assert "put {split} into it for 'val'" in complaint(lambda: whole.open("val"))


def test_ignore_categories_are_regions_of_every_other_category(tmp_path):
    path = tmp_path / "annotations" / "instances_all.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content()))
    data = CocoSource(str(tmp_path), ignore_categories=("sign",)).open("all")
    assert data.categories == ("person", "tooth brush")
    assert data.category_ids.tolist() == [1, 90]
    first, second = data.ground_truth(0), data.ground_truth(1)
    np.testing.assert_array_equal(first.boxes, [[0, 4, 5, 30], [5, 5, 7, 7], [5, 5, 7, 7]])
    assert (first.labels.tolist(), first.ignore.tolist()) == ([0, 0, 1], [False, True, True])
    assert (second.labels.tolist(), second.ignore.tolist()) == ([1, 0, 1], [False, True, True])


def test_unknown_ignore_category_is_named(tmp_path):
    write(tmp_path, content())
    with pytest.raises(AnnotationError, match="no category is named 'sing'"):
        CocoDataset(tmp_path, tmp_path / "annotations.json", ("sign", "sing"))
