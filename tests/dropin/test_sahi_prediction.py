"""get_focused_prediction beside SAHI's own get_sliced_prediction, with the same model."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from autofocus_jax.dropin import DropInError, get_focused_prediction
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.structures import ImageError

from .conftest import NAMES, SQUARES, see

pytest.importorskip("sahi", reason="wants SAHI: pip install -e '.[test]' and pip install --no-deps sahi==0.12.8")

from sahi.models.base import DetectionModel
from sahi.prediction import ObjectPrediction, PredictionResult


class Squares(DetectionModel):
    """A model of SAHI's that finds squares. Its ids are 3 and 8."""

    ids = (3, 8)

    def set_device(self, device=None):
        self.device = "cpu"

    def set_model(self, model, **_):
        self.model, self.calls = model, []
        self.category_mapping = {str(key): name for key, name in zip(self.ids, NAMES)}

    def perform_inference(self, image):
        self.calls.append(image.shape[:2])
        self._original_predictions = see(image, self.confidence_threshold)

    def _create_object_prediction_list_from_original_predictions(self, shift_amount_list=None, full_shape_list=None):
        shift, shape = (value[0] if isinstance(value[0], list) else value for value in (shift_amount_list,
                                                                                        full_shape_list))  # fmt: skip
        self._object_prediction_list_per_image = [[
            ObjectPrediction(list(box), self.ids[label], NAMES[label], None, score, shift, shape)
            for *box, score, label in self._original_predictions
        ]]  # fmt: skip


@pytest.fixture
def model():
    return Squares(model=object(), confidence_threshold=0.3)


QUICK_START = """
from sahi.predict import get_sliced_prediction

result = get_sliced_prediction(
    photograph,
    detection_model,
    slice_height=256,
    slice_width=256,
    overlap_height_ratio=0.2,
    overlap_width_ratio=0.2,
)
result.export_visuals(export_dir=folder)
object_prediction_list = result.object_prediction_list
annotations = result.to_coco_annotations()
predictions = result.to_coco_predictions(image_id=1)
"""
OURS = "from autofocus_jax.dropin import get_focused_prediction as get_sliced_prediction"


def rows(result):
    """Sorted (x1, y1, x2, y2, id, name, score) of a PredictionResult."""
    return sorted((*one.bbox.to_xyxy(), one.category.id, one.category.name, round(one.score.value, 4))
                  for one in result.object_prediction_list)  # fmt: skip


def expected(*squares):
    return sorted((x1, y1, x2, y2, Squares.ids[label], NAMES[label], 0.9) for x1, y1, x2, y2, label in squares)


def test_the_quick_start_with_one_import_changed(model, picture, tmp_path, capsys):
    photograph = tmp_path / "photograph.png"
    cv2.imwrite(str(photograph), picture[..., ::-1])
    runs, results = [], []
    for source in (QUICK_START, QUICK_START.replace("from sahi.predict import get_sliced_prediction", OURS)):
        names = {"photograph": str(photograph), "detection_model": model, "folder": str(tmp_path / str(len(runs)))}
        model.calls.clear()
        exec(source, names)
        runs.append(len(model.calls))
        results.append(names)
    sliced, focused = (names["result"] for names in results)
    assert type(focused) is type(sliced) is PredictionResult
    np.testing.assert_allclose([row[:4] for row in rows(focused)], [square[:4] for square in sorted(SQUARES)], atol=3)
    assert {row[4:] for row in rows(focused)} == {(3, "large", 0.9), (8, "small", 0.9)}
    # Small ones are found in full size, to the pixel, as in slices.
    assert [row for row in rows(focused) if row[4] == 8] == [row for row in rows(sliced) if row[4] == 8]
    assert runs[0] == 31 and runs[1] <= 8
    assert (focused.image_height, focused.image_width) == (960, 1280)
    assert set(focused.durations_in_seconds) == set(sliced.durations_in_seconds)
    assert {entry["category_id"] for entry in results[1]["predictions"]} == {3, 8}
    assert len(results[1]["annotations"]) == 3 and (tmp_path / "1" / "prediction_visual.png").is_file()
    assert f"Performed prediction on {runs[1]} canvases" in capsys.readouterr().out
    assert model.confidence_threshold == 0.3


def test_every_kind_of_image_gives_the_same(model, picture, tmp_path):
    file = tmp_path / "photograph.png"
    cv2.imwrite(str(file), picture[..., ::-1])
    kinds = [picture, Image.fromarray(picture), file, str(file), np.ascontiguousarray(picture.transpose(2, 0, 1))]
    results = [get_focused_prediction(image, model, 256, 256, verbose=0) for image in kinds]
    assert all(rows(result) == rows(results[0]) for result in results) and len(rows(results[0])) == 3
    assert all(result.image.size == (1280, 960) for result in results)


def test_canvases_are_of_the_sides_given_or_the_model_s_own(model, picture):
    get_focused_prediction(picture, model, slice_height=192, slice_width=256, verbose=0)
    assert set(model.calls) == {(192, 256)}
    for own, shape in ((None, (640, 640)), (320, (320, 320))):
        model.calls.clear()
        model.image_size = own
        get_focused_prediction(picture, model, verbose=0)
        assert set(model.calls) == {shape}


