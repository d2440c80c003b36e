"""The detector against the authors' own network (run by MXNet) and the v1.5 backbone against torchvision's.

Weights are drawn by the recipe that made the golden arrays. `pytest -s` prints the table of docs/fidelity.md: errors
are the largest absolute difference, divided by the standard deviation of the expected array.
"""

import re
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.two_stage_network import Network, forward, propose
from autofocus_jax.structures import ChipBatch
from autofocus_jax.weights import fit, safetensors, sniper

pytestmark = pytest.mark.numbers

GOLDEN = Path(__file__).parent.parent / "golden"
DETECTOR = DetectorConfig(
    backbone=BackboneConfig(deformable_groups=4), roi_pooling="deformable", proposal_least_side=1.0
)


def draws(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def kernel(random, shape, gain):
    return np.sqrt(gain / np.prod(shape[1:])) * random.standard_normal(shape)


def sniper_array(name, shape):
    random = draws(name)
    if name.endswith(("_gamma", "_moving_var")):
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("_beta", "_moving_mean", "_bias")):
        values = (0.01 if name.endswith("_bias") else 0.1) * random.standard_normal(shape)
    elif name == "conv0_weight":
        values = kernel(random, shape, 4e-4)
    elif name.endswith(("_conv3_weight", "_offset_weight")) or name in (
        "rpn_bbox_pred_weight", "bbox_pred_weight", "offset_weight"
    ):  # fmt: skip
        values = kernel(random, shape, 0.1)
    else:
        values = kernel(random, shape, 1.0 if name.endswith("_sc_weight") else 2.0)
    return values.astype(np.float32)


def torchvision_array(name, shape):
    random = draws(name)
    if name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * random.standard_normal(shape)
    elif len(shape) == 1:
        values = random.uniform(0.5, 1.5, shape) * (0.2 if name.endswith("bn3.weight") else 1.0)
    else:
        values = kernel(random, shape, 2.0)
    return values.astype(np.float32)


