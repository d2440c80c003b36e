"""The networks that the golden arrays were made with, and how far ours are from them; also for benchmarks/gpu.py.

Weights are drawn by the recipe that made the arrays. An error is the largest absolute difference, divided by the
standard deviation of the expected array. Nothing here needs pytest.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.two_stage_network import Maps, Network, forward
from autofocus_jax.structures import ChipBatch
from autofocus_jax.weights import fit, safetensors, sniper

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


def error(ours, theirs) -> float:
    """The largest difference in standard deviations of theirs."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape and theirs.std() > 0
    return float(np.abs(ours - theirs).max() / theirs.std())


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def half_open(proposals, images):
    """Inclusive boxes of the golden file -> [images, N, 4] half-open."""
    assert (proposals[:, 0] == np.repeat(np.arange(images), len(proposals) // images)).all()
    boxes = proposals[:, 1:].reshape(images, -1, 4)
    return boxes + np.array([0, 0, 1, 1], np.float32)


def sniper_golden():
    """The arrays of the authors' network."""
    return dict(np.load(GOLDEN / "sniper_r101.npz"))


def sniper_variables():
    """Our variables of the authors' network."""
    with np.load(GOLDEN / "sniper_r101_names.npz") as names:
        arrays = {name: sniper_array(name.partition(":")[2], tuple(names[name])) for name in names.files}
    foreign = sniper.convert(arrays, DETECTOR, "the recipe")
    assert len(arrays) == 538 and not foreign.unknown and list(foreign.ignored) == ["bn_data_gamma"]
    return safetensors.unflatten(foreign.arrays)


def sniper_chips(golden) -> ChipBatch:
    """The images of the golden file."""
    return ChipBatch(golden["image"], golden["im_info"][:, :2].astype(np.int32), np.ones(len(golden["image"]), bool))


def sniper_maps(variables, chips: ChipBatch, dtype: str = "float32") -> Maps:
    """Our maps, as the authors' network masks them."""
    return jax.jit(partial(forward, _detector(dtype), masked=False))(variables, chips)


def map_errors(golden, maps: Maps) -> dict[str, float]:
    """Errors of what the convolutions answer."""
    scores = jax.nn.softmax(maps.proposal_logits, axis=3)
    flat = scores.reshape(*scores.shape[:3], -1)
    deltas = maps.proposal_deltas.reshape(*flat.shape[:3], -1)
    return {
        "features": error(channels_first(maps.features)[:, ::16], golden["features_every16"]),
        "RPN probabilities": error(channels_first(flat), golden["rpn_prob"]),
        "RPN deltas": error(channels_first(deltas), golden["rpn_delta"]),
        "focus probabilities": error(channels_first(jax.nn.softmax(maps.focus_logits, axis=-1)), golden["focus_prob"]),
    }


def head_errors(golden, variables, maps: Maps, dtype: str = "float32") -> dict[str, float]:
    """Errors of RoI pooling and the box head on their proposals."""
    rois = half_open(golden["proposals"], 2)
    classify = partial(Network(_detector(dtype)).apply, method="classify", mutable="intermediates")
    (logits, deltas), sown = jax.jit(classify)(variables, maps.features, rois)
    pooled = sown["intermediates"]["box_head"]["pooled"][0].reshape(-1, 7, 7, 256)
    return {
        "pooled RoIs": error(channels_first(pooled)[::10, ::4], golden["roi_pool_every10"]),
        "class probabilities": error(jax.nn.softmax(logits, axis=-1), golden["class_prob"]),
        "box deltas": error(deltas, golden["box_delta"]),
    }


def torchvision_name(name):
    name = re.sub(r"^layer(\d)\.(\d+)\.", lambda m: f"stage{m[1]}_unit{int(m[2]) + 1}/", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut_bn")
    name = name.replace(".", "/")
    return re.sub(r"^(conv|bn)1/", r"\g<1>0/", name)


def torchvision_errors(units=(3, 4, 23, 3), stages: int = 4, dtype: str = "float32") -> dict[str, float]:
    """Errors of the first stages of the v1.5 backbone.

    Args:
        units: of our network; stages past the compared ones may have fewer than torchvision's.
        stages: how many are compared.
        dtype: of the computation.
    """
    with np.load(GOLDEN / "torchvision_r101.npz") as file:
        golden = dict(file)
    network, images = backbone(BackboneConfig(kind="v1", units=units), jnp.dtype(dtype)), golden["image"]
    size = np.broadcast_to(np.array(images.shape[1:3]), (len(images), 2))
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), images, size, False))
    wanted = safetensors.flatten(expected)
    leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    flat = {}
    for entry in golden["state_names"]:
        name, _, shape = str(entry).partition(":")
        shape = tuple(int(side) for side in re.findall(r"\d+", shape))
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        module, _, leaf = torchvision_name(name).rpartition("/")
        collection = "batch_stats" if leaf.startswith("running") else "params"
        own = leaves.get(leaf) or ("scale" if len(shape) == 1 else "kernel")
        if stages == 4 or f"{collection}/{module}/{own}" in wanted:  # with 4, an array unknown to us is an error
            values = torchvision_array(name, shape)
            flat[f"{collection}/{module}/{own}"] = values.transpose(2, 3, 1, 0) if own == "kernel" else values
    variables = safetensors.unflatten(flat)
    fit.strict(variables, expected)

    @jax.jit
    def run(variables):
        found = network.apply(variables, jnp.asarray(images), size, False, method="stages")
        return [stage[..., ::16] for stage in found[:stages]]

    found = enumerate(run(variables), 1)
    return {f"layer{number}": error(channels_first(stage), golden[f"layer{number}"]) for number, stage in found}


def _detector(dtype: str) -> DetectorConfig:
    return dataclasses.replace(DETECTOR, compute_dtype=dtype)
