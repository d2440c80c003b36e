"""What tests share: settings of hypothesis, compiled programs, the promise on numbers, a data set in memory."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import tempfile

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


def pytest_configure(config):
    """Give the workers of xdist and all subprocesses one folder of compiled programs, removed at the end of the run.

    The user's own cache folder is neither read nor written. A folder that JAX_COMPILATION_CACHE_DIR names is kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="autofocus_tests_", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": folder.name,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
            # JAX locks only a cache that has a largest size, and several processes write into this one.
            "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),
        }


def pytest_collection_modifyitems(items):
    """Slow tests take as long as they need."""
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.timeout(0))


SCORE, BOX = 1e-4, 1e-2  # "To the bit, or to a tolerance" in docs/architecture.md: on scores, and in image px


def _check_same_detections(one, other, cuts=()):
    """Raise AssertionError unless two Detections are the same set to the promised tolerance, in whatever order.

    Args:
      one, other: detections of the same image, boxes in the image frame.
      cuts: scores that decide what is kept, such as a threshold or the last score of a full answer. A detection within
        SCORE of a cut may be missing on one side.
    """
    left, missing = set(range(len(other.scores))), []
    for row, (box, score, label) in enumerate(zip(*one)):
        near = [
            (np.abs(other.boxes[number] - box).max(), number)
            for number in left
            if other.labels[number] == label and abs(other.scores[number] - score) <= SCORE
        ]
        distance, number = min(near, default=(np.inf, -1))
        if distance <= BOX:
            left.remove(number)
        else:
            missing.append((f"only the first has number {row}", box, score, label, distance))
    missing += [(f"only the second has number {row}", *(field[row] for field in other), np.inf) for row in sorted(left)]
    missing = [found for found in missing if not any(abs(found[2] - cut) <= SCORE for cut in cuts)]
    lines = [f"{who}: {box} score {score} label {label}, nearest {far} px" for who, box, score, label, far in missing]
    if lines:
        raise AssertionError("\n".join(lines))


@pytest.fixture(scope="session")
def check_same_detections():
    """check_same_detections(one, other, cuts): the same set to the promised tolerance."""
    return _check_same_detections


class Traced:
    """A function that remembers the arguments of each trace, to say which of them changed when one is too many."""

    def __init__(self, function):
        self.function, self.seen = function, []

    def __call__(self, *arguments):
        import jax

        leaves = jax.tree_util.tree_leaves_with_path(arguments)
        self.seen.append({jax.tree_util.keystr(path): self._described(leaf) for path, leaf in leaves})
        return self.function(*arguments)

    @staticmethod
    def _described(leaf):
        import jax

        try:
            known = jax.typeof(leaf)
        except TypeError:  # a setting
            return repr(leaf)
        return f"{known.str_short()}{' weakly typed' if getattr(known, 'weak_type', False) else ''}"

    def check(self, count):
        """Raise AssertionError unless there were `count` traces; it says how each differs from the one most like it."""
        lines = [f"{len(self.seen)} traces instead of {count}"]
        for number, arguments in enumerate(self.seen[1:], 1):
            before, changes = min(
                ((earlier, self._changes(self.seen[earlier], arguments)) for earlier in range(number)),
                key=lambda found: len(found[1]),
            )
            lines.append(f"trace {number + 1} after trace {before + 1}: {'; '.join(changes) or 'the same arguments'}")
        if len(self.seen) != count:
            raise AssertionError("\n".join(lines))

    @staticmethod
    def _changes(before, after):
        names = [*before, *(name for name in after if name not in before)]
        return [
            f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
            for name in names
            if before.get(name) != after.get(name)
        ]


@pytest.fixture(scope="session")
def traced():
    """The class Traced(function)."""
    return Traced


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

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # for the processes that a test starts
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
    """Random variables for settings of a detector, batch statistics too; much faster than compiling `init`."""
    import jax

    from autofocus_jax.detector.kinds import detector_of

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

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(detector_of(config).init, jax.random.key(0)))


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
    from autofocus_jax.config.load import to_dict
    from autofocus_jax.data.coco import CocoSource
    from autofocus_jax.weights import safetensors

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = dataclasses.replace(tiny_config, data=CocoSource("nowhere"))
    safetensors.save(path, tiny_variables, to_dict(config), {"categories": ["ape", "bee", "cat"]})
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_weights):
    """The Model of tiny_weights; its programs are compiled once for all tests."""
    from autofocus_jax.inference.model import load

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


@pytest.fixture(scope="session")
def bright_network(tmp_path_factory):
    """bright_network(share, threshold, gain, bias) -> a file of a focus network that looks where it is not black."""
    import runpy
    from pathlib import Path

    from autofocus_jax.detector.focus_network import FocusNetworkConfig
    from autofocus_jax.weights import safetensors

    runpy.run_path(str(Path(__file__).parent / "detector" / "toy_backbone.py"))  # adds "toy" to BACKBONES

    def make(share=1.0, threshold=0.75, gain=1000.0, bias=-3.0):
        from autofocus_jax.config.load import to_dict

        settings = FocusNetworkConfig(
            backbone=BackboneConfig(kind="toy", channels=(3,) * 5), pixel_mean=(0.0,) * 3, focus_channels=3, share=share
        )
        drawn = _draw_variables(settings)
        mean, one = np.full((3, 3, 1, 1), 1 / 9) * np.eye(3), np.ones(3)
        for number in range(4):
            drawn["params"]["backbone"][f"conv{number}"]["kernel"] = mean
            drawn["params"]["backbone"][f"bn{number}"] = {"scale": one, "bias": 0 * one}
            drawn["batch_stats"]["backbone"][f"bn{number}"] = {"mean": 0 * one, "var": (1 - 1e-3) * one}
        middle = np.zeros((3, 3, 3, 3))
        middle[1, 1] = np.eye(3)
        last = np.stack([0 * one, gain * one], axis=1)[None, None]
        drawn["params"]["focus_head"] = {
            "conv1": {"kernel": middle, "bias": 0 * one}, "conv2": {"kernel": np.eye(3)[None, None], "bias": 0 * one},
            "logits": {"kernel": last, "bias": np.array([0.0, bias])},
        }  # fmt: skip
        path = tmp_path_factory.mktemp("network") / "focus.safetensors"
        safetensors.save(path, drawn, {"detector": to_dict(settings) | {"kind": "FocusNetworkConfig"}},
                         {"threshold": threshold})  # fmt: skip
        return path

    return make
