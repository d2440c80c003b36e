"""The authors' names: every array finds its place, in our layout; both forms of the box deltas; what does not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from autofocus_jax.config.load import load_config
from autofocus_jax.detector.kinds import detector_of
from autofocus_jax.weights import sniper
from autofocus_jax.weights.conversion import FitError, fit
from autofocus_jax.weights.fit import strict
from autofocus_jax.weights.safetensors import WeightsError, flatten

BACKBONE = "backbone/stage4_unit1"


@pytest.fixture(scope="module")
def config(narrow_config):
    return load_config(narrow_config)


def changed(config, **settings):
    return dataclasses.replace(config, detector=dataclasses.replace(config.detector, **settings))


def refused(arrays, config, *words):
    with pytest.raises(FitError) as error:
        fit(sniper.convert(arrays, config.detector, "w.params"), config, "w.params")
    message = str(error.value)
    assert message.startswith("w.params (MXNet, ") and "\n" not in message
    for word in words:
        assert word in message, message


def test_every_array_has_a_place(sniper_arrays, config):
    arrays = sniper_arrays()
    assert sniper.is_sniper(arrays)
    foreign = sniper.convert(arrays, config.detector, "w")
    assert foreign.kind == "MXNet, AutoFocus" and foreign.ignored == {"bn_data_gamma": "the network fixes it to 1"}
    assert not foreign.unknown and not foreign.notes and len(set(foreign.origins.values())) == len(arrays) - 1
    fitted = fit(foreign, config, "w")
    strict(fitted.variables, jax.eval_shape(detector_of(config.detector).init, jax.random.key(0)))
    assert fitted.drawn == []
    flat, plain = flatten(fitted.variables), {name[4:]: array for name, array in arrays.items()}
    np.testing.assert_array_equal(
        flat[f"params/{BACKBONE}/conv2/kernel"][2, 0, 3, 5], plain["stage4_unit1_conv2_weight"][5, 3, 2, 0]
    )
    for ours, theirs in {
        f"params/{BACKBONE}/offset/bias": "stage4_unit1_offset_bias", "params/box_head/offset/bias": "offset_bias",
        f"batch_stats/{BACKBONE}/bn2/var": "stage4_unit1_bn2_moving_var",
        f"batch_stats/{BACKBONE}/bn2/mean": "stage4_unit1_bn2_moving_mean",
        f"params/{BACKBONE}/bn2/scale": "stage4_unit1_bn2_gamma",
        f"params/{BACKBONE}/bn2/bias": "stage4_unit1_bn2_beta",
        "params/focus_head/logits/bias": "conv_new_out_bias", "params/proposal_head/deltas/bias": "rpn_bbox_pred_bias",
        "params/backbone/bn_data/bias": "bn_data_beta", "params/box_head/deltas/bias": "bbox_pred_bias",
    }.items():  # fmt: skip
        np.testing.assert_array_equal(flat[ours], plain[theirs])
    np.testing.assert_array_equal(flat["params/box_head/fc2/kernel"], plain["fc_new_2_weight"].T)


@pytest.mark.parametrize("ours, theirs", [("fc1", "fc_new_1_weight"), ("offset", "offset_weight")])
def test_layers_after_pooling_see_channels_last(sniper_arrays, config, ours, theirs):
    """x flattened channel first times theirs = x flattened channel last times ours."""
    arrays = sniper_arrays()
    kernel = sniper.convert(arrays, config.detector, "w").arrays[f"params/box_head/{ours}/kernel"]
    pooled = np.random.default_rng(0).standard_normal((16, 7, 7))
    expected = arrays[f"arg:{theirs}"].astype(np.float64) @ pooled.reshape(-1)
    np.testing.assert_allclose(pooled.transpose(1, 2, 0).reshape(-1) @ kernel, expected, rtol=1e-6, atol=1e-6)


def test_box_deltas_folded_or_not(sniper_arrays, config):
    deviations = np.float32([0.1, 0.1, 0.2, 0.2])
    plain = sniper_arrays()
    weight, bias = plain["arg:bbox_pred_weight"], plain["arg:bbox_pred_bias"]
    tests = {"arg:bbox_pred_weight_test": weight * deviations[:, None], "arg:bbox_pred_bias_test": bias * deviations}
    without = {name: array for name, array in plain.items() if "arg:bbox_pred" not in name}
    renamed = {name.removesuffix("_test"): array for name, array in tests.items()}
    for arrays, folded, ignored in (
        (plain, False, 0), (plain | tests, False, 2), (without | tests, False, 0), (without | renamed, True, 0),
    ):  # fmt: skip
        foreign = sniper.convert(arrays, config.detector, "w", folded_boxes=folded)
        np.testing.assert_allclose(foreign.arrays["params/box_head/deltas/kernel"], weight.T, rtol=1e-6)
        np.testing.assert_allclose(foreign.arrays["params/box_head/deltas/bias"], bias, rtol=1e-6)
        assert len(foreign.ignored) == 1 + ignored and not foreign.unknown
        fit(foreign, config, "w")
    with pytest.raises(WeightsError, match=r"^weights w: bbox_pred_weight_test is not bbox_pred_weight times the"):
        sniper.convert(plain | tests, changed(config, box_deviations=(0.1, 0.1, 0.1, 0.1)).detector, "w")


def test_a_file_without_the_focus_head(sniper_arrays, config):
    arrays = {name: array for name, array in sniper_arrays().items() if "conv_new_2" not in name
              and "conv_new_3" not in name and "conv_new_out" not in name}  # fmt: skip
    foreign = sniper.convert(arrays, config.detector, "w")
    fitted = fit(foreign, config, "w")
    assert foreign.kind == "MXNet, SNIPER without FocusPixels"
    assert fitted.drawn and all(name.startswith("params/focus_head/") for name in fitted.drawn)
    kernel = fitted.variables["params"]["focus_head"]["conv1"]["kernel"]
    assert kernel.shape == (3, 3, 192, 16) and np.std(kernel) > 0


def test_a_backbone_alone(sniper_arrays, config):
    arrays = {name: array for name, array in sniper_arrays().items() if "offset" not in name
              and ("stage" in name or ":bn" in name or "conv0" in name)}  # fmt: skip
    arrays |= {"arg:bn1_gamma": np.ones(128), "aux:bn1_moving_var": np.ones(128), "arg:fc1_weight": np.ones((10, 128))}
    arrays["aux:bn_data_moving_mean"] = np.float32([123, 117, 104])
    foreign = sniper.convert(arrays, config.detector, "w")
    assert foreign.kind == "MXNet, SNIPER's backbone" and len(foreign.ignored) == 4 and not foreign.unknown
    assert "pixel_mean to zeros" in foreign.notes[0]
    fitted = fit(foreign, config, "w")
    parts = {name.split("/")[1] for name in fitted.drawn}
    assert parts == {"proposal_head", "box_head", "focus_head", "backbone"}
    assert all("/offset/" in name for name in fitted.drawn if "/backbone/" in name)
    assert not np.any(fitted.variables["params"]["backbone"]["stage4_unit1"]["offset"]["kernel"])


def test_what_does_not_fit(sniper_arrays, config):
    arrays = sniper_arrays()
    refused(
        arrays,
        changed(config, num_classes=20),
        "the file has 81 class scores, the config 21",
        "2 of another shape",
        "params/box_head/logits/kernel (64, 81) instead of (64, 21) (from cls_score_weight)",
    )
    shallow = dataclasses.replace(config.detector.backbone, units=(1, 1, 2, 1))
    refused(arrays, changed(config, backbone=shallow), "(1, 1, 1, 2) units in its stages, the config (1, 1, 2, 1)",
            "no place for", "missing")  # fmt: skip
    plain = dataclasses.replace(config.detector.backbone, deformable_groups=0)
    refused(arrays, changed(config, backbone=plain), "4 that the config has no place for", "stage4_unit1_offset_weight")
    refused(arrays, changed(config, backbone=dataclasses.replace(plain, kind="v1")), "set detector.backbone.kind")
    refused(arrays, changed(config, roi_pooling="align"), "from offset_weight")
    part = {name: array for name, array in arrays.items() if name != "arg:fc_new_2_bias"}
    refused(part, config, "1 missing: params/box_head/fc2/bias")
    no_offsets = {name: array for name, array in arrays.items() if "unit2_offset" not in name}
    refused(no_offsets, config, "2 missing: params/backbone/stage4_unit2/offset/")
    refused(arrays | {"arg:stage1_unit1_se_weight": np.ones(3)}, config, "stage1_unit1_se_weight")
    assert sniper.convert(arrays | {"arg:mask_weight": np.ones(3)}, config.detector, "w").unknown == ["mask_weight"]
    with pytest.raises(WeightsError, match="'bn0_gamma' twice"):
        sniper.convert(arrays | {"aux:bn0_gamma": np.ones(3)}, config.detector, "w")
    assert not sniper.is_sniper({"resnetv10_conv0_weight": 0})
