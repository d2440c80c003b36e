"""KerasHub's interface on tiny models of the test's own, with Keras and its JAX backend."""

import os
import types

import numpy as np
import pytest

from autofocus_jax.foreign.callback import PythonSettings
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.foreign.python_models import from_model

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="wants Keras: pip install -e '.[test]'")

if keras.backend.backend() != "jax":
    pytest.skip("wants Keras with the JAX backend: KERAS_BACKEND=jax", allow_module_level=True)


class Tiny(keras.Model):
    """Answers numbers that depend on the mean of the red channel, scaled as the image converter does it."""

    def __init__(self, answers, size=(64, 96), classes=2):
        images = keras.layers.Input((None, None, 3))
        red = keras.ops.mean(images[..., :1], axis=(1, 2))[..., None]
        outputs = {name: red * np.float32(slope) + np.float32(start) for name, (slope, start) in answers.items()}
        super().__init__(images, outputs)
        self.num_classes = classes
        converter = lambda pixels: keras.ops.cast(pixels, "float32") / 255  # noqa: E731
        self.preprocessor = types.SimpleNamespace(image_converter=converter)
        converter.image_size = size

    def decode_predictions(self, predictions, data):
        raise AssertionError("holds NMS, which is left out")


def transformer(**more):
    """Two slots; the score of the second class is the sigmoid of the red channel's mean, from 0 to 1."""
    zero = np.zeros((1, 2, 4))
    boxes = np.array([[[0.5, 0.5, 0.25, 0.5], [0.25, 0.25, 0.5, 0.5]]])
    return Tiny({"pred_boxes": (zero, boxes), "logits": ([[[0, 1], [0, 0]]], [[[-9, 0], [-9, -9]]])}, **more)


def crop(red):
    image = np.zeros((64, 96, 3), np.uint8)
    image[..., 0] = red
    return image


@pytest.mark.parametrize("batch", [1, 2])
def test_centres_and_logits(batch):
    detector = from_model(transformer(), PythonSettings(("cat", "dog"), batch=batch))
    assert detector.fixed == (64, 96) and detector.categories == ("cat", "dog")
    found = detector.find([crop(255), crop(0), crop(255)])
    for answer, score in zip(found, (1 / (1 + np.exp(-1)), 0.5, 1 / (1 + np.exp(-1)))):
        np.testing.assert_allclose(answer.boxes, [[36, 16, 60, 48]], atol=1e-4)
        assert answer.labels.tolist() == [1] and answer.scores.tolist() == pytest.approx([score], abs=1e-5)


def test_anchors_and_nms():
    """Two anchors of one thing and one apart; deltas are of centre and size, the latter as logarithms."""
    deltas = np.array([[[0, 0, 0, 0], [0, 0, 0, 0], [0.5, 0, np.log(2), 0]]])
    scores = np.array([[[2, -9], [1, -9], [-9, 3]]])
    model = Tiny({"bbox_regression": (np.zeros((1, 3, 4)), deltas), "cls_logits": (np.zeros((1, 3, 2)), scores)})
    boxes = {"P3": np.float32([[10, 10, 30, 30], [10, 11, 30, 31]]), "P4": np.float32([[32, 40, 52, 60]])}  # yxyx
    anchors = lambda images: {level: keras.ops.convert_to_tensor(values) for level, values in boxes.items()}  # noqa: E731
    anchors.bounding_box_format = "yxyx"
    model.anchor_generator = anchors
    (found,) = from_model(model).find([crop(0)])
    # The centre goes half a width to the right, the width is doubled: x 50 + 10 -+ 20.
    np.testing.assert_allclose(found.boxes, [[40, 32, 80, 52], [10, 10, 30, 30]], atol=1e-3)
    assert found.labels.tolist() == [1, 0]


def test_what_is_no_detector_of_keras():
    with pytest.raises(ForeignError, match="answers masks; want logits and pred_boxes"):
        from_model(Tiny({"masks": (np.zeros((1, 2, 4)), 0)}))
    with pytest.raises(ForeignError, match="image converter makes no size, and side is None"):
        from_model(transformer(size=None))
    with pytest.raises(ForeignError, match=r"makes \(64, 96\), and side is \(32, 32\)"):
        from_model(transformer(), PythonSettings(side=(32, 32)))
    with pytest.raises(ForeignError, match="has 2 classes, and there are 1 names"):
        from_model(transformer(), PythonSettings(("cat",)))


def test_another_backend(monkeypatch):
    model = transformer()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ForeignError, match="runs on torch; set KERAS_BACKEND=jax"):
        from_model(model)
