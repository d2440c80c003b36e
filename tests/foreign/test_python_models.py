"""Python objects as detectors: fakes that keep the contracts of the packages they stand for."""

import types

import numpy as np
import pytest

from autofocus_jax.foreign.callback import PythonSettings
from autofocus_jax.foreign.coco_classes import COCO_NAMES
from autofocus_jax.foreign.found import ForeignError
from autofocus_jax.foreign.python_models import from_model

BOXES = [[1.0, 2.0, 11.0, 12.0], [3.0, 4.0, 33.0, 24.0]]
CROP = np.zeros((40, 60, 3), np.uint8)
CROP[..., 0] = 250  # red


class Tensor:
    """What is used of PyTorch's tensors: NumPy has the values only after detach() and cpu()."""

    def __init__(self, value, steps=()):
        self.value, self.steps, self.dtype = np.asarray(value), steps, "torch.float32"

    def detach(self):
        return Tensor(self.value, (*self.steps, "detach"))

    def cpu(self):
        return Tensor(self.value, (*self.steps, "cpu"))

    def numpy(self):
        assert self.steps == ("detach", "cpu"), "a tensor that is on a GPU or has gradients"
        return self.value

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def new_tensor(self, value):
        assert isinstance(value, np.ndarray) and value.dtype == np.float32
        return Tensor(value)


class Supervision:
    """What a callback of supervision's InferenceSlicer returns."""

    def __init__(self, xyxy, confidence, class_id):
        self.xyxy, self.confidence, self.class_id = np.array(xyxy), np.array(confidence), np.array(class_id)


def check(found, labels=(0, 1), scores=(0.9, 0.5), boxes=BOXES):
    np.testing.assert_allclose(found.boxes, boxes)
    np.testing.assert_allclose(found.scores, scores)
    assert found.labels.tolist() == list(labels) and found.labels.dtype == np.int32


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_callback_of_supervision(channels):
    def callback(image):
        assert isinstance(image, np.ndarray) and image.flags.c_contiguous
        assert image[0, 0].tolist() == ([250, 0, 0] if channels == "RGB" else [0, 0, 250])
        return Supervision(BOXES, [0.9, 0.5], [0, 1])

    detector = from_model(callback, PythonSettings(channels=channels, categories=("a", "b")))
    found = detector.find([CROP, CROP])
    assert len(found) == 2 and detector.categories == ("a", "b") and detector.fixed is None
    check(found[1])


def test_a_callback_of_a_list():
    calls = []

    def callback(images):
        calls.append(len(images))
        return [Supervision(BOXES, [0.9, 0.5], [0, 1]) for _ in images]

    found = from_model(callback, PythonSettings(batch=2)).find([CROP] * 3)
    assert calls == [2, 1]
    check(found[2])


@pytest.mark.parametrize("answer", [
    (BOXES, [0.9, 0.5], [0, 1]),
    {"boxes": Tensor(BOXES), "scores": Tensor([0.9, 0.5]), "labels": Tensor([0, 1])},
    {"bboxes": BOXES, "scores": [0.9, 0.5], "labels": [0, 1]},
    types.SimpleNamespace(boxes=np.array(BOXES), scores=np.array([0.9, 0.5]), labels=np.array([0, 1])),
])  # fmt: skip
def test_other_answers(answer):
    check(from_model(lambda image: answer).find([CROP])[0])


def test_nothing_found_and_one_class_without_labels():
    (found,) = from_model(lambda image: Supervision(np.zeros((0, 4)), [], [])).find([CROP])
    assert found.boxes.shape == (0, 4) and len(found.scores) == len(found.labels) == 0
    answer = types.SimpleNamespace(xyxy=np.array(BOXES), confidence=np.array([0.9, 0.5]), class_id=None)
    check(from_model(lambda image: answer).find([CROP])[0], labels=(0, 0))


def test_the_threshold_counts():
    detector = from_model(lambda image: Supervision(BOXES, [0.9, 0.5], [0, 1]), PythonSettings(score_threshold=0.6))
    check(detector.find([CROP])[0], (0,), (0.9,), BOXES[:1])


