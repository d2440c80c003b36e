"""The configs of the paper's detector load, hold every level they ask for, and have the authors' parameters."""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from autofocus_jax.config_file import load_config
from autofocus_jax.detector.model import init
from autofocus_jax.focus.buckets import choose
from autofocus_jax.focus.pyramid import level_size
from autofocus_jax.weights.safetensors import flatten

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["coco", "voc"])
def config(request):
    return load_config(ROOT / "configs" / f"{request.param}_r101.py")


def test_buckets_hold_every_level(config):
    for scale, (height, width) in itertools.product(config.scales, itertools.product(range(20, 3000, 97), repeat=2)):
        rows, columns = level_size(height, width, scale)
        bucket = config.buckets[choose(rows, columns, config.buckets)]
        assert bucket.height >= rows and bucket.width >= columns


def test_parameters_are_those_of_the_authors_network(config):
    """As many numbers as their checkpoint of 81 classes holds, with what fewer classes save."""
    with np.load(ROOT / "tests" / "golden" / "sniper_r101_names.npz") as names:
        theirs = sum(int(np.prod(names[name])) for name in names.files) - 3  # the fixed scale of the first batch norm
    shapes = flatten(jax.eval_shape(lambda: init(jax.random.key(0), config.detector)))
    ours = sum(int(np.prod(array.shape)) for array in shapes.values())
    assert ours == theirs - (80 - config.detector.num_classes) * 1025


def test_command_line_changes_the_kinds():
    path = ROOT / "configs" / "coco_r101.py"
    words = "--detector.compute-dtype bfloat16 --detector.backbone.kind v1 --detector.roi-pooling align"
    detector = load_config(path, words.split()).detector
    assert (detector.compute_dtype, detector.backbone.kind, detector.roi_pooling) == ("bfloat16", "v1", "align")
