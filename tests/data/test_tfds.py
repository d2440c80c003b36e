"""The reader of TensorFlow Datasets against data sets that TFDS itself writes, with coco's and voc's features."""

import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from autofocus_jax.command.main import main  # noqa: E402
from autofocus_jax.config import load  # noqa: E402
from autofocus_jax.data.tfds import TfdsSource, coco_features, write_tfds  # noqa: E402
from autofocus_jax.structures import ImageError  # noqa: E402


def evaluate_main(words):
    return main(["evaluate", *words])


def train_main(words):
    return main(["train", *words])


VOC = ("aeroplane", "bicycle", "bird")


def jpeg(height=30, width=40, value=90) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), value, np.uint8))[1].tobytes()


def box(x1, y1, x2, y2, height=30, width=40):
    return tfds.features.BBox(ymin=y1 / height, xmin=x1 / width, ymax=y2 / height, xmax=x2 / width)


def prepare(folder, name, config, version, features, examples, file_format="array_record"):
    """Writes a data set by a recipe, as those of TFDS are; examples: split -> list of examples."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, version=tfds.core.Version(version))] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {split: self._generate_examples(entries) for split, entries in examples.items()}

        def _generate_examples(self, entries):
            return iter(enumerate(entries))

    Builder.name = name
    tfds.disable_progress_bar()
    builder = Builder(data_dir=folder, **({"config": config} if config else {}))
    builder.download_and_prepare(file_format=file_format)


def coco_2017(categories):
    """Word for word what the recipe of coco/2017 declares (version 1.1.0)."""
    return {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "image/filename": tfds.features.Text(),
        "image/id": np.int64,
        "objects": tfds.features.Sequence(
            {
                "id": np.int64,
                "area": np.int64,
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(names=categories),
                "is_crowd": np.bool_,
            }
        ),
    }


def coco_example(number, objects=(), image=None):
    entries = [
        {"id": 10 * number + k, "area": 100, "bbox": box(*corners), "label": label, "is_crowd": crowd}
        for k, (corners, label, crowd) in enumerate(objects)
    ]
    content = jpeg(value=10 * number) if image is None else image
    return {"image": content, "image/filename": f"{number:012d}.jpg", "image/id": number, "objects": entries}


OBJECTS = [((4, 6, 20, 26), "sign", False), ((0.01, 0, 39.99, 30), "person", True), ((5, 5, 5, 9), "sign", False)]


@pytest.fixture
def coco(tmp_path):
    train = [coco_example(7, OBJECTS), coco_example(9), coco_example(4, OBJECTS[:1])]
    prepare(
        tmp_path, "coco", "2017", "1.1.0", coco_2017(["person", "sign"]),
        {"train": train, "validation": [coco_example(2, OBJECTS[:1])], "test": [coco_example(3)]},
    )  # fmt: skip
    return TfdsSource("coco/2017", str(tmp_path))


def by_id(data):
    return {data.info(index).image_id: index for index in range(len(data))}


def test_coco_2017(coco):
    data = coco.open("train")
    assert len(data) == 3 and data.categories == ("person", "sign")
    place = by_id(data)
    image, truth = data[place[7]]
    assert data.info(place[7])[1:] == ("000000000007.jpg", 30, 40)
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8 and abs(int(image[0, 0, 0]) - 70) <= 1
    wanted = np.array([[4, 6, 20, 26], [0.01, 0, 39.99, 30]], np.float32)
    np.testing.assert_array_equal(truth.boxes, wanted)
    assert truth.labels.tolist() == [1, 0] and truth.ignore.tolist() == [False, True] and data.dropped == 1
    assert (truth.boxes.dtype, truth.labels.dtype, truth.ignore.dtype) == (np.float32, np.int32, bool)
    assert data.ground_truth(place[9]).boxes.shape == (0, 4)
    truth.boxes[:] = -1
    np.testing.assert_array_equal(data.ground_truth(place[7]).boxes, wanted)
    np.testing.assert_array_equal(data.image(-1), data.image(2))
    with pytest.raises(IndexError):
        data.ground_truth(3)
    assert len(coco.open("val")) == len(coco.open("test")) == 1
    assert len(coco.open("train[:67%]")) == 2


def test_our_features_are_those_of_coco_2017():
    mine = coco_features(["person", "sign"]).to_json()
    assert mine == tfds.features.FeaturesDict(coco_2017(["person", "sign"])).to_json()


def test_voc_2007(tmp_path):
    """Word for word what the recipe of voc declares (5.0.0); its corners count from 1 and are inclusive."""
    features = {
        "image": tfds.features.Image(),
        "image/filename": tfds.features.Text(),
        "objects": tfds.features.Sequence(
            {
                "label": tfds.features.ClassLabel(names=VOC),
                "bbox": tfds.features.BBoxFeature(),
                "pose": tfds.features.ClassLabel(names=("frontal", "unspecified")),
                "is_truncated": np.bool_,
                "is_difficult": np.bool_,
            }
        ),
        "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=VOC)),
        "labels_no_difficult": tfds.features.Sequence(tfds.features.ClassLabel(names=VOC)),
    }
    common = {"pose": "frontal", "is_truncated": False}
    objects = [
        {**common, "label": "bird", "bbox": box(1, 1, 40, 30), "is_difficult": False},
        {**common, "label": "bicycle", "bbox": box(3, 5, 12, 20), "is_difficult": True},
    ]
    example = {"image": jpeg(), "image/filename": "000001.jpg", "objects": objects}
    example |= {"labels": ["bicycle", "bird"], "labels_no_difficult": ["bird"]}
    prepare(tmp_path, "voc", "2007", "5.0.0", features, {"train": [example]})
    data = TfdsSource("voc/2007", str(tmp_path)).open("train")
    assert data.categories == VOC and data.info(0) == (1, "000001.jpg", 30, 40)
    truth = data.ground_truth(0)
    np.testing.assert_array_equal(truth.boxes, [[0, 0, 40, 30], [2, 4, 12, 20]])
    assert truth.labels.tolist() == [2, 1] and truth.ignore.tolist() == [False, True]


def test_written_data_sets_are_read_back(sample, same, tmp_path):
    write_tfds(tmp_path, "mine", {"train": sample, "validation": sample})
    for split in ("train", "val"):
        data = TfdsSource("mine", str(tmp_path)).open(split)
        place = by_id(data)  # TFDS shuffles what it writes
        same(Ordered(data, place), sample)


class Ordered:
    """A data set in the order of its ids 1, 2 …"""

    def __init__(self, data, place):
        self.data, self.place = data, place
        self.categories, self.dropped = data.categories, data.dropped

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[self.place[index + 1]]

    def info(self, index):
        return self.data.info(self.place[index + 1])


def test_nothing_imports_tensorflow(tmp_path, sample):
    write_tfds(tmp_path, "mine", {"train": sample})
    code = (
        "import sys; from autofocus_jax import TfdsSource; "
        f"data = TfdsSource('mine', {str(tmp_path)!r}).open('train'); data[0]; "
        "print(len(data), 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False", "False"]


def test_corrupt_images_are_kept_to_be_named(tmp_path):
    prepare(
        tmp_path, "bad", None, "1.0.0", coco_2017(["person", "sign"]),
        {"train": [coco_example(1, OBJECTS[:2], image=jpeg()[:150])]},
    )  # fmt: skip
    data = TfdsSource("bad", str(tmp_path)).open("train")
    assert len(data.ground_truth(0).labels) in (0, 2)  # whether the size can be read depends on where it is cut
    with pytest.raises(ImageError, match=r"image 000000000001\.jpg of the TFDS data set 'bad' in .* cut off"):
        data.image(0)


def test_what_is_not_there_is_one_line(coco, tmp_path, complaint):
    message = complaint(lambda: coco.open("nowhere"))
    assert "no split 'nowhere'" in message and "validation" in message
    message = complaint(lambda: TfdsSource("coco/2014", str(tmp_path)).open("train"))
    assert "'coco/2014'" in message and "download_and_prepare()" in message
    assert "cannot be found" in complaint(lambda: TfdsSource("no name at all!", str(tmp_path)).open("train"))
    assert "cannot be found" in complaint(lambda: TfdsSource("coco/2017", str(tmp_path / "none")).open("train"))
    plain = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a"])}
    prepare(tmp_path, "digits", None, "1.0.0", plain, {"train": [{"image": jpeg(), "label": 0}]})
    assert "no image with objects" in complaint(lambda: TfdsSource("digits", str(tmp_path)).open("train"))


def test_other_file_formats_say_how_to_prepare(coco, tmp_path, complaint):
    info = tmp_path / "coco" / "2017" / "1.1.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    assert 'file_format="array_record"' in complaint(lambda: coco.open("train"))


def test_different_categories_cannot_be_written_together(sample, memory_dataset, tmp_path, complaint):
    other = memory_dataset(sample.images, sample.truths, ("a", "b", "c", "d"))
    assert "same categories" in complaint(lambda: write_tfds(tmp_path, "mine", {"train": sample, "test": other}))


# The detector and the training of tests/command/conftest.py, so that both share their compiled programs.
CONFIG = """
import dataclasses, math
from autofocus_jax import *
from autofocus_jax.config import *
from autofocus_jax.structures import *