@pytest.mark.parametrize(("answer", "problem"), [
    (None, "the callback answers NoneType; want supervision's Detections"),
    ((BOXES, [0.9], [0, 1]), r"boxes \[2, 4\], scores \[1\], labels \[2\]"),
    (([[1, 2, 3]], [0.9], [0]), r"boxes \[1, 3\]"),
    (([[1, 2, np.nan, 4]], [0.9], [0]), "boxes that are no finite numbers"),
    (([[10, 2, 3, 4]], [0.9], [0]), r"box \[10.0, 2.0, 3.0, 4.0\], whose corners are swapped"),
    ((BOXES, [0.9, 90], [0, 1]), r"scores outside \[0, 1\], as 90"),
    ((BOXES, [0.9, 0.5], [0, 2]), "label 2; want whole numbers from 0 below 2"),
    ((BOXES, [0.9, 0.5], [0, -1]), "label -1; want"),
    ((BOXES, [0.9, 0.5], [0, 0.5]), "label 0.5; want"),
    ({"boxes": BOXES}, "boxes without scores"),
])  # fmt: skip
def test_nonsense_is_named(answer, problem):
    detector = from_model(lambda image: answer, PythonSettings(categories=("a", "b")))
    with pytest.raises(ForeignError, match=problem):
        detector.find([CROP])


def test_a_callback_that_raises_or_answers_for_another_number_of_images():
    def callback(image):
        raise ZeroDivisionError("by zero")

    with pytest.raises(ForeignError, match="the callback raised ZeroDivisionError on a crop of 40x60 px: by zero"):
        from_model(callback).find([CROP])
    with pytest.raises(ForeignError, match="answers 1 for 2 crops; want a list with one answer for each"):
        from_model(lambda images: [(BOXES, [0.9, 0.5], [0, 1])], PythonSettings(batch=2)).find([CROP] * 2)
    with pytest.raises(ForeignError, match="answers Supervision for 2 crops"):
        from_model(lambda images: Supervision(BOXES, [0.9, 0.5], [0, 1]), PythonSettings(batch=2)).find([CROP] * 2)


class Sahi:
    """A DetectionModel: keeps what it found in itself, in two steps; ids as its category_mapping says."""

    category_mapping: dict = {"1": "cat", "7": "dog"}  # noqa: RUF012

    def perform_inference(self, image):
        assert image.ndim == 3 and image[0, 0].tolist() == [250, 0, 0], "RGB"
        self.images = [image]

    def convert_original_predictions(self, shift_amount, full_shape):
        if isinstance(self, BatchingSahi):
            assert shift_amount == [[0, 0]] * len(self.images)
            assert full_shape == [list(image.shape[:2]) for image in self.images]
        else:
            assert shift_amount == [0, 0] and full_shape == list(self.images[0].shape[:2])
        prediction = lambda box, score, key: types.SimpleNamespace(  # noqa: E731
            bbox=types.SimpleNamespace(to_xyxy=lambda: box), score=types.SimpleNamespace(value=score),
            category=types.SimpleNamespace(id=key, name=self.category_mapping[str(key)]),
        )  # fmt: skip
        self.object_prediction_list_per_image = [
            [prediction(BOXES[0], 0.9, 7), prediction(BOXES[1], 0.5, 1)] for _ in self.images
        ]


class BatchingSahi(Sahi):
    def perform_batch_inference(self, images):
        self.images = images


@pytest.mark.parametrize(("kind", "batch"), [(Sahi, 1), (Sahi, 2), (BatchingSahi, 1), (BatchingSahi, 2)])
def test_sahi(kind, batch):
    detector = from_model(kind(), PythonSettings(batch=batch))
    assert detector.categories == ("cat", "dog")
    found = detector.find([CROP] * 3)
    assert len(found) == 3
    check(found[2], labels=(1, 0))


