"""Weights of older files keep their meaning when the detector has got more settings."""

import dataclasses

import pytest

from autofocus_jax.checkpoint import CheckpointError, load_variables
from autofocus_jax.config_file import to_dict
from autofocus_jax.weights import safetensors


@pytest.fixture
def older(tmp_path, tiny_config, tiny_variables):
    """Weights whose config was written before kinds of backbone and pooling were settings."""
    settings = to_dict(tiny_config.detector)
    for name in ("kind", "deformable_groups", "folded"):
        del settings["backbone"][name]
    for name in ("roi_pooling", "compute_dtype", "frozen_norm", "proposal_least_side"):
        del settings[name]
    path = tmp_path / "older.safetensors"
    safetensors.save(path, tiny_variables, {"detector": settings})
    return path


def test_what_the_file_does_not_say_is_the_default(older, tiny_config, tiny_variables):
    stored = safetensors.flatten(load_variables(older, tiny_config))
    assert all((stored[name] == array).all() for name, array in safetensors.flatten(tiny_variables).items())


def test_computing_otherwise_is_no_other_detector(older, tiny_config):
    detector = dataclasses.replace(tiny_config.detector, compute_dtype="bfloat16", frozen_norm=True)
    load_variables(older, dataclasses.replace(tiny_config, detector=detector))


def test_another_dilation_is_named(older, tiny_config):
    backbone = dataclasses.replace(tiny_config.detector.backbone, dilation=1)
    detector = dataclasses.replace(tiny_config.detector, backbone=backbone)
    with pytest.raises(CheckpointError, match=r"backbone\.dilation: 2 -> 1\)"):
        load_variables(older, dataclasses.replace(tiny_config, detector=detector))


def test_weights_without_a_config_are_taken_by_their_shapes(tmp_path, tiny_config, tiny_variables):
    path = tmp_path / "bare.safetensors"
    safetensors.save(path, tiny_variables, {})
    load_variables(path, tiny_config)
