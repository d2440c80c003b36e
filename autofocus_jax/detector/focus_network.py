"""The focus network: a backbone and the FocusPixel head alone. It detects nothing and says where to look again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from autofocus_jax.config import DetectorSettings, TrainingConfig
from autofocus_jax.detector.api import Answer, Detector, Loss, Names, Variables
from autofocus_jax.detector.backbone import Trunk, draw_by_maps
from autofocus_jax.detector.folding import foldable
from autofocus_jax.detector.freezing import freeze
from autofocus_jax.detector.heads import FocusHead
from autofocus_jax.detector.losses import focus_loss, means, trained
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.structures import STRIDE, Array, ChipBatch, TrainBatch


@dataclasses.dataclass(frozen=True)
class FocusNetworkConfig(DetectorSettings):
    """A focus network that goes with a detector of any kind.

    share: px of the picture that it looks at for each px of the detector's level, so 0.5 looks at a quarter of the
    pixels.
    """

    num_classes: int = 1
    focus_channels: int = 64
    share: float = 1.0

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        if not 0.1 <= self.share <= 1:
            yield f"detector.share {self.share}; want 0.1 to 1"
        if not 1 <= self.focus_channels <= 1024:
            yield f"detector.focus_channels {self.focus_channels}; want 1 to 1024"


class Network(Trunk):
    """Flax module that owns all parameters; `maps` are logits [B, h, w, 2], background first."""

    config: FocusNetworkConfig

    def setup(self):
        super().setup()
        self.focus_head = FocusHead(self.config.focus_channels, jnp.dtype(self.config.compute_dtype))

    def maps(self, pixels: Array, size: Array, train: bool) -> Array:
        return self.focus_head(self.features(pixels, size, train))


_NAMES = Names(settings=dict.fromkeys(("backbone", "pixel_mean", "pixel_deviation"), "backbone"), classes=())


def focus_network(settings: FocusNetworkConfig) -> Detector:
    """Return the network of these settings as a detector without detections."""
    return foldable(focus_network, settings, _NAMES, init=init, look=look, answer=nothing, loss=loss)


def init(config: FocusNetworkConfig, key: Array) -> Variables:
    """Draw random parameters; batch statistics have mean 0 and variance 1."""
    return draw_by_maps(Network(config), key)


def look(config: FocusNetworkConfig, variables: Variables, chips: ChipBatch) -> tuple[Array, Array]:
    """Return the filled rows, for `nothing`, and the focus map [B, H/16, W/16]."""
    logits: Any = Network(config).apply(variables, chips.pixels, chips.size, False, method="maps")
    inside = true_cells(chips.size, logits.shape[1], logits.shape[2], STRIDE)[..., 0] & chips.valid[:, None, None]
    return chips.valid, jnp.where(inside, jax.nn.softmax(logits, axis=-1)[..., 1], 0)


def nothing(config: FocusNetworkConfig, variables: Variables, rows: Array) -> Answer:
    """Return boxes, scores and valid of no detection for each of the rows."""
    count = len(rows)
    return jnp.zeros((count, 0, 4)), jnp.zeros((count, 0, config.num_classes)), jnp.zeros((count, 0), bool)


def loss(
    config: FocusNetworkConfig, training: TrainingConfig, variables: Variables, batch: TrainBatch, key: Array,
    axis: str | None = None,
) -> Loss:  # fmt: skip
    """Return the FocusPixel loss of a batch, and the updated batch statistics; arguments as two_stage_loss.loss."""
    network = Network(config, training.frozen_stages, axis if training.synchronised_norm else None)
    logits, statistics = trained(network, freeze(config, training, variables), batch)
    parts = means({"focus": focus_loss(logits, batch.focus)}, batch.chips.valid, axis)
    return parts["focus"], (parts, statistics)
