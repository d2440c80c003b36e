"""What tests share: settings of hypothesis, and a dataset that lives in memory."""

from __future__ import annotations

import dataclasses
import logging
import math
import os

import hypothesis
import numpy as np
import pytest

from autofocus_jax.config import AnchorConfig, BackboneConfig, Config, DataSource, DetectorConfig, TrainingConfig
from autofocus_jax.structures import (
    Bucket,
    ChipBatch,
    ChipRule,
    Dataset,
    FocusRange,
    GroundTruth,
    ImageError,
    ImageInfo,
    Scale,
    ValidRange,
)

# The host may be busy, so no example has a deadline; the same examples every time, so that a failure can be repeated.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("project")


# The programs keep what they compile in the user's cache folder; tests leave no trace there.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")


class MemoryDataset(Dataset):
    """A structures.Dataset of given images and ground truths; an image that is None is corrupt."""

    def __init__(self, images, truths, categories=("a", "b", "c"), first_id=1):
        self.images, self.truths, self.categories, self.first_id = images, truths, tuple(categories), first_id

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.image(index), self.ground_truth(index)

    def image(self, index):
        if self.images[index] is None:
            raise ImageError(f"image {index}.png cannot be decoded")
        return self.images[index]

    def ground_truth(self, index):
        return self.truths[index]

    def info(self, index):
        height, width = (100, 200) if self.images[index] is None else self.images[index].shape[:2]
        return ImageInfo(self.first_id + index, f"{index}.png", height, width)


def _truth(boxes=(), labels=(), ignore=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.asarray(ignore, bool)
    return GroundTruth(boxes, np.asarray(labels, np.int32).reshape(-1), ignore)


@pytest.fixture(autouse=True)
def nobody_listens():
    """Commands count what readers log; the next test finds the logger as it was."""
    yield
    logger = logging.getLogger("autofocus_jax.data")
    logger.handlers[:], logger.propagate = [], True


@pytest.fixture(scope="session")
def memory_dataset():
    """The class MemoryDataset(images, truths, categories, first_id)."""
    return MemoryDataset


@pytest.fixture(scope="session")
def truth():
    """truth(boxes, labels, ignore) -> GroundTruth of the right types."""
    return _truth


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests whose time goes into compiling large programs that then run a few times on little data."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def tiny_detector():
    """A DetectorConfig with every part of the real ones, small enough to compile in seconds."""
    return DetectorConfig(
        num_classes=3, backbone=BackboneConfig(units=(1, 1, 1, 1), channels=(8, 16, 16, 16, 16)),
        anchors=AnchorConfig((0.5, 1.0, 2.0), (16, 32)), rpn_channels=8, proposals_before_nms=64, proposals=16,
        roi_channels=8, head_channels=16, focus_channels=8, pixel_deviation=(58.4, 57.1, 57.4),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_config(tiny_detector):
    """A Config of two scales, 32 and 64 px, whose data source is not meant to be opened."""
    return Config(
        name="tiny", data=DataSource,
        scales=(
            Scale(32, 48, ValidRange(20, math.inf), ChipRule(0.3, 1, 16)),
            Scale(64, 96, ValidRange(0, 40), None),
        ),
        focus_range=FocusRange(2.5, 24, 32), buckets=(Bucket(32, 32, 3), Bucket(64, 64, 2), Bucket(64, 96, 2)),
        detector=tiny_detector,
        training=TrainingConfig(
            steps=40, batch=2, chip=48, chip_stride=8, ranges=(ValidRange(16, math.inf), ValidRange(0, 48)),
            max_boxes=6, learning_rate=0.02, warmup_learning_rate=0.01, warmup_steps=4, drop_at=None,
            rpn_batch=32, roi_batch=16, log_every=2, checkpoint_every=2,
        ),
    )  # fmt: skip


def _draw_variables(config, seed=0):
    """Random variables for a DetectorConfig, batch statistics too; much faster than compiling `init`."""
    import jax

    from autofocus_jax.detector.model import init

    random = np.random.default_rng(seed)

    def draw(path, like):
        names = [key.key for key in path]
        if names[-1] in ("var", "scale"):
            values = random.uniform(0.5, 1.5, like.shape)
        elif names[-1] in ("mean", "bias"):
            values = 0.1 * random.standard_normal(like.shape)
        else:
            # Logits and deltas stay small, so that neither scores nor boxes saturate.
            gain = 0.05 if {"logits", "deltas"} & set(names) else 1.0
            values = gain * np.sqrt(2 / np.prod(like.shape[:-1])) * random.standard_normal(like.shape)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(lambda: init(jax.random.key(0), config)))


@pytest.fixture(scope="session")
def draw_variables():
    """draw_variables(detector_config, seed) -> random variables of its shapes."""
    return _draw_variables


@pytest.fixture(scope="session")
def tiny_variables(tiny_detector):
    return _draw_variables(tiny_detector)


@pytest.fixture(scope="session")
def tiny_weights(tiny_config, tiny_variables, tmp_path_factory):
    """A .safetensors file of the tiny detector, with its settings and the names ape, bee and cat."""
    from autofocus_jax.config_file import to_dict
    from autofocus_jax.data.coco import CocoSource
    from autofocus_jax.weights import safetensors

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = dataclasses.replace(tiny_config, data=CocoSource("nowhere"))
    safetensors.save(path, tiny_variables, to_dict(config), {"categories": ["ape", "bee", "cat"]})
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_weights):
    """The Model of tiny_weights; its programs are compiled once for all tests."""
    from autofocus_jax.api import load

    return load(tiny_weights)


@pytest.fixture(scope="session")
def chip_batch():
    """chip_batch(chips, height, width, batch) -> ChipBatch padded with zeros to [batch, height, width]."""

    def make(chips, height, width, batch=None):
        batch = len(chips) if batch is None else batch
        pixels, size = np.zeros((batch, height, width, 3), np.uint8), np.zeros((batch, 2), np.int32)
        for row, chip in enumerate(chips):
            size[row] = chip.shape[:2]
            pixels[row, : chip.shape[0], : chip.shape[1]] = chip
        return ChipBatch(pixels, size, np.arange(batch) < len(chips))

    return make
