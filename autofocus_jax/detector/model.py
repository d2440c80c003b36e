"""The detector as pure functions: init, forward, detect, and propose, which training shares with detection."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from autofocus_jax.boxes import clip
from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector.anchors import anchors
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.coding import decode
from autofocus_jax.detector.heads import BoxHead, FocusHead, ProposalHead
from autofocus_jax.detector.nms import nms
from autofocus_jax.detector.resnet import true_cells
from autofocus_jax.structures import STRIDE, Array, ChipBatch, DetectorOutput

Variables = Any  # {"params": ..., "batch_stats": ...}, nested dicts of float32 arrays


class Maps(NamedTuple):
    """What the convolutions answer for a batch of chips, at stride 16; A anchors a cell."""

    features: Array  # [B, h, w, C]
    proposal_logits: Array  # [B, h, w, 2, A], background first
    proposal_deltas: Array  # [B, h, w, A, 4]
    focus_logits: Array  # [B, h, w, 2], background first


class Proposals(NamedTuple):
    """Where the box head looks, best first."""

    boxes: Array  # [B, N, 4], chip frame
    scores: Array  # [B, N], probability of an object
    valid: Array  # [B, N] bool


class Network(nn.Module):
    """The parameters of the detector; the functions below say what is done with them.

    frozen_stages, axis: of the batch norms in training, as in resnet.ResNet.
    """

    config: DetectorConfig
    frozen_stages: int = 0
    axis: str | None = None

    def setup(self):
        config = self.config
        dtype, shapes = jnp.dtype(config.compute_dtype), len(config.anchors.ratios) * len(config.anchors.sizes)
        self.backbone = backbone(config.backbone, dtype, self.frozen_stages, self.axis)
        self.proposal_head = ProposalHead(config.rpn_channels, shapes, dtype)
        self.focus_head = FocusHead(config.focus_channels, dtype)
        self.box_head = BoxHead(config)

    def __call__(self, pixels: Array, size: Array, rois: Array):
        maps = self.maps(pixels, size, train=False)
        return maps, self.classify(maps.features, rois)

    def maps(self, pixels: Array, size: Array, train: bool, masked: bool = True) -> Maps:
        images = (pixels.astype(jnp.float32) - jnp.asarray(self.config.pixel_mean)) / jnp.asarray(
            self.config.pixel_deviation
        )
        if not masked:  # only the input is zero outside the true size, and the whole map counts as filled
            images = images * true_cells(size, *images.shape[1:3], 1)
            size = jnp.broadcast_to(jnp.asarray(images.shape[1:3]), size.shape)
        features = self.backbone(images, size, train and not self.config.frozen_norm)
        return Maps(features, *self.proposal_head(features), self.focus_head(features))

    def classify(self, features: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        return self.box_head(features, rois, size)


def init(key: Array, config: DetectorConfig) -> Variables:
    """Random parameters, and batch statistics of mean 0 and variance 1."""
    side = 4 * STRIDE
    pixels, size = jnp.zeros((1, side, side, 3), jnp.uint8), jnp.full((1, 2), side)
    return jax.jit(Network(config).init)(key, pixels, size, jnp.zeros((1, 1, 4)))


def forward(
    config: DetectorConfig, variables: Variables, chips: ChipBatch, masked: bool = True, one_by_one: bool = False
) -> Maps:
    """The convolutions' answer for a batch of chips, with the running batch statistics.

    masked: features are set to zero outside the true size, so that the answer does not depend on the bucket. False is
    the authors' network, which zeroes its input alone.
    one_by_one: chips go through the convolutions one after the other. The answer is the same; on a CPU it takes less
    time for large chips (docs/benchmarks.md), since one chip's maps fit into the cache and their memory is used again.
    """

    def maps(pixels: Array, size: Array) -> Maps:
        return Network(config).apply(variables, pixels, size, False, masked, method="maps")

    if not one_by_one:
        return maps(chips.pixels, chips.size)
    rows = jax.lax.map(lambda chip: maps(*chip), (chips.pixels[:, None], chips.size[:, None]))
    return jax.tree.map(lambda row: row[:, 0], rows)


def classify(
    config: DetectorConfig, variables: Variables, features: Array, rois: Array, size: Array | None = None
) -> tuple[Array, Array]:
    """features [B, h, w, C], rois [B, N, 4] (chip frame) -> logits [B, N, K + 1], background first; deltas [B, N, 4].

    size: [B, 2] int, true (height, width) in px, past which nothing is pooled; by default that of the map.
    """
    return Network(config).apply(variables, features, rois, size, method="classify")


def proposal_share(config: DetectorConfig, height: Any, width: Any) -> Any:
    """How many proposals a chip of this size gets in detection; height, width: px, ints or integer arrays of one shape.

    config.proposals for chips of proposals_area and more, of smaller ones ceil(proposals * cells / cells of that area),
    at least proposals_least.
    """
    if config.proposals_area is None:
        return config.proposals
    cells = -(-height // STRIDE) * -(-width // STRIDE)
    share = -(-config.proposals * cells // (config.proposals_area // STRIDE**2))
    least = min(config.proposals_least, config.proposals)
    clip_to = np.clip if isinstance(share, int) else jnp.clip
    return clip_to(share, least, config.proposals)


def propose(config: DetectorConfig, maps: Maps, size: Array, count: int | None = None) -> Proposals:
    """The best anchors, moved by their deltas, clipped to the true size and thinned by NMS.

    As in the authors' release, cells that the true size does not fill never propose; unlike there, a chip
    below 16 px keeps its one cell.

    Args: size: [B, 2] int, true (height, width). Returns N = count rows a chip, by default config.proposals.
    """
    count = config.proposals if count is None else count
    _, height, width, _, shapes = maps.proposal_logits.shape
    scores = jax.nn.softmax(maps.proposal_logits, axis=3)[..., 1, :]
    filled = true_cells(jnp.maximum(size // STRIDE, 1) * STRIDE, height, width, STRIDE)
    scores = jnp.where(filled, scores, -1).reshape(len(size), -1)
    references = jnp.asarray(anchors(height, width, config.anchors)).reshape(-1, 4)
    deltas = maps.proposal_deltas.reshape(len(size), -1, 4)
    least = config.proposal_least_side
    candidates = min(config.proposals_before_nms, height * width * shapes)

    def one_chip(scores, deltas, size):
        best, order = jax.lax.top_k(scores, candidates)
        boxes = clip(decode(deltas[order], references[order]), size[0], size[1])
        low = jnp.minimum(boxes[:, :2], jnp.maximum(size[::-1] - least, 0))
        boxes = jnp.concatenate([low, jnp.maximum(boxes[:, 2:], least)], axis=1)
        index, kept = nms(boxes, best >= 0, config.proposal_nms_iou, count)
        return Proposals(jnp.where(kept[:, None], boxes[index], 0), jnp.where(kept, best[index], 0), kept)

    return jax.tree.map(jax.lax.stop_gradient, jax.vmap(one_chip)(scores, deltas, size))


def detect(
    config: DetectorConfig, variables: Variables, chips: ChipBatch, masked: bool = True, one_by_one: bool = False
) -> DetectorOutput:
    """Detections and focus map of every chip of a batch; the answer does not depend on the bucket nor on other rows.

    Boxes are clipped to the true size. Nothing is suppressed among the RoIs: focus stacking merges all scales at once.
    masked: as in forward; False reads features past the true size too, and then the bucket does matter.
    one_by_one: as in forward.
    """
    maps = forward(config, variables, chips, masked, one_by_one)
    # The bucket sets how many rows there are, a chip's true size how many of them it may use.
    proposals = propose(config, maps, chips.size, int(proposal_share(config, *chips.pixels.shape[1:3])))
    own = jnp.reshape(proposal_share(config, chips.size[:, 0], chips.size[:, 1]), (-1, 1))
    proposals = proposals._replace(valid=proposals.valid & (jnp.arange(proposals.valid.shape[1]) < own))
    logits, deltas = classify(config, variables, maps.features, proposals.boxes, chips.size if masked else None)
    boxes = decode(deltas, proposals.boxes, config.box_deviations)
    boxes = clip(boxes, chips.size[:, None, 0], chips.size[:, None, 1])
    focus = jax.nn.softmax(maps.focus_logits, axis=-1)[..., 1]
    inside = true_cells(chips.size, *focus.shape[1:], STRIDE)[..., 0]
    return DetectorOutput(
        boxes=boxes,
        scores=jax.nn.softmax(logits, axis=-1)[..., 1:],
        valid=proposals.valid & chips.valid[:, None],
        focus=jnp.where(inside, focus, 0),
    )
