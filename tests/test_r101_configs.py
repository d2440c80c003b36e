"""The configs of the paper's detector load, hold every level they ask for, and have the authors' parameters."""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from autofocus_jax.command.main import main
from autofocus_jax.config.load import load_config
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.focus.buckets import choose
from autofocus_jax.focus.labels import focus_labels
from autofocus_jax.focus.pyramid import level_size
from autofocus_jax.structures import ChipBatch, TrainBatch
from autofocus_jax.training.optimizer import optimizer
from autofocus_jax.training.step import initial_state, make_step
from autofocus_jax.weights import checkpoint
from autofocus_jax.weights.safetensors import flatten


def train_main(words):
    return main(["train", *words])


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
    shapes = flatten(jax.eval_shape(detector_of(config.detector).init, jax.random.key(0)))
    ours = sum(int(np.prod(array.shape)) for array in shapes.values())
    assert ours == theirs - (80 - config.detector.num_classes) * 1025


def test_command_line_changes_the_kinds():
    path = ROOT / "configs" / "coco_r101.py"
    words = "--detector.compute-dtype bfloat16 --detector.backbone.kind v1 --detector.roi-pooling align"
    detector = load_config(path, words.split()).detector
    assert (detector.compute_dtype, detector.backbone.kind, detector.roi_pooling) == ("bfloat16", "v1", "align")


@pytest.mark.slow
def test_three_steps_of_training():
    """The paper's detector on one chip of 512 px, in float32: finite, and it moves what it should."""
    config = load_config(ROOT / "configs" / "coco_r101.py", ["--training.batch", "1"])
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, ema=0.999, reference_batch=None))
    side, capacity = config.training.chip, config.training.max_boxes
    random = np.random.default_rng(0)
    pixels = random.integers(60, 90, (1, side, side, 3), np.uint8)
    boxes, labels = np.zeros((1, capacity, 4), np.float32), np.zeros((1, capacity), np.int32)
    boxes[0, :3] = [[40, 60, 100, 130], [200, 210, 380, 420], [300, 20, 330, 45]]
    labels[0, :3] = [3, 79, 0]
    for x1, y1, x2, y2 in boxes[0, :3].astype(int):
        pixels[0, y1:y2, x1:x2] = random.integers(150, 256, 3)
    present = np.tile(np.arange(capacity) < 3, (1, 1))
    focus = focus_labels(boxes[0, :3], side, side, config.focus_range)[None]
    assert (focus == 1).any()
    chips = ChipBatch(pixels, np.full((1, 2), side, np.int32), np.ones(1, bool))
    batch = TrainBatch(chips, boxes, labels, present, present, focus)
    transform = optimizer(config)
    state = initial_state(config, transform)
    first = flatten(jax.tree.map(np.array, state.params))
    step = jax.jit(make_step(config, transform), donate_argnums=0)
    for number in range(1, 4):
        state, info = step(state, batch)
        assert int(state.step) == number and all(np.isfinite(value) for value in info.values())
        assert info["loss"] > 0 and info["gradient_norm"] > 0
    for tree in (state.params, state.ema, state.batch_stats):
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(jax.device_get(tree)))
    moved = {name: (np.asarray(value) != first[name]).any() for name, value in flatten(state.params).items()}
    is_frozen, stages = detector_of(config.detector).frozen, config.training.frozen_stages
    frozen = {name for name in moved if is_frozen(tuple(name.split("/")), stages)}
    assert len(frozen) > 20 and not any(moved[name] for name in frozen)
    assert all(moved[name] for name in moved.keys() - frozen if name.endswith("kernel") and "offset" not in name)


@pytest.mark.slow
def test_three_steps_of_train_py(tmp_path, capsys):
    """The command, on real images of COCO."""
    root = ROOT.parent / "shared" / "data" / "coco_train"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "annotations" / "instances_train.json").symlink_to(root / "annotations.json")
    (tmp_path / "data" / "train").symlink_to(root / "images")
    workdir = tmp_path / "run"
    words = f"""--config {ROOT}/configs/coco_r101.py --workdir {workdir} --data.root {tmp_path / "data"}
        --validation-images 0 --training.steps 3 --training.batch 1 --training.log-every 1
        --training.negative-chips 0"""
    assert train_main(words.split()) == 0, capsys.readouterr().err
    entries = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2, 3]
    assert all(np.isfinite(value) for entry in entries for value in entry.values())
    assert checkpoint.steps(workdir) == [3] and checkpoint.damage(workdir / "checkpoints" / "3") is None