def test_thresholds(model, picture):
    """What is weak at the first scale says where to look even if the model's own threshold would hide it."""
    seen = []
    model.perform_inference = lambda image: seen.append(model.confidence_threshold) or Squares.perform_inference(
        model, image)  # fmt: skip
    assert len(rows(get_focused_prediction(picture, model, 256, 256, verbose=0))) == 3
    assert set(seen) == {0.02} and model.confidence_threshold == 0.3
    assert rows(get_focused_prediction(picture, model, 256, 256, verbose=0, confidence_threshold=0.95)) == []
    assert len(rows(get_focused_prediction(picture, model, 256, 256, verbose=0, confidence_threshold=0.9))) == 3


def test_the_model_s_threshold_comes_back_after_an_error(model, picture):
    model.perform_inference = lambda image: 1 / 0
    with pytest.raises(ForeignError, match="the SAHI model raised ZeroDivisionError"):
        get_focused_prediction(picture, model, 256, 256)
    assert model.confidence_threshold == 0.3


@pytest.mark.parametrize("excluded", [{"exclude_classes_by_name": ["small"]}, {"exclude_classes_by_id": [8]}])
def test_excluded_classes_are_not_looked_for(model, picture, excluded):
    all_runs = get_focused_prediction(picture, model, 256, 256, verbose=0) and len(model.calls)
    model.calls.clear()
    found = rows(get_focused_prediction(picture, model, 256, 256, verbose=0, **excluded))
    assert [row[5] for row in found] == ["large"] and len(model.calls) < all_runs
    with pytest.raises(DropInError, match=r"exclude_classes_by_(name|id): the model has no class .*; want any of"):
        name, (value,) = next(iter(excluded.items()))
        get_focused_prediction(picture, model, 256, 256, **{name: [value * 2]})


def test_sahi_s_own_classes_merge_where_they_are_named(model, picture):
    """Two boxes of one thing, one inside the other: IOS joins them, IOU does not."""

    def double(image):
        model._original_predictions = [(10, 10, 110, 110, 0.9, 0), (10, 10, 60, 60, 0.8, 0)]

    model.perform_inference = double
    given = {"slice_height": 256, "slice_width": 256, "verbose": 0}
    image = np.zeros((256, 256, 3), np.uint8)
    assert len(rows(get_focused_prediction(image, model, **given))) == 2
    both = {"postprocess_type": "NMS", "postprocess_match_metric": "IOU"}
    assert len(rows(get_focused_prediction(image, model, postprocess_type="NMS", **given))) == 1
    assert len(rows(get_focused_prediction(image, model, **both, **given))) == 2
    assert len(rows(get_focused_prediction(image, model, postprocess_match_threshold=0.2, **both, **given))) == 1
    twins = [(10, 10, 110, 110, 0.9, 0), (10, 10, 110, 110, 0.8, 1)]
    model.perform_inference = lambda image: setattr(model, "_original_predictions", twins)
    assert len(rows(get_focused_prediction(image, model, **both, **given))) == 2
    assert len(rows(get_focused_prediction(image, model, postprocess_class_agnostic=True, **both, **given))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"perform_standard_pred": False}, "perform_standard_pred=False has no meaning"),
        ({"merge_buffer_length": 5}, "merge_buffer_length=5 has no meaning"),
        ({"auto_slice_resolution": False}, "auto_slice_resolution=False has no meaning"),
        ({"slice_export_prefix": "a"}, "slice_export_prefix='a' has no meaning"),
        ({"slice_dir": "a"}, "slice_dir='a' has no meaning"),
        ({"progress_bar": True}, "progress_bar=True has no meaning"),
        ({"progress_callback": print}, "progress_callback=<built-in function print> has no meaning"),
        ({"force_postprocess_type": False}, "force_postprocess_type=False has no meaning"),
        ({"slice_height": 256}, "slice_height=256 and slice_width=None; give both or neither"),
        ({"slice_height": 0, "slice_width": 9}, "must be at least 1 px, got 0 and 9"),
        ({"postprocess_match_metric": "IOU"}, "belong to a postprocess_type"),
        ({"postprocess_type": "BEST"}, "must be one of GREEDYNMM, NMM, NMS, LSNMS, got 'BEST'"),
        ({"postprocess_type": "NMS", "postprocess_match_metric": "L2"}, "must be IOS or IOU, got 'L2'"),
        ({"confidence_threshold": 2}, r"must be in \[0, 1\], got 2"),
    ],
)
def test_what_has_no_meaning_is_refused(model, picture, arguments, message):
    with pytest.raises(DropInError, match=message) as error:
        get_focused_prediction(picture, model, **arguments)
    assert "\n" not in str(error.value) and model.calls == []


@pytest.mark.parametrize("more", [{"batch_size": 0}, {"overlap_height_ratio": 1.0}])
def test_sizes_that_make_no_sense(model, picture, more):
    with pytest.raises(ForeignError, match=r"batch must be at least 1|overlap must be in"):
        get_focused_prediction(picture, model, **more)


def test_models_that_answer_more_than_boxes_are_refused(model, picture):
    model.has_mask = True
    with pytest.raises(DropInError, match=r"masks or turned boxes \(has_mask\)"):
        get_focused_prediction(picture, model)


def test_images_that_cannot_be_read(model, tmp_path):
    file = Path(tmp_path, "none.png")
    file.write_bytes(b"no image")
    for image in (file, str(file), tmp_path / "missing.png", 7):
        with pytest.raises(ImageError) as error:
            get_focused_prediction(image, model)
        assert "\n" not in str(error.value)


def test_without_sahi_the_error_says_how_to_install_it(model, picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "sahi.prediction", None)
    with pytest.raises(DropInError, match=r"SAHI is needed and cannot be imported .*; pip install sahi"):
        get_focused_prediction(picture, model)
