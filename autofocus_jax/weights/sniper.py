"""Parameter names of the paper's authors (their MXNet release of SNIPER and AutoFocus), translated to ours.

Three kinds of files have these names: AutoFocus checkpoints, SNIPER checkpoints (without the FocusPixel head), and
backbones trained on ImageNet or OpenImages (with a last batch norm and a classifier, which a detector does not use).

- MXNet keeps kernels as (out, in, height, width), Flax as (height, width, in, out). In the fully connected layers after
  RoI pooling, MXNet puts channels first and this package puts channels last.
- Their network fixes the scale of the batch norm on the data to 1. So our network has no such scale, and the stored one
  is ignored.
- Their training learns box deltas divided by the deviations (0.1, 0.1, 0.2, 0.2): `bbox_pred_weight` and
  `bbox_pred_bias`. Our detector uses these, and multiplies by `DetectorConfig.box_deviations` when it decodes.
- Their training checkpoints also hold `bbox_pred_weight_test` and `bbox_pred_bias_test`, with the deviations folded in,
  for their test program. If a file has only these, they are divided by the deviations. If a file has both, they must
  agree.
- A file with folded arrays under the plain names looks like any other file. `folded_boxes=True` marks such a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.weights.conversion import Foreign, same_name
from autofocus_jax.weights.safetensors import WeightsError

_BATCH_NORM = {
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_var": ("batch_stats", "var"),
}
_NAME = re.compile(r"(?:(stage\d+_unit\d+)_)?(\w+?)_(weight|bias|gamma|beta|moving_mean|moving_var)(_test)?")
_FIXED = "the network fixes it to 1"
_FOLDED = "bbox_pred holds the same, the deviations not folded in"
_CLASSIFIER = "part of the classifier, after the features"


def is_sniper(names: Mapping[str, object]) -> bool:
    """Return True if a file has the authors' names."""
    plain = {_plain(name) for name in names}
    return "conv0_weight" in plain and any(name.startswith("stage1_unit1_") for name in plain)


def convert(arrays: Mapping[str, np.ndarray], config: Any, source: object, folded_boxes: bool = False) -> Foreign:
    """Return the arrays of an authors' file (names with or without arg: and aux:) in this package's names and layouts.

    Args:
        arrays: arrays by name.
        config: settings of the detector.
        source: name of the file, for messages.
        folded_boxes: True if bbox_pred_weight and bbox_pred_bias have the deviations folded in (see above).

    Raises:
        WeightsError: an array occurs twice, or the two forms of box deltas contradict each other.
    """
    same_name((_plain(name) for name in arrays), source)
    names = detector_of(config).names
    plain = {_plain(name): array for name, array in arrays.items()}
    plain, dropped = _box_deltas(plain, config, source, folded_boxes)
    ours: dict[str, np.ndarray] = {}
    origins: dict[str, str] = {}
    ignored, unknown = dict.fromkeys(dropped, _FOLDED), []
    for name, array in plain.items():
        if name == "bn_data_gamma":
            ignored[name] = _FIXED
        elif re.fullmatch(r"bn1_(gamma|beta|moving_mean|moving_var)|fc\d+_(weight|bias)", name):
            ignored[name] = _CLASSIFIER
        elif (target := _target(name, names.foreign)) is not None:
            ours[target] = _layout(target, array, names.pooled, config)
            origins[target] = name
        else:
            unknown.append(name)
    heads = {target.split("/")[1] for target in ours} - {"backbone"}
    focus = "AutoFocus" if "conv_new_out_weight" in plain else "SNIPER without FocusPixels"
    kind = focus if heads else "SNIPER's backbone"
    return Foreign(f"MXNet, {kind}", "v2", ours, origins, ignored, unknown, _notes(plain, config))


def _plain(name: str) -> str:
    return re.sub(r"^(arg|aux):", "", name)


def _target(name: str, heads: Mapping[str, str]) -> str | None:
    """Return the name here of an authors' array, or None if there is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    unit, layer, kind, test = match.groups()
    if kind in _BATCH_NORM:
        collection, leaf = _BATCH_NORM[kind]
        known = layer in ("bn1", "bn2", "bn3") if unit else layer in ("bn_data", "bn0")
    else:
        collection, leaf = "params", "kernel" if kind == "weight" else "bias"
        known = layer in ("conv1", "conv2", "conv3", "sc", "offset") if unit else layer == "conv0" or layer in heads
        if not unit and layer in heads and not test:
            return f"{collection}/{heads[layer]}/{leaf}"
    if not known or test:
        return None
    parts = collection, "backbone", unit, "shortcut" if layer == "sc" else layer, leaf
    return "/".join(part for part in parts if part)


def _layout(target: str, array: np.ndarray, pooled: tuple[str, ...], config: Any) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 2:
        outputs, inputs = array.shape
        if target.split("/", 1)[1].rpartition("/")[0] in pooled and inputs % config.roi_size**2 == 0:
            bins = outputs, -1, config.roi_size, config.roi_size
            array = array.reshape(bins).transpose(0, 2, 3, 1).reshape(outputs, inputs)
        return array.T
    return array


def _box_deltas(
    arrays: dict[str, np.ndarray], config: Any, source: object, folded: bool
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays with normalised box deltas alone, and the names of the folded ones that repeat them."""
    names = ("bbox_pred_weight", "bbox_pred_bias")
    given = [name for name in names if name in arrays]
    tests = [name for name in names if f"{name}_test" in arrays]
    arrays = dict(arrays)
    if tests and not given:
        arrays.update({name: arrays.pop(f"{name}_test") for name in tests})
        given, tests, folded = tests, [], True
    elif tests:
        for name in tests:
            plain, test = arrays[name], arrays.pop(f"{name}_test")
            wanted = plain if folded else _scaled(plain, config)
            if wanted.shape == test.shape and not np.allclose(wanted, test, rtol=1e-2, atol=1e-4):  # may be float16
                factor = "" if folded else f" times the box deviations {config.box_deviations}"
                raise WeightsError(f"weights {source}: {name}_test is not {name}{factor}; set detector.box_deviations "
                                   "to those of its training, and say whether the file has them folded in")  # fmt: skip
    if folded:
        arrays.update({name: _scaled(arrays[name], config, -1) for name in given})
    return arrays, [f"{name}_test" for name in tests]


def _scaled(array: np.ndarray, config: Any, power: int = 1) -> np.ndarray:
    """Rows (dx, dy, dw, dh, again for each class that has boxes of its own) times deviations to the power."""
    deviations = np.asarray(config.box_deviations, np.float64) ** power
    if len(array) % len(deviations):
        return array  # the comparison of shapes will say what is wrong
    factors = np.tile(deviations, len(array) // len(deviations))
    return (array * factors.reshape(-1, *(1,) * (array.ndim - 1))).astype(np.float32)


def _notes(arrays: Mapping[str, np.ndarray], config: Any) -> tuple[str, ...]:
    mean = arrays.get("bn_data_moving_mean")
    if mean is not None and mean.shape == (3,) and mean.min() > 50 and max(config.pixel_mean) > 50:
        shown = ", ".join(f"{value:.0f}" for value in mean)
        return (f"its batch norm on the data has the mean ({shown}): it was trained on pixels as they are, so set "
                "detector.pixel_mean to zeros",)  # fmt: skip
    return ()
