"""The two-stage detector of the paper: region proposals, RoI pooling, boxes and FocusPixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector import two_stage_loss, two_stage_network
from autofocus_jax.detector.api import Answer, Detector, Names, Variables
from autofocus_jax.detector.folding import foldable
from autofocus_jax.detector.two_stage_network import candidates, forward, suppressed
from autofocus_jax.structures import Array, ChipBatch

_NAMES = Names(
    settings={
        "backbone": "backbone", "pixel_mean": "backbone", "pixel_deviation": "backbone", "anchors": "proposal_head",
        "roi_size": "box_head", "roi_pooling": "box_head", "box_deviations": "box_head",
    },
    classes=("params/box_head/logits/kernel", "params/box_head/logits/bias"),  # boxes are one for all classes
    proposals=("hard_rois", "roi_batch", "roi_foreground", "roi_foreground_iou", "focus_weight"),
    foreign={
        "rpn_conv_3x3": "proposal_head/conv",
        "rpn_cls_score": "proposal_head/logits",
        "rpn_bbox_pred": "proposal_head/deltas",
        "conv_new_1": "box_head/reduce",
        "offset": "box_head/offset",
        "fc_new_1": "box_head/fc1",
        "fc_new_2": "box_head/fc2",
        "cls_score": "box_head/logits",
        "bbox_pred": "box_head/deltas",
        "conv_new_2": "focus_head/conv1",
        "conv_new_3": "focus_head/conv2",
        "conv_new_out": "focus_head/logits",
    },
    pooled=("box_head/offset", "box_head/fc1"),
)  # fmt: skip


def two_stage(settings: DetectorConfig) -> Detector:
    """Return the detector of these settings."""
    network = two_stage_network
    stage = two_stage_loss.proposal_stage_loss
    proposals: dict[str, Callable] = {"look": look_for_proposals, "answer": answer_proposals, "loss": stage}
    return foldable(
        two_stage, settings, _NAMES, proposals, init=network.init, look=network.look, answer=network.answer,
        loss=two_stage_loss.loss,
    )  # fmt: skip


def look_for_proposals(config: DetectorConfig, variables: Variables, chips: ChipBatch) -> tuple[Any, Array]:
    """Run the first part of the region proposals as detections; N = config.proposals for every chip, whatever its size.

    The focus map [B, H/16, W/16] is 0, so the rules must be chips.whole_level.
    """
    maps = forward(config, variables, chips)
    slots = jnp.ones((len(chips.size), config.proposals), bool)
    seen = *candidates(config, maps, chips.size), chips.size, slots, chips.valid
    return seen, jnp.zeros(maps.focus_logits.shape[:3], jnp.float32)


def answer_proposals(config: DetectorConfig, variables: Variables, seen: Any) -> Answer:
    """Run the second part of the region proposals; the probability of an object is the one class."""
    *of_anchors, valid = seen
    found = suppressed(config, *of_anchors)
    return found.boxes, found.scores[..., None], found.valid & valid[:, None]