def check(name, ours, theirs, tolerance):
    """Asserts that the largest error is at most tolerance standard deviations, and prints it."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    error = np.abs(ours - theirs).max() / theirs.std()
    print(f"{name}: {error:.1e}")
    assert theirs.std() > 0 and error <= tolerance, f"{name}: {error} standard deviations"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "sniper_r101.npz"))


@pytest.fixture(scope="module")
def variables():
    with np.load(GOLDEN / "sniper_r101_names.npz") as names:
        arrays = {name: sniper_array(name.partition(":")[2], tuple(names[name])) for name in names.files}
    foreign = sniper.convert(arrays, DETECTOR, "the recipe")
    assert len(arrays) == 538 and not foreign.unknown and list(foreign.ignored) == ["bn_data_gamma"]
    return safetensors.unflatten(foreign.arrays)


@pytest.fixture(scope="module")
def chips(golden):
    count = len(golden["image"])
    return ChipBatch(golden["image"], golden["im_info"][:, :2].astype(np.int32), np.ones(count, bool))


@pytest.fixture(scope="module")
def maps(variables, chips):
    return jax.jit(partial(forward, DETECTOR, masked=False))(variables, chips)


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def test_maps(golden, maps):
    check("features", channels_first(maps.features)[:, ::16], golden["features_every16"], 2e-3)
    scores = jax.nn.softmax(maps.proposal_logits, axis=3)
    flat = scores.reshape(*scores.shape[:3], -1)
    check("RPN probabilities", channels_first(flat), golden["rpn_prob"], 2e-3)
    deltas = maps.proposal_deltas.reshape(*flat.shape[:3], -1)
    check("RPN deltas", channels_first(deltas), golden["rpn_delta"], 2e-3)
    focus = jax.nn.softmax(maps.focus_logits, axis=-1)
    check("focus probabilities", channels_first(focus), golden["focus_prob"], 2e-3)


def half_open(proposals, images):
    """Inclusive boxes of the golden file -> [images, N, 4] half-open."""
    assert (proposals[:, 0] == np.repeat(np.arange(images), len(proposals) // images)).all()
    boxes = proposals[:, 1:].reshape(images, -1, 4)
    return boxes + np.array([0, 0, 1, 1], np.float32)


def test_proposals(golden, chips, maps):
    """As a set: every proposal of theirs has one of ours and the other way round."""
    found = jax.device_get(jax.jit(partial(propose, DETECTOR))(maps, chips.size))
    boxes = half_open(golden["proposals"], 2)
    scores = golden["proposal_scores"].reshape(2, -1)
    for row in range(2):
        assert found.valid[row].all()
        ours, theirs = (
            np.concatenate([boxes / golden["proposals"][:, 1:].std(), scores[:, None] / scores.std()], axis=1)
            for boxes, scores in ((found.boxes[row], found.scores[row]), (boxes[row], scores[row]))
        )
        distance = np.abs(ours[:, None] - theirs).max(axis=2)
        nearest = distance.argmin(axis=1)
        print(f"proposals of image {row}: {distance.min(axis=1).max():.1e}")
        assert len(set(nearest)) == len(theirs) and distance.min(axis=1).max() <= 2e-3


def test_heads_on_their_proposals(golden, variables, maps):
    rois = half_open(golden["proposals"], 2)
    classify = partial(Network(DETECTOR).apply, method="classify", mutable="intermediates")
    (logits, deltas), sown = jax.jit(classify)(variables, maps.features, rois)
    pooled = sown["intermediates"]["box_head"]["pooled"][0].reshape(-1, 7, 7, 256)
    check("pooled RoIs", channels_first(pooled)[::10, ::4], golden["roi_pool_every10"], 2e-3)
    check("class probabilities", jax.nn.softmax(logits, axis=-1), golden["class_prob"], 2e-3)
    check("box deltas", deltas, golden["box_delta"], 2e-3)


def test_masks_change_only_the_padded_image(variables, chips, maps):
    """The first image fills the map, so that masks leave it alone; the second does not."""
    masked = jax.jit(partial(forward, DETECTOR))(variables, chips)
    scale = float(np.std(maps.features))
    np.testing.assert_allclose(masked.features[0], maps.features[0], atol=1e-3 * scale)
    assert np.abs(np.asarray(masked.features[1] - maps.features[1]))[:13, :18].max() > 1e-2 * scale


def torchvision_name(name):
    name = re.sub(r"^layer(\d)\.(\d+)\.", lambda m: f"stage{m[1]}_unit{int(m[2]) + 1}/", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut_bn")
    name = name.replace(".", "/")
    return re.sub(r"^(conv|bn)1/", r"\g<1>0/", name)


def test_v1_backbone_against_torchvision():
    with np.load(GOLDEN / "torchvision_r101.npz") as file:
        golden = dict(file)
    leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    flat = {}
    for entry in golden["state_names"]:
        name, _, shape = str(entry).partition(":")
        shape = tuple(int(side) for side in re.findall(r"\d+", shape))
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        values, (module, _, leaf) = torchvision_array(name, shape), torchvision_name(name).rpartition("/")
        collection = "batch_stats" if leaf.startswith("running") else "params"
        if leaf == "weight":
            values, leaf = (values, "scale") if values.ndim == 1 else (values.transpose(2, 3, 1, 0), "kernel")
        flat[f"{collection}/{module}/{leaves.get(leaf, leaf)}"] = values
    network, images = backbone(BackboneConfig(kind="v1")), golden["image"]
    size = np.broadcast_to(np.array(images.shape[1:3]), (len(images), 2))
    variables = safetensors.unflatten(flat)
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), images, size, False))
    fit.strict(variables, expected)

    @jax.jit
    def run(variables):
        stages = network.apply(variables, jnp.asarray(images), size, False, method="stages")
        return [stage[..., ::16] for stage in stages]

    for number, stage in enumerate(run(variables), 1):
        check(f"layer{number}", channels_first(stage), golden[f"layer{number}"], 1e-3)
