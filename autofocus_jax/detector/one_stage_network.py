"""The one-stage detector's network and its two parts: scores and boxes of the best anchors, then NMS."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import constant

from autofocus_jax.detector import dense
from autofocus_jax.detector.api import Answer, Variables
from autofocus_jax.detector.backbone import Trunk, draw_by_maps
from autofocus_jax.detector.convolution import convolution
from autofocus_jax.detector.draws import normal
from autofocus_jax.detector.heads import FocusHead
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.one_stage_settings import OneStageConfig
from autofocus_jax.structures import STRIDE, Array, ChipBatch

_PRIOR = 0.01  # probability that every anchor begins with; without it the background's loss drowns all others


class Maps(NamedTuple):
    """Answer of the convolutions for a batch of chips, at stride 16; A anchors a cell."""

    logits: Array  # [B, h, w, A, K], a sigmoid each
    deltas: Array  # [B, h, w, A, 4]
    focus_logits: Array  # [B, h, w, 2], background first


class Seen(NamedTuple):
    """Result of `look` for `answer`. Its shapes are the same for many buckets. M = candidates."""

    best: Array  # [B, M] largest class score of the best anchors, best first; -1 in rows that hold none
    scores: Array  # [B, M, K]
    deltas: Array  # [B, M, 4]
    anchors: Array  # [B, M, 4], chip frame
    size: Array  # [B, 2] int, true (height, width), px
    slots: Array  # [B, N] bool, the detections that each chip may have
    valid: Array  # [B] bool, False for empty rows


class DenseHead(nn.Module):
    """Dense head: 1x1, ReLU, then two subnets of 3x3 convolutions for class logits and deltas of every anchor."""

    channels: int
    layers: int
    anchors: int
    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Array, inside: Array) -> tuple[Array, Array]:
        """Map features [B, h, w, C], inside [B, h, w, 1] to logits [B, h, w, A, K] and deltas [B, h, w, A, 4]."""
        conv = partial(convolution, bias=True, dtype=self.dtype)
        reduced = nn.relu(conv(self.channels, 1, name="reduce")(features)) * inside

        def subnet(name: str, outputs: int, bias: float) -> Array:
            x = reduced
            for layer in range(1, self.layers + 1):
                x = nn.relu(conv(self.channels, 3, name=f"{name}_conv{layer}")(x)) * inside
            last = conv(self.anchors * outputs, 1, kernel_init=normal(0.01), bias_init=constant(bias), name=name)
            return last(x).astype(jnp.float32).reshape(*x.shape[:3], self.anchors, outputs)

        return subnet("logits", self.classes, -math.log(1 / _PRIOR - 1)), subnet("deltas", 4, 0.0)


class Network(Trunk):
    """Flax module that owns all parameters. Call it through `init`, `look` and `answer` below."""

    config: OneStageConfig

    def setup(self):
        super().setup()
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        shapes = len(config.anchors.ratios) * len(config.anchors.sizes)
        self.dense_head = DenseHead(config.head_channels, config.head_layers, shapes, config.num_classes, dtype)
        self.focus_head = FocusHead(config.focus_channels, dtype)

    def maps(self, pixels: Array, size: Array, train: bool) -> Maps:
        features = self.features(pixels, size, train)
        inside = true_cells(size, features.shape[1], features.shape[2], STRIDE)
        logits, deltas = self.dense_head(features, inside)
        return Maps(logits, deltas, self.focus_head(features))


def init(config: OneStageConfig, key: Array) -> Variables:
    """Draw random parameters; batch statistics have mean 0 and variance 1."""
    return draw_by_maps(Network(config), key)


def look(config: OneStageConfig, variables: Variables, chips: ChipBatch) -> tuple[Seen, Array]:
    """Run the convolutions: return the best anchors for `answer`, and the focus map [B, H/16, W/16]."""
    maps: Any = Network(config).apply(variables, chips.pixels, chips.size, False, method="maps")
    focus = jax.nn.softmax(maps.focus_logits, axis=-1)[..., 1]
    inside = true_cells(chips.size, focus.shape[1], focus.shape[2], STRIDE)[..., 0]
    best, order, anchors = dense.best_anchors(
        jax.nn.sigmoid(maps.logits.max(axis=-1)), chips.size, config.candidates, config.anchors
    )
    rows = order[..., None]
    logits, deltas = (
        jnp.take_along_axis(of_cells.reshape(len(order), -1, of_cells.shape[-1]), rows, axis=1)
        for of_cells in (maps.logits, maps.deltas)
    )
    settings = config.detections, config.detections_least, config.detections_area
    slots = dense.slots(*settings, chips.size, *chips.pixels.shape[1:3])
    seen = Seen(best, jax.nn.sigmoid(logits), deltas, anchors, chips.size, slots, chips.valid)
    return seen, jnp.where(inside, focus, 0)


def answer(config: OneStageConfig, variables: Variables, seen: Seen) -> Answer:
    """Return boxes, scores and valid of DetectorOutput: the best anchors after NMS."""
    deltas = seen.deltas * jnp.asarray(config.box_deviations)
    boxes, index, kept = dense.suppressed(seen.best, deltas, seen.anchors, seen.size, seen.slots, config.nms_iou)
    scores = jnp.take_along_axis(seen.scores, index[..., None], axis=1)
    return boxes, jnp.where(kept[..., None], scores, 0), kept & seen.valid[:, None]
