"""The detector as pure functions: init, forward, detect, and propose, which training shares with detection."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from autofocus_jax.boxes import clip
from autofocus_jax.config import DetectorConfig
from autofocus_jax.detector.anchors import anchors_at
from autofocus_jax.detector.backbone import backbone
from autofocus_jax.detector.coding import decode
from autofocus_jax.detector.heads import BoxHead, FocusHead, ProposalHead
from autofocus_jax.detector.nms import nms
from autofocus_jax.detector.resnet import true_cells
from autofocus_jax.structures import STRIDE, Array, ChipBatch, DetectorOutput

GRID = 16  # cells; sides of the maps that RoIs are pooled from are multiples of it in inference
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


class Seen(NamedTuple):
    """What the convolutions leave for `answer`: its shapes are the same for many buckets. M = proposals_before_nms."""

    features: Array  # [B, H, W, R] at stride 16, what RoIs are pooled from; zero outside the true size
    scores: Array  # [B, M] of the best anchors, best first; -1 in rows that hold none
    deltas: Array  # [B, M, 4]
    anchors: Array  # [B, M, 4], chip frame
    size: Array  # [B, 2] int, true (height, width), px
    slots: Array  # [B, N] bool, the proposals that each chip may have; N serves many buckets
    valid: Array  # [B] bool, False for empty rows


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

    def reduced(self, features: Array) -> Array:
        return self.box_head.reduced(features)

    def box(self, reduced: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        return self.box_head(reduced, rois, size)

    def classify(self, features: Array, rois: Array, size: Array | None = None) -> tuple[Array, Array]:
        return self.box(self.reduced(features), rois, size)


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


def candidates(config: DetectorConfig, maps: Maps, size: Array) -> tuple[Array, Array, Array]:
    """The anchors of highest score, best first: scores [B, M], deltas [B, M, 4], anchors [B, M, 4] in the chip frame.

    As in the authors' release, cells that the true size does not fill never propose; unlike there, a chip
    below 16 px keeps its one cell. M = config.proposals_before_nms; rows that hold no anchor have score -1.

    Args: size: [B, 2] int, true (height, width), px.
    """
    _, height, width, _, shapes = maps.proposal_logits.shape
    scores = jax.nn.softmax(maps.proposal_logits, axis=3)[..., 1, :]
    filled = true_cells(jnp.maximum(size // STRIDE, 1) * STRIDE, height, width, STRIDE)
    scores = jnp.where(filled, scores, -1).reshape(size.shape[0], -1)
    deltas = maps.proposal_deltas.reshape(size.shape[0], -1, 4)
    # Rows without an anchor come last, so that even the smallest map has M rows.
    scores = jnp.pad(scores, ((0, 0), (0, config.proposals_before_nms)), constant_values=-1)
    best, order = jax.lax.top_k(scores, config.proposals_before_nms)
    order = jnp.minimum(order, height * width * shapes - 1)
    return best, jnp.take_along_axis(deltas, order[..., None], axis=1), anchors_at(order, width, config.anchors)


def suppressed(
    config: DetectorConfig, scores: Array, deltas: Array, references: Array, size: Array, slots: Array
) -> Proposals:
    """Proposals from `candidates`: anchors moved by their deltas, clipped to the true size and thinned by NMS.

    Args:
      size: [B, 2] int, true (height, width), px.
      slots: [B, N] bool, True for the first rows, as many as a chip may have.

    Returns: N rows a chip.
    """
    least = config.proposal_least_side

    def one_chip(best, deltas, references, size, slots):
        boxes = clip(decode(deltas, references), size[0], size[1])
        low = jnp.minimum(boxes[:, :2], jnp.maximum(size[::-1] - least, 0))
        boxes = jnp.concatenate([low, jnp.maximum(boxes[:, 2:], least)], axis=1)
        index, kept = nms(boxes, best >= 0, config.proposal_nms_iou, len(slots), slots.sum())
        return Proposals(jnp.where(kept[:, None], boxes[index], 0), jnp.where(kept, best[index], 0), kept)

    return jax.tree.map(jax.lax.stop_gradient, jax.vmap(one_chip)(scores, deltas, references, size, slots))


def propose(config: DetectorConfig, maps: Maps, size: Array, count: int | None = None) -> Proposals:
    """Where the box head is to look: `candidates`, `suppressed`. Returns N = count rows, default config.proposals."""
    count = config.proposals if count is None else count
    return suppressed(config, *candidates(config, maps, size), size, jnp.ones((len(size), count), bool))


def look(
    config: DetectorConfig, variables: Variables, chips: ChipBatch, masked: bool = True, one_by_one: bool = False
) -> tuple[Seen, Array]:
    """The first part of `detect`, the convolutions: what `answer` needs, and the focus map [B, H/16, W/16].

    The features are padded to multiples of GRID cells, and the number of proposals is a power of two or all of them, so
    that one program of `answer` serves many buckets. masked and one_by_one are those of `forward`. What is not masked
    is not padded either.
    """
    maps = forward(config, variables, chips, masked, one_by_one)
    reduced = Network(config).apply(variables, maps.features, method="reduced")
    focus = jax.nn.softmax(maps.focus_logits, axis=-1)[..., 1]
    inside = true_cells(chips.size, *focus.shape[1:], STRIDE)
    if masked:
        height, width = focus.shape[1:]
        reduced = jnp.pad(reduced * inside, ((0, 0), (0, -height % GRID), (0, -width % GRID), (0, 0)))
    # The bucket sets how many rows there are, a chip's true size how many of them it may use.
    rows = min(1 << (int(proposal_share(config, *chips.pixels.shape[1:3])) - 1).bit_length(), config.proposals)
    own = jnp.reshape(proposal_share(config, chips.size[:, 0], chips.size[:, 1]), (-1, 1))
    slots = jnp.broadcast_to(jnp.arange(rows) < own, (len(chips.pixels), rows))
    seen = Seen(reduced, *candidates(config, maps, chips.size), chips.size, slots, chips.valid)
    return seen, jnp.where(inside[..., 0], focus, 0)


def answer(config: DetectorConfig, variables: Variables, seen: Seen, masked: bool = True) -> tuple[Array, Array, Array]:
    """The second part of `detect`: boxes, scores and valid of DetectorOutput. masked: as in `look`."""
    proposals = suppressed(config, seen.scores, seen.deltas, seen.anchors, seen.size, seen.slots)
    size = seen.size if masked else None
    logits, deltas = Network(config).apply(variables, seen.features, proposals.boxes, size, method="box")
    boxes = decode(deltas, proposals.boxes, config.box_deviations)
    boxes = clip(boxes, seen.size[:, None, 0], seen.size[:, None, 1])
    return boxes, jax.nn.softmax(logits, axis=-1)[..., 1:], proposals.valid & seen.valid[:, None]


def detect(
    config: DetectorConfig, variables: Variables, chips: ChipBatch, masked: bool = True, one_by_one: bool = False
) -> DetectorOutput:
    """Detections and focus map of every chip of a batch; the answer does not depend on the bucket nor on other rows.

    Boxes are clipped to the true size. Nothing is suppressed among the RoIs: focus stacking merges all scales at once.
    masked: as in forward; False reads features past the true size too, and then the bucket does matter.
    one_by_one: as in forward.
    """
    seen, focus = look(config, variables, chips, masked, one_by_one)
    return DetectorOutput(*answer(config, variables, seen, masked), focus)
