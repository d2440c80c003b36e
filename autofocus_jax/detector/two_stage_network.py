"""The two-stage detector's network as pure functions: init, forward, look, answer, and propose for training too."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from autofocus_jax.boxes import clip
from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector import dense
from autofocus_jax.detector.api import Answer, Variables
from autofocus_jax.detector.backbone import Trunk
from autofocus_jax.detector.coding import decode
from autofocus_jax.detector.heads import BoxHead, FocusHead, ProposalHead
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.structures import STRIDE, Array, ChipBatch

GRID = 16  # cells; sides of the maps that RoIs are pooled from are multiples of it in inference


class Maps(NamedTuple):
    """Answer of the convolutions for a batch of chips, at stride 16; A anchors a cell."""

    features: Array  # [B, h, w, C]
    proposal_logits: Array  # [B, h, w, 2, A], background first
    proposal_deltas: Array  # [B, h, w, A, 4]
    focus_logits: Array  # [B, h, w, 2], background first


class Proposals(NamedTuple):
    """Boxes for the box head, best first."""

    boxes: Array  # [B, N, 4], chip frame
    scores: Array  # [B, N], probability of an object
    valid: Array  # [B, N] bool


class Seen(NamedTuple):
    """Result of `look` for `answer`. Its shapes are the same for many buckets. M = proposals_before_nms."""

    features: Array  # [B, H, W, R] at stride 16, what RoIs are pooled from; zero outside the true size
    scores: Array  # [B, M] of the best anchors, best first; -1 in rows that hold none
    deltas: Array  # [B, M, 4]
    anchors: Array  # [B, M, 4], chip frame
    size: Array  # [B, 2] int, true (height, width), px
    slots: Array  # [B, N] bool, the proposals that each chip may have; N serves many buckets
    valid: Array  # [B] bool, False for empty rows


class Network(Trunk):
    """Flax module that owns all parameters.

    Call it through `init`, `forward`, `look` and `answer` below.
    """

    config: DetectorConfig

    def setup(self):
        super().setup()
        config = self.config
        dtype, shapes = jnp.dtype(config.compute_dtype), len(config.anchors.ratios) * len(config.anchors.sizes)
        self.proposal_head = ProposalHead(config.rpn_channels, shapes, dtype)
        self.focus_head = FocusHead(config.focus_channels, dtype)
        self.box_head = BoxHead(config)

    def __call__(self, pixels: Array, size: Array, rois: Array):
        maps = self.maps(pixels, size, train=False)
        return maps, self.classify(maps.features, rois)

    def maps(self, pixels: Array, size: Array, train: bool, masked: bool = True) -> Maps:
        features = self.features(pixels, size, train, masked)
        logits, deltas = self.proposal_head(features)
        return Maps(features, logits, deltas, self.focus_head(features))

    def reduced(self, features: Array) -> Array:
        return self.box_head.reduced(features)

    def box(self, reduced: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        return self.box_head(reduced, rois, size)

    def classify(self, features: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        return self.box(self.reduced(features), rois, size)


def init(config: DetectorConfig, key: Array) -> Variables:
    """Draw random parameters; batch statistics have mean 0 and variance 1."""
    side = 4 * STRIDE
    pixels, size = jnp.zeros((1, side, side, 3), jnp.uint8), jnp.full((1, 2), side)
    return {"batch_stats": {}} | jax.jit(Network(config).init)(key, pixels, size, jnp.zeros((1, 1, 4)))


def forward(config: DetectorConfig, variables: Variables, chips: ChipBatch, masked: bool = True) -> Maps:
    """Run the convolutions on a batch of chips, with the running batch statistics.

    Args:
        config: settings of the detector.
        variables: parameters and batch statistics.
        chips: the batch.
        masked: set features to zero outside the true size, so that the answer does not depend on the bucket. False is
            the authors' network, which zeroes only its input.
    """
    maps: Any = Network(config).apply(variables, chips.pixels, chips.size, False, masked, method="maps")
    return maps


def candidates(config: DetectorConfig, maps: Maps, size: Array) -> tuple[Array, Array, Array]:
    """Return the anchors of highest score, best first, M = config.proposals_before_nms.

    Args:
        config: settings of the detector.
        maps: answer of the convolutions.
        size: [B, 2] int, true (height, width), px.

    Returns:
        scores [B, M] (-1 for rows without an anchor), deltas [B, M, 4], anchors [B, M, 4] in the chip frame.
    """
    scores = jax.nn.softmax(maps.proposal_logits, axis=3)[..., 1, :]
    best, order, references = dense.best_anchors(scores, size, config.proposals_before_nms, config.anchors)
    deltas = maps.proposal_deltas.reshape(size.shape[0], -1, 4)
    return best, jnp.take_along_axis(deltas, order[..., None], axis=1), references


def suppressed(
    config: DetectorConfig, scores: Array, deltas: Array, references: Array, size: Array, slots: Array
) -> Proposals:
    """Return proposals from `candidates`, one for each of `slots`: dense.suppressed with the config's settings."""
    found = dense.suppressed(
        scores, deltas, references, size, slots, config.proposal_nms_iou, config.proposal_least_side
    )
    boxes, index, kept = jax.tree.map(jax.lax.stop_gradient, found)
    best = jax.lax.stop_gradient(jnp.take_along_axis(scores, index, axis=1))
    return Proposals(boxes, jnp.where(kept, best, 0), kept)


