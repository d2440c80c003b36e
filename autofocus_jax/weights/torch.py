"""ResNets of torchvision and timm, and other backbones that name their foreign modules, in this package's terms.

Two layouts of names are known:

- post-activation (v1.5), torchvision's and timm's `resnet50`, `resnet101` …: conv1, bn1, layer1.0.conv1 …, fc
- pre-activation (v2), timm's `resnetv2_50`, `resnetv2_101` with batch norms: stem.conv, stages.0.blocks.0.norm1 …,
  norm, head.fc. BiT's variants (group norms, standardised convolutions) and networks with other stems are refused.

Differences from our networks are folded into the arrays, so that the features are equal:

- Epsilon of the batch norms is 1e-5 in the files and 2e-5 in our v2. Running variances are shifted by the difference.
- Pixels are normalised by a mean and deviation that the file does not hold. In v2 our first batch norm, on the data,
  corrects the config's normalisation. v1 has no such norm, so the config must have the network's mean and deviation.
- timm's v2 has no batch norm and ReLU between the first convolution and the max pooling, and our v2 has both. Our norm
  gets a shift by a bound of the convolution's output, so the ReLU never cuts. The next batch norm removes the shift.

Dilations are settings of the config, not of the file. On ImageNet the weights saw stride 2 in stage 4's first unit and
no dilation. At stride 16 torchvision, timm (output_stride=16, v2 too) and our v1 leave that unit's 3x3 convolution at
dilation 1, so every second cell of stage 4 has the value it had at stride 32. Our v2 has the config's dilation there,
as the authors' release; train stage 4 on from that. Stages 1 to 3 are equal in any case.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np
from safetensors import safe_open

from autofocus_jax.config import DetectorSettings
from autofocus_jax.detector.backbone import BACKBONES, backbone_of
from autofocus_jax.detector.resnet import EPSILON
from autofocus_jax.files import require_regular
from autofocus_jax.weights.conversion import FitError, Foreign, same_name
from autofocus_jax.weights.safetensors import FAULTS, WeightsError

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean and deviation, RGB, of torchvision's networks
HALF = ((127.5,) * 3, (127.5,) * 3)  # of timm's pre-activation networks

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return arrays by name of a safetensors file of any program.

    Raises:
        WeightsError: the file is broken.
    """
    try:
        require_regular(path)
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FAULTS as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"weights {path} are damaged or of a type NumPy lacks ({reason}); get the file anew "
                           "or save it as float32") from None  # fmt: skip


def kind_of(names: Iterable[str], config: DetectorSettings) -> str | None:
    """Return the kind of backbone of a foreign file by its names, or None.

    "v1" and "v2" are torchvision's and timm's ResNets. Otherwise the kind of the config is tried.
    """
    modules = {name.removeprefix("module.").rpartition(".")[0] for name in names}
    for kind, first in (("v1", "layer1.0.conv1"), ("v2", "stages.0.blocks.0.conv1")):
        if first in modules:
            return kind
    foreign = backbone_of(config.backbone).foreign
    return config.backbone.kind if foreign and any(map(foreign, modules)) else None