class Ultralytics:
    task = "detect"
    names: dict = {1: "dog", 0: "cat"}  # noqa: RUF012

    def __init__(self):
        self.calls = []

    def __call__(self, *_, **__):
        raise AssertionError("predict takes the arguments")

    def predict(self, source, conf, imgsz, max_det, verbose):
        assert all(image[0, 0].tolist() == [0, 0, 250] and image.flags.c_contiguous for image in source), "BGR"
        self.calls.append((len(source), conf, imgsz, {image.shape for image in source}))
        boxes = types.SimpleNamespace(xyxy=Tensor(BOXES), conf=Tensor([0.9, 0.5]), cls=Tensor([0.0, 1.0]))
        return [types.SimpleNamespace(boxes=boxes) for _ in source]


def test_ultralytics_runs_crops_at_their_own_size():
    model = Ultralytics()
    detector = from_model(model, PythonSettings(batch=4, score_threshold=0.02))
    assert detector.categories == ("cat", "dog") and detector.multiple == 32
    other = np.ascontiguousarray(CROP[:32])
    found = detector.find([CROP, other, CROP])
    assert model.calls == [(2, 0.02, [64, 64], {(40, 60, 3)}), (1, 0.02, [32, 64], {(32, 60, 3)})]
    check(found[1])


class Torchvision:
    training, backbone, transform = False, None, None

    def __init__(self, labels=(1, 90)):
        self.labels = labels

    def parameters(self):
        yield Tensor(0.0)

    def __call__(self, images):
        for image in images:
            assert image.value.shape == (3, 40, 60) and image.value[0, 0, 0] == pytest.approx(250 / 255)
            assert image.value[2].max() == 0
        return [
            {"boxes": Tensor(BOXES), "scores": Tensor([0.9, 0.5]), "labels": Tensor(list(self.labels))} for _ in images
        ]


def test_torchvision_counts_labels_from_one():
    detector = from_model(Torchvision())
    assert detector.categories == COCO_NAMES
    check(detector.find([CROP])[0], labels=(0, 79))
    check(from_model(Torchvision((2, 1)), PythonSettings(categories=("a", "b"))).find([CROP])[0], labels=(1, 0))
    model = Torchvision()
    model.training = True
    with pytest.raises(ForeignError, match=r"in training mode; call model\.eval\(\)"):
        from_model(model)


class Processor:
    def __call__(self, images, return_tensors):
        assert return_tensors == "pt" and all(image[0, 0].tolist() == [250, 0, 0] for image in images), "RGB"
        return {"pixel_values": images}

    def post_process_object_detection(self, outputs, threshold, target_sizes):
        assert outputs == "outputs" and threshold == 0.01 and target_sizes == [(40, 60)]
        return [{"scores": Tensor([0.9, 0.5]), "labels": Tensor([0, 1]), "boxes": Tensor(BOXES)}]


def test_transformers_with_its_processor():
    def model(pixel_values):
        return "outputs"

    model.config = types.SimpleNamespace(id2label={0: "cat", 1: "dog"})
    detector = from_model(model, processor=Processor())
    assert detector.categories == ("cat", "dog")
    check(detector.find([CROP])[0])
    with pytest.raises(ForeignError, match="wants its image processor"):
        from_model(model)
    model.config.id2label = {1: "cat", 2: "dog"}
    with pytest.raises(ForeignError, match=r"names are of labels \[1, 2\]; give the names of all labels from 0"):
        from_model(model, processor=Processor())


def test_mmdetection_s_inferencer():
    def inferencer(images, batch_size, return_vis, no_save_vis, no_save_pred):
        assert len(images) == batch_size and images[0][0, 0].tolist() == [0, 0, 250], "BGR"
        return {"predictions": [{"labels": [0, 1], "scores": [0.9, 0.5], "bboxes": BOXES} for _ in images]}

    inferencer.model = types.SimpleNamespace(dataset_meta={"classes": ("cat", "dog")})
    detector = from_model(inferencer, PythonSettings(batch=2))
    assert detector.categories == ("cat", "dog")
    check(detector.find([CROP] * 2)[1])


def test_what_is_no_detector():
    with pytest.raises(ForeignError, match=r"a str is no detector that is known \(SAHI, .*give a function"):
        from_model("yolo.pt")
    with pytest.raises(ForeignError, match="batch must be at least 1, got 0"):
        PythonSettings(batch=0)
    with pytest.raises(ForeignError, match="channels must be RGB or BGR, got 'RBG'"):
        PythonSettings(channels="RBG")
