"""State dicts of ResNets against the same networks written with plain operations, in PyTorch's layout."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from autofocus_jax.config import BackboneConfig, DetectorConfig
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.weights import torch
from autofocus_jax.weights.conversion import FitError, fit
from autofocus_jax.weights.fit import strict
from autofocus_jax.weights.safetensors import WeightsError, unflatten

UNITS, CHANNELS = (2, 1, 1, 2), (8, 16, 16, 24, 32)


def norm(state, random, name, channels):
    """Some scales are negative, so that maxima and norms do not commute."""
    state[f"{name}.weight"] = random.uniform(-1, 1.5, channels)
    state[f"{name}.bias"] = 0.3 * random.standard_normal(channels)
    state[f"{name}.running_mean"] = 0.3 * random.standard_normal(channels)
    state[f"{name}.running_var"] = random.uniform(0.01, 1.5, channels)
    state[f"{name}.num_batches_tracked"] = np.array(7)


def state_dict(pre, units=UNITS, channels=CHANNELS):
    """Random arrays under timm's names: pre-activation resnetv2, or resnet, which are torchvision's too."""
    random, state = np.random.default_rng(2), {}

    def conv(name, inputs, outputs, side):
        scale = np.sqrt(2 / (inputs * side * side))
        state[f"{name}.weight"] = scale * random.standard_normal((outputs, inputs, side, side))

    conv("stem.conv" if pre else "conv1", 3, channels[0], 7)
    if not pre:
        norm(state, random, "bn1", channels[0])
    inputs = channels[0]
    for stage, (count, outputs) in enumerate(zip(units, channels[1:])):
        width = outputs // 4
        for unit in range(count):
            name = f"stages.{stage}.blocks.{unit}" if pre else f"layer{stage + 1}.{unit}"
            for number, (a, b, side) in enumerate(((inputs, width, 1), (width, width, 3), (width, outputs, 1)), 1):
                conv(f"{name}.conv{number}", a, b, side)
                norm(state, random, f"{name}.norm{number}" if pre else f"{name}.bn{number}", a if pre else b)
            if unit == 0:
                conv(f"{name}.downsample.conv" if pre else f"{name}.downsample.0", inputs, outputs, 1)
                if not pre:
                    norm(state, random, f"{name}.downsample.1", outputs)
            inputs = outputs
    if pre:
        norm(state, random, "norm", inputs)
    state["head.fc.weight" if pre else "fc.weight"] = np.ones((10, inputs))
    return {name: np.asarray(array, np.int64 if array.ndim == 0 else np.float32) for name, array in state.items()}


def convolve(state, name, x, stride=1, dilation=1):
    kernel = state[f"{name}.weight"]
    padding = dilation * (kernel.shape[-1] // 2)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2,
                                        rhs_dilation=(dilation, dilation))  # fmt: skip


def normalise(state, name, x):
    weight, bias, mean, var = (
        state[f"{name}.{leaf}"][:, None, None] for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def reference(state, images, pre):
    """Outputs of the stages, channels first; images as the network was trained with. Stage 4 keeps stride 16.

    Its first unit is dilated in v2, as in the authors' release, and not in v1; timm dilates it in neither.
    """
    relu = jax.nn.relu
    x = convolve(state, "stem.conv" if pre else "conv1", images, 2)
    if not pre:
        x = relu(normalise(state, "bn1", x))
    x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)])
    stages = []
    for stage, count in enumerate(UNITS):
        for unit in range(count):
            name = f"stages.{stage}.blocks.{unit}" if pre else f"layer{stage + 1}.{unit}"
            stride = 2 if unit == 0 and stage in (1, 2) else 1
            dilation = 2 if stage == 3 and (pre or unit) else 1
            if pre:
                active = relu(normalise(state, f"{name}.norm1", x))
                short = convolve(state, f"{name}.downsample.conv", active, stride) if unit == 0 else x
                y = relu(normalise(state, f"{name}.norm2", convolve(state, f"{name}.conv1", active)))
                y = relu(normalise(state, f"{name}.norm3", convolve(state, f"{name}.conv2", y, stride, dilation)))
                x = short + convolve(state, f"{name}.conv3", y)
            else:
                short = x
                if unit == 0:
                    short = normalise(state, f"{name}.downsample.1", convolve(state, f"{name}.downsample.0", x, stride))
                y = relu(normalise(state, f"{name}.bn1", convolve(state, f"{name}.conv1", x)))
                y = relu(normalise(state, f"{name}.bn2", convolve(state, f"{name}.conv2", y, stride, dilation)))
                x = relu(short + normalise(state, f"{name}.bn3", convolve(state, f"{name}.conv3", y)))
        stages.append(x)
    return stages


def with_backbone(config, pre, **settings):
    network = BackboneConfig(units=UNITS, channels=CHANNELS, kind="v2" if pre else "v1")
    return dataclasses.replace(config, detector=dataclasses.replace(config.detector, backbone=network, **settings))


def features(config, variables, pixels):
    """Outputs of our stages for pixels [B, H, W, 3] in 0..255, channels first."""
    detector = config.detector
    images = (pixels - np.float32(detector.pixel_mean)) / np.float32(detector.pixel_deviation)
    size = np.broadcast_to(np.array(pixels.shape[1:3]), (len(pixels), 2))
    network, part = backbone(detector.backbone), {name: tree["backbone"] for name, tree in variables.items()}
    strict(part, jax.eval_shape(lambda: network.init(jax.random.key(0), images, size, False)))
    stages = jax.jit(lambda part: network.apply(part, images, size, False, method="stages"))(part)
    return [np.asarray(stage).transpose(0, 3, 1, 2) for stage in stages]


@pytest.mark.parametrize("pre", [False, True])
def test_the_features_are_theirs(tiny_config, pre):
    mean, deviation = torch.HALF if pre else torch.IMAGENET
    own = {} if pre else {"pixel_mean": mean, "pixel_deviation": deviation}  # v2 takes the config's, whatever they are
    config = with_backbone(tiny_config, pre, **own)
    state = state_dict(pre)
    foreign = torch.convert({f"module.{name}": array for name, array in state.items()}, config.detector, "w")
    assert not foreign.unknown
    used = set(foreign.origins.values()) | set(foreign.ignored)
    assert used == set(state) and all(re_ignored(name) for name in foreign.ignored)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3)).astype(np.float32)
    images = ((pixels - np.float32(mean)) / np.float32(deviation)).transpose(0, 3, 1, 2)
    theirs = jax.jit(lambda images: reference(state, images, pre))(images)
    for number, (one, other) in enumerate(zip(features(config, unflatten(foreign.arrays), pixels), theirs), 1):
        error = np.abs(one - other).max() / np.std(other)
        assert one.shape == other.shape and error < 1e-4, f"stage {number}: {error:.1e}"


def re_ignored(name):
    return name.endswith("num_batches_tracked") or name.startswith(("norm.", "head.", "fc."))


def test_what_is_refused(tiny_config):
    post, pre = state_dict(False), state_dict(True)
    v1, v2 = with_backbone(tiny_config, False), with_backbone(tiny_config, True)

    def refused(kind, words, state, config=v2, **options):
        with pytest.raises(kind, match=words) as error:
            fit(torch.convert(state, config.detector, "w", **options), config, "w")
        assert "\n" not in str(error.value)

    group = {name: array for name, array in pre.items() if "running" not in name and "tracked" not in name}
    refused(WeightsError, "group norms", group)
    refused(WeightsError, "another stem", {name.replace("stem.conv.", "stem.conv1."): pre[name] for name in pre})
    refused(WeightsError, "batch norm in its stem", pre | {"stem.norm.weight": np.ones(8)})
    deep = {"conv1.0.weight": post["conv1.weight"], **{name: post[name] for name in post if name != "conv1.weight"}}
    refused(WeightsError, "another stem", deep)
    refused(WeightsError, "basic units", {name: array for name, array in post.items() if "conv3" not in name})
    other_pixels = with_backbone(tiny_config, False, pixel_mean=(0.0, 0.0, 0.0))
    refused(FitError, "trained with pixels of mean", post, other_pixels)
    refused(FitError, "set detector.backbone.kind", post, v2)
    refused(FitError, "set detector.backbone.kind", pre, v1)
    refused(FitError, r"no place for: layer1.0.se.fc1.weight", post | {"layer1.0.se.fc1.weight": np.ones(3)}, v1)
    refused(FitError, r"units in its stages", state_dict(True, units=(2, 1, 2, 2)))
    wide = state_dict(True, channels=(16, 16, 16, 24, 32))
    refused(FitError, r"of another shape: params.*/kernel .* instead of .*from stem.conv.weight", wide)
    detector = DetectorConfig()
    assert (torch.kind_of(pre, detector), torch.kind_of(post, detector)) == ("v2", "v1")
    assert torch.kind_of({"features.0.weight": 0}, detector) is None


def test_safetensors_files(tmp_path):
    state = state_dict(True)
    save_file(state, tmp_path / "w.safetensors", metadata={"format": "pt"})
    read = torch.read_safetensors(tmp_path / "w.safetensors")
    assert read.keys() == state.keys()
    np.testing.assert_array_equal(read["stem.conv.weight"], state["stem.conv.weight"])
    save_file({"a": np.ones(3, ml_dtypes.bfloat16)}, tmp_path / "b.safetensors")
    try:
        assert torch.read_safetensors(tmp_path / "b.safetensors")["a"].astype(np.float32).tolist() == [1, 1, 1]
    except WeightsError as error:
        assert "float32" in str(error)
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-3])
    with pytest.raises(WeightsError, match="damaged"):
        torch.read_safetensors(tmp_path / "w.safetensors")
