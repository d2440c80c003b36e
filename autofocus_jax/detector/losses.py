"""The loss of section 4.1: region proposals and boxes as in Faster R-CNN with SNIP's ranges, plus FocusPixels."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from autofocus_jax.config import DetectorConfig, TrainingConfig
from autofocus_jax.detector.anchors import anchors
from autofocus_jax.detector.coding import encode
from autofocus_jax.detector.matching import OBJECT, match, sample
from autofocus_jax.detector.model import Maps, Network, Variables, propose
from autofocus_jax.detector.resnet import true_cells
from autofocus_jax.structures import FOCUS, IGNORE, STRIDE, Array, TrainBatch


def loss(
    config: DetectorConfig, training: TrainingConfig, variables: Variables, batch: TrainBatch, key: Array
) -> tuple[Array, tuple[dict[str, Array], Variables]]:
    """Total loss of a batch, its parts, and the updated batch statistics.

    loss = proposal_class + proposal_box + box_class + box + focus_weight * focus. Rows of the batch that are not
    valid add nothing. key: draws the anchors and RoIs that train.
    """
    network = Network(config)
    if config.frozen_norm:
        variables = freeze_norms(variables)
    maps, updates = network.apply(
        variables, batch.chips.pixels, batch.chips.size, True, method="maps", mutable="batch_stats"
    )
    keys = jax.random.split(key, (2, batch.chips.pixels.shape[0]))
    rows = batch.chips.valid.astype(jnp.float32)
    parts = proposal_loss(config, training, maps, batch, keys[0])
    rois, targets = sample_rois(config, training, maps, batch, keys[1])
    logits, deltas = network.apply(variables, maps.features, rois, batch.chips.size, method="classify")
    parts |= box_loss(config, training, logits, deltas, rois, targets)
    parts |= {"focus": focus_loss(maps.focus_logits, batch.focus)}
    parts = {name: (value * rows).sum() / jnp.maximum(rows.sum(), 1) for name, value in parts.items()}
    total = sum(parts.values()) + (training.focus_weight - 1) * parts["focus"]
    return total, (parts, updates["batch_stats"])


def freeze_norms(variables: Variables) -> Variables:
    """The same values, but no gradient flows to scales and shifts of layers that have batch statistics."""

    def freeze(params, statistics):
        if all(isinstance(value, Mapping) for value in statistics.values()):
            return {name: freeze(value, statistics[name]) if name in statistics else value
                    for name, value in params.items()}  # fmt: skip
        return jax.tree.map(jax.lax.stop_gradient, params)

    return {**variables, "params": freeze(variables["params"], variables["batch_stats"])}


def focus_loss(logits: Array, labels: Array) -> Array:
    """Cross-entropy of each chip [B], averaged over its cells that are not IGNORE, without re-weighting (section 4.1).

    logits: [B, h, w, 2], background first. labels: [B, h, w] of FOCUS, BACKGROUND, IGNORE.
    """
    used = (labels != IGNORE).astype(jnp.float32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, (labels == FOCUS).astype(jnp.int32))
    return (entropy * used).sum((1, 2)) / jnp.maximum(used.sum((1, 2)), 1)


def proposal_loss(
    config: DetectorConfig, training: TrainingConfig, maps: Maps, batch: TrainBatch, keys: Array
) -> dict[str, Array]:
    """Losses [B] of the region proposal network on rpn_batch random anchors a chip."""
    count, height, width = maps.proposal_logits.shape[:3]
    references = jnp.asarray(anchors(height, width, config.anchors)).reshape(-1, 4)
    inside = true_cells(batch.chips.size, height, width, STRIDE)
    inside = jnp.broadcast_to(inside, maps.proposal_deltas.shape[:4]).reshape(count, -1)

    def one_chip(key, logits, deltas, inside, boxes, labels, present, trainable):
        found = match(
            references, boxes, labels, present, trainable,
            positive_iou=training.rpn_positive_iou, negative_iou=training.rpn_negative_iou,
            ignore_iou=training.rpn_ignore_iou, best_is_positive=True,
        )  # fmt: skip
        chosen = sample(key, jnp.where(inside, found.label, IGNORE), training.rpn_batch, 0.5)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, chosen.positive.astype(jnp.int32))
        return _class_and_box_loss(
            "proposal_", chosen, entropy, deltas, _targets(boxes[found.index], references, chosen.positive),
            training.rpn_batch, training.rpn_box_weight,
        )  # fmt: skip

    logits = jnp.moveaxis(maps.proposal_logits, 3, -1).reshape(count, -1, 2)
    deltas = maps.proposal_deltas.reshape(count, -1, 4)
    return jax.vmap(one_chip)(keys, logits, deltas, inside, batch.boxes, batch.labels, batch.present, batch.trainable)


def sample_rois(
    config: DetectorConfig, training: TrainingConfig, maps: Maps, batch: TrainBatch, keys: Array
) -> tuple[Array, tuple]:
    """roi_batch RoIs a chip, from the proposals and the trainable boxes themselves.

    Returns: rois [B, R, 4] chip frame, and (label [B, R] int32: 0 background, 1..K, -1 unused; box [B, R, 4] the
    object of each).
    """
    proposals = propose(config, maps, batch.chips.size)

    def one_chip(key, proposed, valid, boxes, labels, present, trainable):
        candidates = jnp.concatenate([proposed, boxes])
        usable = jnp.concatenate([valid, trainable])
        found = match(
            candidates, boxes, labels, present, trainable,
            positive_iou=training.roi_foreground_iou, negative_iou=training.roi_foreground_iou,
            ignore_iou=training.roi_foreground_iou, best_is_positive=False,
        )  # fmt: skip
        chosen = sample(key, jnp.where(usable, found.label, IGNORE), training.roi_batch, training.roi_foreground)
        used = chosen.positive | chosen.negative
        _, order = jax.lax.top_k(2 * chosen.positive + 1 * used, min(training.roi_batch, len(candidates)))
        label = jnp.where(found.label == OBJECT, labels[found.index] + 1, 0)
        return candidates[order], (jnp.where(used, label, IGNORE)[order], boxes[found.index[order]])

    return jax.vmap(one_chip)(
        keys, proposals.boxes, proposals.valid, batch.boxes, batch.labels, batch.present, batch.trainable
    )


def box_loss(
    config: DetectorConfig, training: TrainingConfig, logits: Array, deltas: Array, rois: Array, targets: tuple
) -> dict[str, Array]:
    """Losses [B] of the box head on the sampled RoIs: logits [B, R, K + 1], deltas [B, R, 4]."""
    label, boxes = targets
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    goal = _targets(boxes, rois, label > 0, config.box_deviations)
    entropy = (entropy * (label >= 0)).sum(1) / training.roi_batch
    distance = (optax.huber_loss(deltas, goal).sum(-1) * (label > 0)).sum(1) / training.roi_batch
    return {"box_class": entropy, "box": distance}


def _targets(boxes: Array, references: Array, positive: Array, deviations=(1.0, 1.0, 1.0, 1.0)) -> Array:
    """Deltas of the positive rows; 0 elsewhere, where a side may be 0 and its logarithm would poison the gradient."""
    unit = jnp.asarray([0.0, 0.0, 1.0, 1.0])
    boxes = jnp.where(positive[..., None], boxes, unit)
    references = jnp.where(positive[..., None], references, unit)
    return encode(boxes, references, deviations)


def _class_and_box_loss(prefix, chosen, entropy, deltas, targets, count, box_weight):
    used = chosen.positive | chosen.negative
    distance = optax.huber_loss(deltas, targets).sum(-1)
    return {
        prefix + "class": (entropy * used).sum() / count,
        prefix + "box": box_weight * (distance * chosen.positive).sum() / count,
    }