def get_config():
    return Config(
        name="tiny", data=TfdsSource("coco/2017", "FOLDER"),
        scales=(
            Scale(32, 48, ValidRange(20, math.inf), ChipRule(0.3, 1, 16)),
            Scale(64, 96, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(5, 64, 90), buckets=(Bucket(64, 96, 2),),
        detector=DetectorConfig(
            num_classes=2, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(4, 8, 8, 8, 8)),
            anchors=AnchorConfig((1.0,), (16, 32)), rpn_channels=4, proposals_before_nms=16, proposals=4,
            roi_channels=4, head_channels=8, focus_channels=4,
        ),
        training=TrainingConfig(
            steps=1, batch=2, chip=48, chip_stride=8, ranges=(ValidRange(20, math.inf), ValidRange(0, 50)), max_boxes=4,
            rpn_batch=8, roi_batch=8, log_every=1, checkpoint_every=1, warmup_steps=2, drop_at=None,
        ),
        stacking=StackingConfig(score_threshold=0.0),
    )
"""


def test_coco_2017_trains_one_step_and_evaluates(coco, tmp_path, quick_compilation, capsys):
    """The programs themselves, with a detector of a few channels."""
    path, run = tmp_path / "config.py", tmp_path / "run"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    assert load.load_config(path).data == coco
    assert train_main(["--config", str(path), "--workdir", str(run), "--validation-images", "0"]) == 0
    assert (run / "model.safetensors").is_file() and "step 1/1" in capsys.readouterr().out
    words = ["--config", str(path), "--weights", str(run), "--output", str(run / "evaluation"), "--split", "train"]
    assert evaluate_main(words) == 0
    assert (run / "evaluation" / "metrics.json").is_file() and "3 images" in capsys.readouterr().out
    assert "tensorflow" not in sys.modules and jax.device_count() >= 1
