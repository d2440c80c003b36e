"""The demo's scenes, scales and rules with a one-stage detector (RetinaNet type) on the same small backbone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from autofocus_jax.config import AnchorConfig, Config
from autofocus_jax.config.load import load_config
from autofocus_jax.detector.one_stage_settings import OneStageConfig

SIZES = tuple(round(14 * 2 ** (step / 2), 1) for step in range(9))  # two an octave, 14 to 224 chip px


def get_config() -> Config:
    demo = load_config(Path(__file__).with_name("demo.py"))
    two_stage = demo.detector
    return dataclasses.replace(
        demo,
        name="demo_one_stage",
        detector=OneStageConfig(
            num_classes=two_stage.num_classes,
            backbone=two_stage.backbone,
            pixel_deviation=two_stage.pixel_deviation,
            anchors=AnchorConfig(ratios=(0.5, 1.0, 2.0), sizes=SIZES),
            head_channels=96,
            head_layers=2,
            focus_channels=64,
            candidates=512,
            detections=128,
            detections_area=512 * 512,
        ),
        shipped=None,
    )
