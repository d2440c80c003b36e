"""The region proposals alone as an answer of the detector, for what runs them through the cascade."""

from __future__ import annotations

import jax.numpy as jnp

from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector.model import Variables, forward, propose
from autofocus_jax.structures import ChipBatch, DetectorOutput


def region_proposals(config: DetectorConfig, variables: Variables, chips: ChipBatch) -> DetectorOutput:
    """As model.detect, but the boxes are the proposals themselves, and the probability of an object their one class.

    N = config.proposals of every chip, whatever its size. The focus map [B, H/16, W/16] is 0: rules that make chips
    from it must be chips.whole_level.
    """
    maps = forward(config, variables, chips)
    found = propose(config, maps, chips.size)
    return DetectorOutput(
        boxes=found.boxes,
        scores=found.scores[..., None],
        valid=found.valid & chips.valid[:, None],
        focus=jnp.zeros(maps.focus_logits.shape[:3], jnp.float32),
    )