def propose(config: DetectorConfig, maps: Maps, size: Array, count: int | None = None) -> Proposals:
    """Return proposals for the box head: `candidates`, then `suppressed`.

    N = count rows, by default config.proposals.
    """
    count = config.proposals if count is None else count
    return suppressed(config, *candidates(config, maps, size), size, jnp.ones((len(size), count), bool))


def look(config: DetectorConfig, variables: Variables, chips: ChipBatch, masked: bool = True) -> tuple[Seen, Array]:
    """Run the convolutions: return the input of `answer`, and the focus map [B, H/16, W/16].

    Features are padded to multiples of GRID cells, and the number of proposals is one of few (dense.slots). So one
    program of `answer` serves many buckets. masked: as in `forward`. Without `masked` nothing is padded.
    """
    maps = forward(config, variables, chips, masked)
    reduced: Any = Network(config).apply(variables, maps.features, method="reduced")
    focus = jax.nn.softmax(maps.focus_logits, axis=-1)[..., 1]
    inside = true_cells(chips.size, focus.shape[1], focus.shape[2], STRIDE)
    if masked:
        height, width = focus.shape[1:]
        reduced = jnp.pad(reduced * inside, ((0, 0), (0, -height % GRID), (0, -width % GRID), (0, 0)))
    settings = config.proposals, config.proposals_least, config.proposals_area
    slots = dense.slots(*settings, chips.size, *chips.pixels.shape[1:3])
    seen = Seen(reduced, *candidates(config, maps, chips.size), chips.size, slots, chips.valid)
    return seen, jnp.where(inside[..., 0], focus, 0)


def answer(config: DetectorConfig, variables: Variables, seen: Seen, masked: bool = True) -> Answer:
    """Run the second part of detection: return boxes, scores and valid of DetectorOutput. masked: as in `look`."""
    proposals = suppressed(config, seen.scores, seen.deltas, seen.anchors, seen.size, seen.slots)
    size = seen.size if masked else None
    found: Any = Network(config).apply(variables, seen.features, proposals.boxes, size, method="box")
    logits, deltas = found
    boxes = decode(deltas, proposals.boxes, config.box_deviations)
    boxes = clip(boxes, seen.size[:, None, 0], seen.size[:, None, 1])
    return boxes, jax.nn.softmax(logits, axis=-1)[..., 1:], proposals.valid & seen.valid[:, None]
