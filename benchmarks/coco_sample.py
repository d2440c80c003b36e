"""Sizes and boxes of 300 images of COCO val2017 (coco_sample.npz), and made-up JPEG files of these sizes.

Every sixteenth or seventeenth image in the order of its annotations, boxes rounded to whole pixels. The annotations are
the COCO Consortium's (cocodataset.org), under CC BY 4.0. The photographs are not COCO's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from autofocus_jax.structures import Dataset, GroundTruth, ImageInfo


class Files(Dataset):
    """A data set in memory whose images are JPEG files that OpenCV reads."""

    def __init__(self, categories: tuple[str, ...], infos: list[ImageInfo], truths: list[GroundTruth], folder: Path):
        self.categories, self.infos, self.truths, self.folder = categories, infos, truths, folder

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int):
        return self.image(index), self.ground_truth(index)

    def info(self, index: int) -> ImageInfo:
        return self.infos[index]

    def ground_truth(self, index: int) -> GroundTruth:
        return self.truths[index]

    def image(self, index: int) -> np.ndarray:
        read = cv2.imread(str(self.folder / self.infos[index].file_name))
        return cv2.cvtColor(read, cv2.COLOR_BGR2RGB)


class Sample(Files):
    """The packed sample. Its images exist after `draw`."""

    def __init__(self, count: int = 300, shrink: int = 1):
        """Read the packed file.

        Args:
            count: number of images, the first ones.
            shrink: divide all sizes and boxes by this number.
        """
        with np.load(Path(__file__).parent / "coco_sample.npz") as packed:
            sizes, ends = packed["size"][:count] // shrink, np.cumsum(packed["count"])[:-1]
            rows = zip(*(np.split(packed[name], ends)[:count] for name in ("boxes", "labels", "ignore")))
            truths = [
                GroundTruth(np.float32(boxes) / shrink, np.int32(labels), ignore) for boxes, labels, ignore in rows
            ]
        infos = [ImageInfo(index + 1, f"{index:06d}.jpg", *size.tolist()) for index, size in enumerate(sizes)]
        super().__init__(tuple(f"category {number}" for number in range(80)), infos, truths, Path())

    def draw(self, folder: Path) -> Sample:
        """Write the images: coloured noise of a few frequencies, which compresses about as photographs do."""
        self.folder = folder

        def write(index: int) -> None:
            random, info = np.random.default_rng(index), self.infos[index]
            image = np.zeros((info.height, info.width, 3), np.float32)
            for step, strength in ((64, 60), (16, 25), (4, 10)):
                shape = (info.height // step + 2, info.width // step + 2, 3)
                noise = strength * random.standard_normal(shape, np.float32)
                image += cv2.resize(noise, (info.width, info.height), interpolation=cv2.INTER_CUBIC)
            file = str(folder / info.file_name)
            if not cv2.imwrite(file, np.clip(image + 128, 0, 255).astype(np.uint8)):
                raise OSError(f"{file} cannot be written")

        with ThreadPoolExecutor() as pool:
            list(pool.map(write, range(len(self))))
        return self
