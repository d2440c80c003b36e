"""The one-stage detector: its loss (focal loss on all anchors, FocusPixels) and its `Detector` value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from autofocus_jax.config import TrainingConfig
from autofocus_jax.detector import one_stage_network
from autofocus_jax.detector.anchors import anchors
from autofocus_jax.detector.api import Answer, Detector, Loss, Names, Variables
from autofocus_jax.detector.folding import foldable
from autofocus_jax.detector.freezing import freeze
from autofocus_jax.detector.losses import delta_targets, focus_loss, means, total, trained
from autofocus_jax.detector.masks import true_cells
from autofocus_jax.detector.matching import NOTHING, OBJECT, UNUSED, match
from autofocus_jax.detector.one_stage_network import Maps, Network, Seen
from autofocus_jax.detector.one_stage_settings import OneStageConfig
from autofocus_jax.structures import STRIDE, Array, TrainBatch

_NAMES = Names(
    settings={
        "backbone": "backbone", "pixel_mean": "backbone", "pixel_deviation": "backbone", "anchors": "dense_head",
        "box_deviations": "dense_head",
    },
    classes=("params/dense_head/logits/kernel", "params/dense_head/logits/bias"),
)  # fmt: skip


def one_stage(settings: OneStageConfig) -> Detector:
    """Return the detector of these settings."""
    network = one_stage_network
    return foldable(
        one_stage, settings, _NAMES, {"answer": answer_proposals}, init=network.init, look=network.look,
        answer=network.answer, loss=loss,
    )  # fmt: skip


def answer_proposals(config: OneStageConfig, variables: Variables, seen: Seen) -> Answer:
    """Return the detections without their classes."""
    boxes, scores, valid = one_stage_network.answer(config, variables, seen)
    return boxes, scores.max(axis=-1, keepdims=True), valid


def loss(
    config: OneStageConfig, training: TrainingConfig, variables: Variables, batch: TrainBatch, key: Array,
    axis: str | None = None,
) -> Loss:  # fmt: skip
    """Return the total loss of a batch, its parts, and the updated batch statistics.

    loss = class + box_weight * box + focus_weight * focus. Class and box losses are sums over the anchors of all valid
    rows, divided by the number of object anchors. Nothing is drawn at random, so `key` is not used. Arguments are those
    of two_stage_loss.loss.
    """
    network = Network(config, training.frozen_stages, axis if training.synchronised_norm else None)
    maps, statistics = trained(network, freeze(config, training, variables), batch)
    of_anchors, objects = anchor_loss(config, maps, batch)
    valid = batch.chips.valid
    count = jnp.maximum(total(jnp.where(valid, objects, 0), axis), 1)
    parts: dict[str, Array] = {name: jnp.where(valid, value, 0).sum() / count for name, value in of_anchors.items()}
    parts |= means({"focus": focus_loss(maps.focus_logits, batch.focus)}, valid, axis)
    value = parts["class"] + parts["box"] + training.focus_weight * parts["focus"]
    return value, (parts, statistics)


def anchor_loss(config: OneStageConfig, maps: Maps, batch: TrainBatch) -> tuple[dict[str, Array], Array]:
    """Return the losses [B] of each chip, summed over its anchors, and the number [B] of its object anchors."""
    count, height, width, shapes, classes = maps.logits.shape
    references = jnp.asarray(anchors(height, width, config.anchors)).reshape(-1, 4)
    inside = true_cells(batch.chips.size, height, width, STRIDE)
    inside = jnp.broadcast_to(inside, (count, height, width, shapes)).reshape(count, -1)

    def one_chip(logits, deltas, inside, boxes, labels, present, trainable):
        found = match(
            references, boxes, labels, present, trainable, positive_iou=config.positive_iou,
            negative_iou=config.negative_iou, ignore_iou=config.ignore_iou, best_is_positive=True,
        )  # fmt: skip
        label = jnp.where(inside, found.label, UNUSED)
        positive = label == OBJECT
        goal = jax.nn.one_hot(labels[found.index], classes) * positive[:, None]
        focal = optax.sigmoid_focal_loss(logits, goal, alpha=config.focal_alpha, gamma=config.focal_gamma).sum(-1)
        used = positive | (label == NOTHING)
        targets = delta_targets(boxes[found.index], references, positive, config.box_deviations)
        distance = optax.huber_loss(deltas, targets).sum(-1) * positive
        return {"class": (focal * used).sum(), "box": config.box_weight * distance.sum()}, positive.sum()

    logits, deltas = (values.reshape(count, -1, values.shape[-1]) for values in (maps.logits, maps.deltas))
    return jax.vmap(one_chip)(logits, deltas, inside, batch.boxes, batch.labels, batch.present, batch.trainable)
