"""FocusSlicer beside supervision's own InferenceSlicer, with the same callback."""

import sys

import numpy as np
import pytest
from PIL import Image

from autofocus_jax.dropin import DropInError, FocusSlicer
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.structures import ImageError

from .conftest import NAMES, SQUARES, see

sv = pytest.importorskip(
    "supervision", reason="wants supervision: pip install -e '.[test]' and pip install --no-deps supervision==0.31.2"
)

QUICK_START = """
import supervision as sv
from supervision import InferenceSlicer

slicer = InferenceSlicer(callback, slice_wh=256, overlap_wh=50)
detections = slicer(image)
annotated = sv.BoxAnnotator().annotate(image.copy(), detections)
names = list(detections["class_name"])
"""
OURS = "from autofocus_jax.dropin import FocusSlicer as InferenceSlicer"


def detections(tile):
    table = np.array(see(tile), np.float32).reshape(-1, 6)
    labels = table[:, 5].astype(int)
    return sv.Detections(xyxy=table[:, :4], confidence=table[:, 4], class_id=labels,
                         data={"class_name": np.array([NAMES[label] for label in labels], dtype=str)})  # fmt: skip


class Callback:
    def __init__(self):
        self.sizes = []

    def __call__(self, tile):
        self.sizes.append(tile.shape[:2])
        return detections(tile)


def test_the_quick_start_with_one_import_changed(picture):
    runs, results = [], []
    for source in (QUICK_START, QUICK_START.replace("from supervision import InferenceSlicer", OURS)):
        names = {"callback": Callback(), "image": picture}
        exec(source, names)
        runs.append(len(names["callback"].sizes))
        results.append(names)
    sliced, focused = (names["detections"] for names in results)
    assert type(focused) is type(sliced) is sv.Detections
    order = np.lexsort(focused.xyxy.T[::-1])
    np.testing.assert_allclose(focused.xyxy[order], [square[:4] for square in sorted(SQUARES)], atol=3)
    assert focused.class_id[order].tolist() == [0, 1, 1] and np.allclose(focused.confidence, 0.9)
    small = sorted(sliced.xyxy[sliced.class_id == 1].tolist())
    assert sorted(focused.xyxy[focused.class_id == 1].tolist()) == small
    assert sorted(results[1]["names"]) == ["large", "small", "small"]
    assert (results[1]["annotated"] != picture).any()
    assert runs[0] == 30 and runs[1] <= 8


def test_channels_come_as_the_image_has_them_and_pil_images_as_rgb(picture):
    expected = FocusSlicer(Callback(), 256, 50)(picture)
    turned = FocusSlicer(lambda tile: detections(tile[..., ::-1]), 256, 50)(np.ascontiguousarray(picture[..., ::-1]))
    of_pil = FocusSlicer(Callback(), 256, 50)(Image.fromarray(picture))
    assert turned.xyxy.tolist() == of_pil.xyxy.tolist() == expected.xyxy.tolist() and len(expected) == 3


def test_lists_for_a_batch(picture):
    sizes = []

    def callback(tiles):
        sizes.append(len(tiles))
        return [detections(tile) for tile in tiles]

    assert len(FocusSlicer(callback, (256, 192), (50, 30), batch_size=3)(picture)) == 3
    assert max(sizes) > 1 and max(sizes) <= 3


def test_canvases_are_of_slice_wh(picture):
    callback = Callback()
    FocusSlicer(callback, (256, 192), 30)(picture)
    assert set(callback.sizes) == {(192, 256)}


def test_weak_detections_come_back_unless_confidence_says_otherwise():
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:16, 8:16, 1] = 255
    assert FocusSlicer(Callback(), 64, 10)(image).confidence.tolist() == [np.float32(0.05)]
    assert len(FocusSlicer(Callback(), 64, 10, confidence=0.1)(image)) == 0


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 2), ({"overlap_metric": "IOS"}, 1), ({"iou_threshold": 0.2}, 1), ({"overlap_filter": "none"}, 2),
     ({"overlap_filter": "none", "iou_threshold": 0.2}, 2),
     ({"overlap_filter": sv.OverlapFilter.NON_MAX_MERGE, "iou_threshold": 0.2}, 1)],
)  # fmt: skip
def test_supervision_merges_as_it_is_told(settings, count):
    """Two boxes of one thing, one inside the other."""
    boxes = np.array([[10, 10, 110, 110], [10, 10, 60, 60]], np.float32)

    def callback(tile):
        return sv.Detections(xyxy=boxes, confidence=np.array([0.9, 0.8]), class_id=np.zeros(2, int))

    assert len(FocusSlicer(callback, 256, 50, **settings)(np.zeros((256, 256, 3), np.uint8))) == count


def test_nothing_found():
    found = FocusSlicer(lambda tile: sv.Detections.empty(), 256, 50)(np.zeros((300, 400, 3), np.uint8))
    assert len(found) == 0 and isinstance(found, sv.Detections)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thread_workers": 2}, "thread_workers=2 has no meaning for FocusSlicer"),
        ({"compact_masks": True}, "compact_masks=True has no meaning"),
        ({"slice_wh": 0}, "slice_wh must be one number or .* got 0"),
        ({"slice_wh": (1, 2, 3)}, "slice_wh must be one number or"),
        ({"overlap_wh": 640}, "overlap_wh must be smaller than slice_wh, got 640 and 640"),
        ({"overlap_filter": "best"}, "overlap_filter and overlap_metric must be supervision's: .*best"),
    ],
)
def test_what_has_no_meaning_is_refused(settings, message):
    with pytest.raises(DropInError, match=message) as error:
        FocusSlicer(Callback(), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "more", [{"mask": np.ones((1, 9, 9), bool)}, {"data": {"xyxyxyxy": np.zeros((1, 4, 2), np.float32)}}]
)
def test_answers_of_more_than_boxes_are_refused(more):
    def callback(tile):
        return sv.Detections(np.array([[0, 0, 9, 9]]), confidence=np.ones(1), class_id=np.zeros(1, int), **more)

    with pytest.raises(ForeignError, match="masks or turned boxes"):
        FocusSlicer(callback, 64, 10)(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize(
    "image", ["a.jpg", np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)]
)
def test_what_is_no_image(image):
    with pytest.raises(ImageError, match=r"give uint8 \[h, w, 3\] or a PIL image"):
        FocusSlicer(Callback())(image)


def test_a_callback_that_raises_or_answers_no_list_is_named():
    with pytest.raises(ForeignError, match="the callback raised ZeroDivisionError on a crop of 64x64 px"):
        FocusSlicer(lambda tile: 1 / 0, 64, 10)(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ForeignError, match="the callback answers NoneType for 1 crops"):
        FocusSlicer(lambda tiles: None, 64, 10, batch_size=2)(np.zeros((9, 9, 3), np.uint8))


def test_without_supervision_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision.detection.utils.iou_and_nms", None)
    with pytest.raises(DropInError, match=r"supervision is needed and cannot be imported .*; pip install supervision"):
        FocusSlicer(Callback())
