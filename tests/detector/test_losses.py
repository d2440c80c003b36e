"""Losses by hand, and finite losses and gradients where a chip holds nothing to learn from."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autofocus_jax.config import TrainingConfig
from autofocus_jax.detector.anchors import anchors
from autofocus_jax.detector.two_stage_loss import box_loss, focus_loss, proposal_loss, roi_candidates, sample_rois
from autofocus_jax.detector.two_stage_network import Maps
from autofocus_jax.structures import BACKGROUND, FOCUS, IGNORE, ChipBatch, TrainBatch

_proposal_loss = jax.jit(proposal_loss, static_argnums=(0, 1))
_roi_candidates = jax.jit(roi_candidates, static_argnums=(0, 1))
_sample_rois = jax.jit(sample_rois, static_argnums=(0, 1))

TRAINING = TrainingConfig(steps=1, batch=2, chip=64, rpn_batch=24, roi_batch=12, max_boxes=4)
CELLS = 4  # 64 px


def batch(*rows, size=(64, 64)):
    """One chip a row; a row is a list of (box, label, trainable)."""
    count, capacity = len(rows), 4
    boxes, labels = np.zeros((count, capacity, 4), np.float32), np.zeros((count, capacity), np.int32)
    present, trainable = np.zeros((count, capacity), bool), np.zeros((count, capacity), bool)
    for row, items in enumerate(rows):
        for column, (box, label, train) in enumerate(items):
            boxes[row, column], labels[row, column], trainable[row, column] = box, label, train
            present[row, column] = True
    chips = ChipBatch(np.zeros((count, 64, 64, 3), np.uint8), np.full((count, 2), size, np.int32), np.ones(count, bool))
    return TrainBatch(chips, boxes, labels, present, trainable, np.full((count, CELLS, CELLS), IGNORE, np.int8))


def maps(config, count, seed=0):
    random, shapes = np.random.default_rng(seed), len(config.anchors.ratios) * len(config.anchors.sizes)
    return Maps(
        random.standard_normal((count, CELLS, CELLS, 32)).astype(np.float32),
        random.standard_normal((count, CELLS, CELLS, 2, shapes)).astype(np.float32),
        0.2 * random.standard_normal((count, CELLS, CELLS, shapes, 4)).astype(np.float32),
        random.standard_normal((count, CELLS, CELLS, 2)).astype(np.float32),
    )


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_focus_loss_by_hand():
    logits = np.zeros((2, 2, 2, 2), np.float32)
    logits[0, 0, 0] = [0, 3]  # a FocusPixel, rightly
    logits[0, 0, 1] = [0, 3]  # background, wrongly
    logits[0, 1] = [[100, -100], [-100, 100]]  # would cost much, but are ignored
    labels = np.array([[[FOCUS, BACKGROUND], [IGNORE, IGNORE]], [[IGNORE] * 2] * 2], np.int8)
    right, wrong = np.log(1 + np.exp(-3)), np.log(1 + np.exp(3))
    np.testing.assert_allclose(focus_loss(logits, labels), [(right + wrong) / 2, 0], rtol=1e-6)
    gradient = jax.grad(lambda x: focus_loss(x, labels).sum())(jnp.asarray(logits))
    assert np.isfinite(gradient).all() and (gradient[1] == 0).all() and (gradient[0, 1] == 0).all()


def test_proposal_loss_by_hand(tiny_detector):
    """One object and a capacity that takes every anchor: the sum over all anchors that are not unused."""
    training = dataclasses.replace(TRAINING, rpn_batch=10_000)
    box = np.array([4, 8, 40, 40], np.float32)
    answer, data = maps(tiny_detector, 1), batch([(box, 1, True)])
    parts = _proposal_loss(tiny_detector, training, answer, data, keys(1))
    references = anchors(CELLS, CELLS, tiny_detector.anchors).reshape(-1, 4)
    overlap = np.array([_iou(box, reference) for reference in references])
    positive = (overlap >= 0.5) | (overlap >= overlap.max() - 1e-6)
    negative = (overlap < 0.4) & ~positive
    assert positive.sum() >= 2 and negative.sum() > 10 and (positive | negative).sum() < len(references)
    logits = np.moveaxis(answer.proposal_logits[0], 2, -1).reshape(-1, 2)
    foreground = logits[:, 1] - logits[:, 0]
    entropy = np.log1p(np.exp(-foreground))[positive].sum() + np.log1p(np.exp(foreground))[negative].sum()
    np.testing.assert_allclose(parts["proposal_class"], [entropy / 10_000], rtol=1e-5)
    side, side_reference = box[2:] - box[:2], references[:, 2:] - references[:, :2]
    move = ((box[:2] + box[2:]) - (references[:, :2] + references[:, 2:])) / 2 / side_reference
    goal = np.concatenate([move, np.log(side / side_reference)], axis=1)
    error = np.abs(answer.proposal_deltas[0].reshape(-1, 4) - goal)[positive]
    smooth = np.where(error < 1, error**2 / 2, error - 0.5).sum()
    np.testing.assert_allclose(parts["proposal_box"], [3 * smooth / 10_000], rtol=1e-4)


def test_anchors_outside_the_true_size_do_not_train(tiny_detector):
    answer = maps(tiny_detector, 1)
    data = batch([((2, 2, 18, 18), 0, True)], size=(20, 31))  # 2 x 2 cells

    def total(logits, deltas):
        moved = answer._replace(proposal_logits=logits, proposal_deltas=deltas)
        training = dataclasses.replace(TRAINING, rpn_batch=10_000)
        return sum(part.sum() for part in _proposal_loss(tiny_detector, training, moved, data, keys(1)).values())

    for gradient in jax.grad(total, (0, 1))(answer.proposal_logits, answer.proposal_deltas):
        assert (gradient[:, 2:] == 0).all() and (gradient[:, :, 2:] == 0).all() and (gradient[:, :2, :2] != 0).any()


def test_box_loss_by_hand(tiny_detector):
    logits = np.array([[[2.0, 0, 0, 1], [0, 1, 0, 0], [9, 9, 9, 9]]], np.float32)
    deltas = np.array([[[0.5, 0, 0, 0], [5, 5, 5, 5], [7, 7, 7, 7]]], np.float32)
    rois = np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]], np.float32)
    goals = np.array([[[1, 0, 11, 10], [0, 0, 0, 0], [0, 0, 0, 0]]], np.float32)  # dx = 1 px: 0.1 / 0.1 = 1
    parts = box_loss(tiny_detector, TRAINING, logits, deltas, rois, (np.array([[3, 0, -1]]), goals))
    entropy = np.log(np.exp([2, 0, 0, 1]).sum()) - 1 + np.log(np.exp([0, 1, 0, 0]).sum())
    np.testing.assert_allclose(parts["box_class"], [entropy / 12], rtol=1e-5)
    np.testing.assert_allclose(parts["box"], [0.5**2 / 2 / 12], rtol=1e-4)


def test_hard_rois_by_hand(tiny_detector):
    """The two of the four RoIs that cost most; a box that is far off makes an object of a sure class a hard one."""
    logits = np.zeros((1, 5, 4), np.float32)
    logits[0, :, 0] = [5, 0, 3, 0, 0]
    deltas = np.zeros((1, 5, 4), np.float32)
    logits[0, 1, 2], deltas[0, 1] = 9, 3
    label = np.array([[0, 2, 0, 0, -1]])  # the last would cost most of the background, but is not used
    logits[0, 4] = [0, 50, 0, 0]
    rois = np.tile(np.float32([0, 0, 10, 10]), (1, 5, 1))
    training = dataclasses.replace(TRAINING, roi_batch=2, hard_rois=True)
    parts = box_loss(tiny_detector, training, logits, deltas, rois, (label, rois))
    np.testing.assert_allclose(parts["box"], [4 * 2.5 / 2], rtol=1e-5)
    np.testing.assert_allclose(parts["box_class"], [(np.log(np.exp(9) + 3) - 9 + np.log(4)) / 2], rtol=1e-5)

    def total(logits, deltas):
        return sum(v.sum() for v in box_loss(tiny_detector, training, logits, deltas, rois, (label, rois)).values())

    to_logits, to_deltas = jax.grad(total, (0, 1))(jnp.asarray(logits), jnp.asarray(deltas))
    assert np.abs(to_logits[0]).max(axis=1).astype(bool).tolist() == [False, True, False, True, False]
    assert np.abs(to_deltas[0]).max(axis=1).astype(bool).tolist() == [False, True, False, False, False]


def test_all_candidates(tiny_detector):
    """The proposals and after them the boxes: trainable ones are objects, others are not used."""
    boxes = [(8, 8, 24, 24), (30, 30, 60, 60), (2, 40, 20, 60)]
    data = batch([(boxes[0], 2, True), (boxes[1], 0, False), (boxes[2], 1, True)])
    rois, (label, goals) = _roi_candidates(tiny_detector, TRAINING, maps(tiny_detector, 1), data)
    assert rois.shape == (1, 16 + 4, 4) and label.shape == (1, 20)
    assert np.asarray(label)[0, 16:].tolist() == [3, -1, 2, -1]
    np.testing.assert_array_equal(np.asarray(goals)[0, [16, 18]], np.float32(boxes)[[0, 2]])


def test_sampled_rois(tiny_detector):
    boxes = [(8, 8, 24, 24), (30, 30, 60, 60), (2, 40, 20, 60)]
    data = batch([(boxes[0], 2, True), (boxes[1], 0, False), (boxes[2], 1, True)], [])
    rois, (label, goals) = _sample_rois(tiny_detector, TRAINING, maps(tiny_detector, 2), data, keys(2))
    rois, label, goals = np.asarray(rois), np.asarray(label), np.asarray(goals)
    assert rois.shape == (2, 12, 4) and label.shape == (2, 12) and goals.shape == (2, 12, 4)
    # The trainable boxes are candidates themselves, so there always is a positive RoI; at most a quarter are.
    assert 1 <= (label[0] > 0).sum() <= 3 and (label[1] <= 0).all() and (label[1] == 0).any()
    for roi, number, goal in zip(rois[0], label[0], goals[0]):
        best = [_iou(roi, np.array(box)) for box in boxes]
        if number > 0:
            assert {3: 0, 2: 2}[int(number)] == int(np.argmax(best)) and max(best) >= 0.5
            np.testing.assert_array_equal(goal, boxes[int(np.argmax(best))])
        elif number == 0:
            assert max(best) <= 0.5
    assert label.min() >= -1


@pytest.mark.parametrize(
    "items",
    [
        [],
        [((8, 8, 40, 40), 1, False)],
        [((0, 0, 64, 64), -1, False)],
        [((8, 8, 40, 40), 1, True), ((30, 30, 30.01, 30.01), 0, True)],
    ],
    ids=["no box", "only out of range", "one ignore region", "a speck"],
)
@pytest.mark.parametrize("size", [(64, 64), (0, 0)])
def test_finite_losses_and_gradients(tiny_detector, items, size):
    data = batch(items, size=size)
    losses, gradients = _losses(tiny_detector, maps(tiny_detector, 1), data)
    for name, value in losses.items():
        assert np.isfinite(value).all() and (value >= 0).all(), name
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if not any(train for _, _, train in items):
        assert losses["proposal_box"] == 0 and losses["box"] == 0
    if size == (0, 0):
        assert losses["proposal_class"] == 0


def test_no_positive_roi_costs_no_box_loss(tiny_detector):
    logits, deltas = np.ones((1, 12, 4), np.float32), np.ones((1, 12, 4), np.float32)
    for label in (0, -1):
        targets = np.full((1, 12), label), np.zeros((1, 12, 4), np.float32)

        def total(logits, deltas, targets=targets):
            rois = np.zeros((1, 12, 4), np.float32)
            return sum(v.sum() for v in box_loss(tiny_detector, TRAINING, logits, deltas, rois, targets).values())

        np.testing.assert_allclose(total(logits, deltas), np.log(4) if label == 0 else 0, rtol=1e-5)
        assert all(np.isfinite(gradient).all() for gradient in jax.grad(total, (0, 1))(logits, deltas))


def test_chips_do_not_influence_each_other(tiny_detector):
    """A row's losses are the same beside any other row, so masking a row leaves the others as they are."""
    row = [((8, 8, 24, 24), 2, True)]
    one, other = batch(row, []), batch(row, [((0, 0, 60, 60), 1, True), ((5, 5, 9, 9), -1, False)])
    answer, changed = maps(tiny_detector, 2), maps(tiny_detector, 2, seed=9)
    changed = Maps(*(np.stack([a[0], b[1]]) for a, b in zip(answer, changed)))
    first = _proposal_loss(tiny_detector, TRAINING, answer, one, keys(2))
    second = _proposal_loss(tiny_detector, TRAINING, changed, other, keys(2))
    for name in first:
        np.testing.assert_allclose(first[name][0], second[name][0], rtol=1e-6)
        assert first[name][1] != second[name][1]


def _losses(config, answer, data):
    """Losses of one chip, and gradients of their sum to every map and to the box head's answers."""
    random = np.random.default_rng(4)
    heads = random.standard_normal((2, 1, TRAINING.roi_batch, 4)).astype(np.float32)
    (_, losses), gradients = _losses_and_gradients((answer, heads), config, data)
    return losses, jax.tree.leaves(gradients)


@partial(jax.jit, static_argnums=1)
@partial(jax.value_and_grad, has_aux=True)
def _losses_and_gradients(answers, config, data):
    answer, heads = answers
    rois, targets = sample_rois(config, TRAINING, answer, data, keys(1, 1))
    parts = proposal_loss(config, TRAINING, answer, data, keys(1))
    parts |= box_loss(config, TRAINING, *heads, rois, targets)
    parts |= {"focus": focus_loss(answer.focus_logits, data.focus)}
    return sum(part.sum() for part in parts.values()), parts


def _iou(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)
