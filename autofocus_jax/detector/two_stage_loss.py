"""The loss of section 4.1: region proposals and boxes as in Faster R-CNN with SNIP's ranges, plus FocusPixels."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from autofocus_jax.config import DetectorConfig, TrainingConfig
from autofocus_jax.detector.anchors import anchors
from autofocus_jax.detector.api import Loss, Variables
from autofocus_jax.detector.freezing import freeze
from autofocus_jax.detector.losses import delta_targets, focus_loss, means, row_keys, trained
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.matching import OBJECT, hardest, match, sample
from autofocus_jax.detector.two_stage_network import Maps, Network, propose
from autofocus_jax.structures import IGNORE, STRIDE, Array, TrainBatch


def loss(
    config: DetectorConfig, training: TrainingConfig, variables: Variables, batch: TrainBatch, key: Array,
    axis: str | None = None,
) -> Loss:  # fmt: skip
    """Return the total loss of a batch, its parts, and the updated batch statistics.

    loss = proposal_class + proposal_box + box_class + box + focus_weight * focus. Each part is the mean over the valid
    rows; other rows add nothing.

    Args:
        config: settings of the detector.
        training: settings of the training.
        variables: parameters and batch statistics.
        batch: chips and targets.
        key: draws the anchors and RoIs that train, for each row by its number.
        axis: mapped axis over devices that each hold a slice of the batch. Results are then the device's share of the
            whole batch's means: their sum over the axis is the result of one device for the whole batch. Batch
            statistics stay those of the device, unless training.synchronised_norm is set.
    """
    network, maps, statistics = _maps(config, training, variables, batch, axis)
    keys = row_keys(key, batch.chips.valid.shape[0], axis)
    parts = proposal_loss(config, training, maps, batch, keys[:, 0])
    if training.hard_rois:
        rois, targets = roi_candidates(config, training, maps, batch)
    else:
        rois, targets = sample_rois(config, training, maps, batch, keys[:, 1])
    found: Any = network.apply(variables, maps.features, rois, batch.chips.size, method="classify")
    logits, deltas = found
    parts |= box_loss(config, training, logits, deltas, rois, targets)
    parts |= {"focus": focus_loss(maps.focus_logits, batch.focus)}
    parts = means(parts, batch.chips.valid, axis)
    total = sum(parts.values()) + (training.focus_weight - 1) * parts["focus"]
    return total, (parts, statistics)


def proposal_stage_loss(
    config: DetectorConfig, training: TrainingConfig, variables: Variables, batch: TrainBatch, key: Array,
    axis: str | None = None,
) -> Loss:  # fmt: skip
    """Return `loss` with the two parts of the region proposals alone.

    The short training with this loss makes the proposals for negative chips (section 3.2 of SNIPER).
    """
    _, maps, statistics = _maps(config, training, variables, batch, axis)
    keys = row_keys(key, batch.chips.valid.shape[0], axis)
    parts = means(proposal_loss(config, training, maps, batch, keys[:, 0]), batch.chips.valid, axis)
    return jax.tree.reduce(operator.add, parts), (parts, statistics)


def _maps(
    config: DetectorConfig, training: TrainingConfig, variables: Variables, batch: TrainBatch, axis: str | None
) -> tuple[Network, Maps, Variables]:
    """The network, its convolutions' answer in training, and the updated batch statistics."""
    network = Network(config, training.frozen_stages, axis if training.synchronised_norm else None)
    maps, statistics = trained(network, freeze(config, training, variables), batch)
    return network, maps, statistics


def proposal_loss(
    config: DetectorConfig, training: TrainingConfig, maps: Maps, batch: TrainBatch, keys: Array
) -> dict[str, Array]:
    """Return the losses [B] of the region proposal network on rpn_batch random anchors a chip."""
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
            "proposal_", chosen, entropy, deltas, delta_targets(boxes[found.index], references, chosen.positive),
            training.rpn_batch, training.rpn_box_weight,
        )  # fmt: skip

    logits = jnp.moveaxis(maps.proposal_logits, 3, -1).reshape(count, -1, 2)
    deltas = maps.proposal_deltas.reshape(count, -1, 4)
    return jax.vmap(one_chip)(keys, logits, deltas, inside, batch.boxes, batch.labels, batch.present, batch.trainable)


def roi_candidates(
    config: DetectorConfig, training: TrainingConfig, maps: Maps, batch: TrainBatch
) -> tuple[Array, tuple[Array, Array]]:
    """Return all RoIs of a chip that could train: the proposals and the trainable boxes.

    Returns:
        rois [B, N, 4] chip frame, and (label [B, N] int32: 0 background, 1..K, -1 unused; box [B, N, 4], the object of
        each).
    """
    proposals = propose(config, maps, batch.chips.size)

    def one_chip(proposed, valid, boxes, labels, present, trainable):
        candidates = jnp.concatenate([proposed, boxes])
        usable = jnp.concatenate([valid, trainable])
        found = match(
            candidates, boxes, labels, present, trainable,
            positive_iou=training.roi_foreground_iou, negative_iou=training.roi_foreground_iou,
            ignore_iou=training.roi_foreground_iou, best_is_positive=False,
        )  # fmt: skip
        label = jnp.where(found.label == OBJECT, labels[found.index] + 1, found.label)
        return candidates, (jnp.where(usable, label, IGNORE), boxes[found.index])

    return jax.vmap(one_chip)(
        proposals.boxes, proposals.valid, batch.boxes, batch.labels, batch.present, batch.trainable
    )


def sample_rois(
    config: DetectorConfig, training: TrainingConfig, maps: Maps, batch: TrainBatch, keys: Array
) -> tuple[Array, tuple[Array, Array]]:
    """Draw roi_batch RoIs a chip from roi_candidates; the result has the same form."""

    def one_chip(key, candidates, label, boxes):
        chosen = sample(key, jnp.minimum(label, OBJECT), training.roi_batch, training.roi_foreground)
        used = chosen.positive | chosen.negative
        _, order = jax.lax.top_k(2 * chosen.positive + 1 * used, min(training.roi_batch, len(candidates)))
        return candidates[order], (jnp.where(used, label, IGNORE)[order], boxes[order])

    rois, (label, boxes) = roi_candidates(config, training, maps, batch)
    return jax.vmap(one_chip)(keys, rois, label, boxes)


def box_loss(
    config: DetectorConfig, training: TrainingConfig, logits: Array, deltas: Array, rois: Array, targets: tuple
) -> dict[str, Array]:
    """Return the losses [B] of the box head on training RoIs: logits [B, R, K + 1], deltas [B, R, 4].

    With hard_rois only the roi_batch RoIs of a chip with the highest sum of class and box loss count (OHEM).
    """
    label, boxes = targets
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    goal = delta_targets(boxes, rois, label > 0, config.box_deviations)
    distance = optax.huber_loss(deltas, goal).sum(-1) * (label > 0)
    used = label >= 0
    if training.hard_rois:
        cost = jax.lax.stop_gradient(entropy + distance)
        used = jax.vmap(partial(hardest, count=training.roi_batch))(cost, label)
    entropy = (entropy * used).sum(1) / training.roi_batch
    return {"box_class": entropy, "box": (distance * used).sum(1) / training.roi_batch}


def _class_and_box_loss(prefix, chosen, entropy, deltas, targets, count, box_weight):
    used = chosen.positive | chosen.negative
    distance = optax.huber_loss(deltas, targets).sum(-1)
    return {
        prefix + "class": (entropy * used).sum() / count,
        prefix + "box": box_weight * (distance * chosen.positive).sum() / count,
    }