def convert(
    arrays: Mapping[str, np.ndarray],
    config: DetectorSettings,
    source: object,
    pixels: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Foreign:
    """Return a state dict in this package's names and layouts.

    Args:
        arrays: arrays by name.
        config: settings of the detector.
        source: name of the file, for messages.
        pixels: mean and deviation of each channel (RGB, of values 0 to 255) of the network's training. By default
            IMAGENET for the post-activation and HALF for the pre-activation layout, and the config's for a backbone
            that is no ResNet.

    Raises:
        WeightsError: our networks cannot express the variant.
        FitError: the config normalises pixels in another way that cannot be folded in.
    """
    plain = {name.removeprefix("module."): array for name, array in arrays.items()}
    same_name((name.removeprefix("module.") for name in arrays), source)
    kind = kind_of(plain, config) or ""
    pre, post = kind == "v2", kind == "v1"
    backbone = BACKBONES[kind]
    classifier = r"norm\.|head\." if pre else r"fc\."
    if pre or post:
        _refuse(plain, pre, source)
    ours: dict[str, np.ndarray] = {}
    origins: dict[str, str] = {}
    ignored, unknown = {}, []
    for name, array in plain.items():
        module, _, leaf = name.rpartition(".")
        target = backbone.foreign(module) if backbone.foreign else None
        if leaf == "num_batches_tracked":
            ignored[name] = "a counter of training"
        elif re.match(classifier, name) or target == "":
            ignored[name] = "after the features, as the classifier"
        elif target is None or leaf not in _BATCH_NORM:
            unknown.append(name)
        else:
            collection, own = ("params", "kernel") if leaf == "weight" and array.ndim > 1 else _BATCH_NORM[leaf]
            target = f"{collection}/backbone/{target}/{own}"
            ours[target] = _layout(target, np.asarray(array, np.float32), backbone.foreign_epsilon - backbone.epsilon)
            origins[target] = name
    if pre:
        ours |= _pixels(config, pixels or HALF)
        _bypass_stem(ours, config)
    elif post:
        _check_pixels(config, pixels or IMAGENET, source)
    what = {"v2": "pre-activation ResNet", "v1": "post-activation ResNet"}.get(kind, kind)
    return Foreign(f"PyTorch, {what}", kind, ours, origins, ignored, unknown)


def _refuse(names: Mapping[str, np.ndarray], pre: bool, source: object) -> None:
    first = "stages.0.blocks.0.norm1" if pre else "layer1.0.bn1"
    reason = None
    if f"{first}.running_mean" not in names:
        reason = "has no running batch statistics (group norms, as BiT's standardised ResNets)"
    elif ("stem.conv.weight" if pre else "conv1.weight") not in names:
        reason = "has another stem than one 7x7 convolution"
    elif pre and "stem.norm.weight" in names:
        reason = "has the names of a pre-activation ResNet but is none (it has a batch norm in its stem)"
    elif not any(re.search(r"\.0\.conv3\.weight$", name) for name in names):
        reason = "has basic units of two convolutions, not bottlenecks"
    if reason:
        raise WeightsError(f"weights {source}: the network {reason}; want a plain ResNet-50, 101 or 152")


def _layout(target: str, array: np.ndarray, shift: float) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array + np.float32(shift) if target.endswith("/var") else array


def _pixels(config: DetectorSettings, pixels: tuple[tuple[float, ...], tuple[float, ...]]) -> dict[str, np.ndarray]:
    """The batch norm on the data that turns the config's normalisation of pixels into the file's."""
    (mean, deviation), own_mean = (np.asarray(values, np.float64) for values in pixels), np.asarray(config.pixel_mean)
    own = np.asarray(config.pixel_deviation)
    return {
        "batch_stats/backbone/bn_data/mean": ((mean - own_mean) / own).astype(np.float32),
        "batch_stats/backbone/bn_data/var": ((deviation / own) ** 2 - EPSILON).astype(np.float32),
        "params/backbone/bn_data/bias": np.zeros(len(mean), np.float32),
    }


def _check_pixels(
    config: DetectorSettings, pixels: tuple[tuple[float, ...], tuple[float, ...]], source: object
) -> None:
    """Raises FitError unless the config normalises pixels as the file's network wants them, to 1 level of 255."""
    given = (config.pixel_mean, config.pixel_deviation)
    if not np.allclose(given, pixels, atol=1, rtol=0):
        raise FitError(f"{source} was trained with pixels of mean {pixels[0]} and deviation {pixels[1]}, the config "
                       f"has {given[0]} and {given[1]}; set detector.pixel_mean and detector.pixel_deviation, or say "
                       "which pixels the file was trained with")  # fmt: skip


def _bypass_stem(ours: dict[str, np.ndarray], config: DetectorSettings) -> None:
    """Make our batch norm and ReLU after the first convolution a mere shift, which the next batch norm removes."""
    kernel, after = ours["params/backbone/conv0/kernel"], "batch_stats/backbone/stage1_unit1/bn1/mean"
    var, mean = (ours[f"batch_stats/backbone/bn_data/{name}"].astype(np.float64) for name in ("var", "mean"))
    ends = (np.array([[0.0], [255.0]]) - config.pixel_mean) / config.pixel_deviation
    largest = np.abs((ends - mean) / np.sqrt(var + EPSILON)).max(axis=0)
    bound = (np.abs(kernel).sum(axis=(0, 1)) * largest[:, None]).sum(axis=0).astype(np.float32)
    ours["params/backbone/bn0/scale"] = np.ones_like(bound)
    ours["params/backbone/bn0/bias"] = bound
    ours["batch_stats/backbone/bn0/mean"] = np.zeros_like(bound)
    ours["batch_stats/backbone/bn0/var"] = np.full_like(bound, 1 - EPSILON)
    if after in ours and ours[after].shape == bound.shape:
        ours[after] = ours[after] + bound
