"""TensorFlow Datasets with boxes: coco/2017, voc/2007, voc/2012 and all that have the same features.

Reading and writing need no TensorFlow, only TFDS and array_record. Preparing coco or voc from the web needs it, because
their recipes do (`pip install 'autofocus_jax[tfds]'`):
tfds.builder("coco/2017", file_format="array_record").download_and_prepare().
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autofocus_jax import boxes as box_ops
from autofocus_jax.data.annotations import AnnotatedSource, AnnotationError, distinct, pixels, refuse
from autofocus_jax.data.export import image_file
from autofocus_jax.data.findings import BAD_BOX, EQUAL_NAMES, LOST, UNKNOWN_CATEGORY, UNREADABLE, Report, put_right
from autofocus_jax.data.image import decode_image, decode_size
from autofocus_jax.files import reason
from autofocus_jax.structures import Dataset, GroundTruth, ImageError, ImageInfo


@dataclasses.dataclass(frozen=True)
class TfdsSource(AnnotatedSource):
    """A data set that TFDS has prepared in the format array_record, such as "coco/2017" or "voc/2007".

    - data_dir: TFDS's folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    - train, val, tune: TFDS's name of each split, or a slice, as "train[:95%]". Other names are TFDS's own splits.
    """

    name: str
    data_dir: str | None = None
    train: str = "train"
    val: str = "validation"
    tune: str = "tune"

    def open_tolerant(self, split: str, report: Report) -> TfdsDataset:
        """Open a split and report faulty boxes.

        Boxes that are not finite are left out; unknown labels make ignore regions.

        Raises:
            AnnotationError: the data set is missing, not array_record, or has other features.
        """
        import tensorflow_datasets as tfds  # takes a second

        folder = os.path.expanduser(self.data_dir) if self.data_dir else None
        split = {"train": self.train, "val": self.val, "tune": self.tune}.get(split, split)
        where = f"the TFDS data set {self.name!r} in {folder or tfds.core.constants.DATA_DIR}"
        try:  # from the files alone: the recipes of coco and voc import TensorFlow
            builder = tfds.core.read_only_builder.builder_from_files(self.name, data_dir=folder)
        except Exception as error:  # of many kinds, for names and folders alike
            raise AnnotationError(
                f"{where} cannot be found ({reason(error)}); prepare it with tfds.builder({self.name!r}, "
                'file_format="array_record").download_and_prepare()'
            ) from None
        _check_features(builder.info.features, where)
        try:
            records = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        except NotImplementedError:
            raise AnnotationError(
                f'{where} is not in the format array_record; prepare it with file_format="array_record"'
            ) from None
        except Exception as error:
            known = ", ".join(builder.info.splits)
            raise AnnotationError(f"{where} has no split {split!r} ({reason(error)}); it has {known}") from None
        return TfdsDataset(records, builder.info.features["objects"].feature, where, report)


class TfdsDataset(Dataset):
    """One split of a TFDS data set.

    A record holds boxes and image together, so info and ground_truth are kept once they were read. A training first
    asks for the boxes of all images, which reads the whole split once.
    `dropped` and `noticed` are of what was read so far.
    """

    def __init__(self, records: Any, objects: Any, where: str, report: Report = refuse):
        self.categories, equal = distinct(objects["label"].names)
        self._records, self._where, self._report = records, where, report
        self._crowd = next((key for key in ("is_crowd", "is_difficult") if key in objects), None)
        # TFDS divides VOC's corners, which count from 1 and are inclusive, by the sides as they are.
        self._offset = np.array([1.0, 1.0, 0.0, 0.0]) if "is_difficult" in objects else np.zeros(4)
        self._known: dict[int, tuple[ImageInfo, GroundTruth, int]] = {}
        self._noticed: list[tuple[str, str]] = [(EQUAL_NAMES, example) for example in equal]

    def __len__(self) -> int:
        return len(self._records)

    @property
    def dropped(self) -> int:  # type: ignore[override]
        return sum(count for _, _, count in list(self._known.values()))

    @property
    def noticed(self) -> list[tuple[str, str]]:  # type: ignore[override]
        return list(self._noticed)

    def info(self, index: int) -> ImageInfo:
        """Return the data set's id and name, else the number from 1, and the size of the stored image."""
        return self._entry(index)[0]

    def ground_truth(self, index: int) -> GroundTruth:
        return GroundTruth(*(values.copy() for values in self._entry(index)[1]))

    def image(self, index: int) -> np.ndarray:
        return decode_image(self.encoded(index), self._name(index))

    def encoded(self, index: int) -> bytes:
        return self._read(index)["image"]

    def _name(self, index: int) -> str:
        return f"{self._entry(index)[0].file_name} of {self._where}"

    def _read(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        record = self._records[index]
        if index not in self._known:
            self._known[index] = self._parse(index, record)
        return record

    def _entry(self, index: int) -> tuple[ImageInfo, GroundTruth, int]:
        index = range(len(self))[index]
        if index not in self._known:
            self._read(index)
        return self._known[index]

    def _parse(self, index: int, record: dict[str, Any]) -> tuple[ImageInfo, GroundTruth, int]:
        name = record.get("image/filename", b"").decode("utf-8", "replace") or f"{index + 1}.jpg"
        objects, shares = record["objects"], np.array(record["objects"]["bbox"], np.float64).reshape(-1, 4)
        labels = np.array(objects["label"], np.int32).reshape(-1)
        ignore = np.array(objects[self._crowd] if self._crowd else np.zeros(len(labels)), bool).reshape(-1)
        finite, known = np.isfinite(shares).all(axis=1), (labels >= 0) & (labels < len(self.categories))
        wrong = f"{name} of {self._where} has a box that is not finite or a label that has no name"
        for row in np.flatnonzero(~finite):
            self._report(BAD_BOX, f"{wrong} (object {row + 1})", "prepare the data set anew")
        for row in np.flatnonzero(finite & ~known):
            self._report(UNKNOWN_CATEGORY, f"{wrong} (object {row + 1})", "prepare the data set anew")
        shares, labels, ignore = shares[finite], np.where(known, labels, 0)[finite], (ignore | ~known)[finite]
        number = int(record.get("image/id", index + 1))
        try:
            height, width = decode_size(record["image"], f"{name} of {self._where}")
        except ImageError as error:  # image() will say so, in the same words
            self._noticed.append((UNREADABLE, str(error)))
            none = GroundTruth(np.zeros((0, 4), np.float32), labels[:0], ignore[:0])
            return ImageInfo(number, name, 1, 1), none, len(labels)
        given = pixels(shares[:, [1, 0, 3, 2]], np.full(len(shares), height), np.full(len(shares), width))
        info, owner = ImageInfo(number, name, height, width), np.zeros(len(given), np.int64)
        arranged = put_right([info], len(self.categories), owner, given - self._offset, labels, ignore)
        self._noticed += arranged.found
        dropped = sum(kind in LOST for kind, _ in arranged.found)
        return info, GroundTruth(arranged.boxes, arranged.labels, arranged.ignore), dropped


def write_tfds(data_dir: str | os.PathLike, name: str, datasets: Mapping[str, Dataset], version: str = "1.0.0") -> None:
    """Write data sets as the splits of a TFDS data set with the features of coco/2017, in the format array_record.

    Args:
        data_dir: TFDS's folder.
        name: as "scenes": lower case with underscores.
        datasets: by TFDS's names of splits ("train", "validation", "test" or others), all with the same categories.
            Ignore regions become crowds.
        version: of the data set.

    Raises:
        AutoFocusError: images cannot be read.
    """
    import tensorflow_datasets as tfds

    categories = {dataset.categories for dataset in datasets.values()}
    if len(categories) != 1:
        raise AnnotationError(f"the splits of {name!r} must have the same categories; got {len(categories)} lists")
    first = next(iter(datasets.values()))

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version(version)

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(builder=self, features=coco_features(list(first.categories)))

        def _split_generators(self, _) -> dict[str, Iterator]:
            return {split: self._generate_examples(dataset) for split, dataset in datasets.items()}

        def _generate_examples(self, dataset: Dataset) -> Iterator[tuple[str, dict[str, Any]]]:
            return _examples(dataset)

    Builder.name = name
    tfds.disable_progress_bar()
    # It also prints where it writes; a function of ours does not.
    with contextlib.redirect_stdout(io.StringIO()):
        Builder(data_dir=Path(data_dir).expanduser()).download_and_prepare(file_format="array_record")


def coco_features(categories: list[str]) -> Any:
    """Return the features of TFDS's coco/2017 with other names of classes."""
    import tensorflow_datasets as tfds

    features = tfds.features
    objects = {
        "id": np.int64,
        "area": np.int64,
        "bbox": features.BBoxFeature(),
        "label": features.ClassLabel(names=categories),
        "is_crowd": np.bool_,
    }
    image = {"image": features.Image(encoding_format="jpeg"), "image/filename": features.Text(), "image/id": np.int64}
    return features.FeaturesDict({**image, "objects": features.Sequence(objects)})


def _examples(dataset: Dataset) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for index in range(len(dataset)):
        info, truth = dataset.info(index), dataset.ground_truth(index)
        sides = np.array([info.height, info.width] * 2, np.float64)
        shares = truth.boxes[:, [1, 0, 3, 2]] / sides
        objects = []
        for box, label, ignore, area in zip(shares, truth.labels, truth.ignore, box_ops.area(truth.boxes), strict=True):
            number += 1
            objects.append(
                {"id": number, "area": int(area), "bbox": box, "label": int(label), "is_crowd": bool(ignore)}
            )
        content = {"image": image_file(dataset, index)[1], "image/filename": info.file_name}
        yield str(info.image_id), {**content, "image/id": info.image_id, "objects": objects}


def _check_features(features: Any, where: str) -> None:
    objects = getattr(dict(features.items()).get("objects"), "feature", {})
    labels = dict(objects.items()).get("label")
    if "image" not in features or "bbox" not in objects or not getattr(labels, "names", None):
        raise AnnotationError(f"{where} has no image with objects of bbox and label; its features are {list(features)}")
    kind = getattr(objects["bbox"], "bbox_format", None)
    if kind is not None and kind.value != "REL_YXYX":
        raise AnnotationError(f"{where} has boxes of the kind {kind.value}; want TFDS's usual ymin, xmin, ymax, xmax")
