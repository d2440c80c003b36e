"""A model of SAHI's own package as a detector: with and without batches of its own, and after a failure."""

import numpy as np
import pytest

from autofocus_jax.foreign.callback import PythonSettings
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.foreign.python_models import from_model

pytest.importorskip("sahi", reason="wants SAHI: pip install -e '.[test]' and pip install --no-deps sahi==0.12.8")

from sahi.models.base import DetectionModel
from sahi.prediction import ObjectPrediction


class Bright(DetectionModel):
    """Finds one box around all bright pixels."""

    def set_device(self, device=None):
        self.device = "cpu"

    def set_model(self, model, **_):
        self.model = model

    def perform_inference(self, image):
        if image[..., 1].any():
            raise ValueError("green")
        self._original_predictions = [self.look(image)]

    def look(self, image):
        ys, xs = np.nonzero(image[..., 0] > 128)
        return [[float(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]] if len(ys) else []

    def _create_object_prediction_list_from_original_predictions(self, shift_amount_list=None, full_shape_list=None):
        many = isinstance(shift_amount_list[0], list)
        shifts, shapes = (value if many else [value] for value in (shift_amount_list, full_shape_list))
        self._object_prediction_list_per_image = [
            [ObjectPrediction(box, 7, "dog", None, 0.75, shift, shape) for box in boxes]
            for boxes, shift, shape in zip(self._original_predictions, shifts, shapes, strict=True)
        ]


class BrightBatches(Bright):
    def perform_batch_inference(self, images):
        self._original_predictions = [self.look(image) for image in images]


def crops():
    first, second, third = (np.zeros((*size, 3), np.uint8) for size in ((60, 80), (90, 70), (9, 9)))
    first[10:20, 30:50, 0] = second[50:60, 30:50, 0] = 255
    return [first, second, third]


@pytest.mark.parametrize("kind", [Bright, BrightBatches])
@pytest.mark.parametrize("batch", [1, 3])
def test_boxes_of_each_crop(kind, batch):
    model = kind(model=object(), category_mapping={"1": "cat", "7": "dog"})
    detector = from_model(model, PythonSettings(batch=batch))
    found = detector.find(crops())
    boxes = [answer.boxes.tolist() for answer in found]
    assert boxes == [[[30, 10, 50, 20]], [[30, 50, 50, 60]], []]
    assert found[0].labels.tolist() == [1] and found[0].scores.tolist() == [0.75]
    assert detector.categories == ("cat", "dog")


def test_after_a_failure_the_next_crops_are_looked_at_and_not_the_last_ones():
    detector = from_model(Bright(model=object(), category_mapping={"7": "dog"}), PythonSettings(batch=3))
    first, second, _ = crops()
    green = np.full((20, 20, 3), 255, np.uint8)
    with pytest.raises(ForeignError, match="the SAHI model raised ValueError on a crop of 20x20, 20x20 px: green"):
        detector.find([green, green])
    assert detector.find([second])[0].boxes.tolist() == [[30, 50, 50, 60]]
    assert [len(answer.boxes) for answer in detector.find([first, second])] == [1, 1]
