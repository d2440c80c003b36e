"""What hides what, and the boxes that follow from it, on hand-drawn squares."""

import numpy as np

from autofocus_jax.scenes.canvas import blank_canvas, ground_truth, put, take
from autofocus_jax.scenes.sprites import Sprite

LIGHT = np.array([0.0, -1.0])


def canvas():
    return blank_canvas(np.full((60, 80, 3), 100, np.uint8))


def square(x: int, y: int, side: int = 20) -> Sprite:
    colour = np.full((side, side, 3), 200, np.float32)
    box = np.array([x + 0.25, y, x + side, y + side])  # a sub-pixel extent, as polygons have
    return Sprite(colour, np.ones((side, side), np.float32), x, y, box)


def add(target, sprite: Sprite, label: int = 3) -> bool:
    return put(np.random.default_rng(0), target, sprite, label, LIGHT)


def test_a_whole_object_keeps_its_exact_extent():
    target = canvas()
    assert add(target, square(30, 10))
    truth = ground_truth(target, None)
    np.testing.assert_array_equal(truth.boxes, [[30.25, 10, 50, 30]])
    assert truth.labels.tolist() == [3] and truth.ignore.tolist() == [False]
    assert (target.image[10:30, 30:50] == 200).all()
    assert (target.image[:8] == 100).all() and (target.image[30, 32:48] < 100).all()  # a shadow, away from the light


def test_an_object_that_is_partly_hidden_has_the_box_of_what_is_seen():
    target = canvas()
    assert add(target, square(30, 10))
    assert take(target, (slice(0, 60), slice(43, 80)), np.ones((60, 37), bool), 0)  # hides 7 of 20 columns
    np.testing.assert_array_equal(ground_truth(target, None).boxes, [[30.25, 10, 43, 30]])


def test_nothing_may_hide_too_much():
    target = canvas()
    assert add(target, square(30, 10))
    before = target.image.copy(), target.owner.copy()
    assert not take(target, (slice(0, 60), slice(41, 80)), np.ones((60, 39), bool), 0)  # 9 of 20 columns
    assert not add(target, square(30, 12))
    np.testing.assert_array_equal(target.image, before[0])
    np.testing.assert_array_equal(target.owner, before[1])
    assert add(target, square(44, 10), 5)  # 6 columns, and then no more
    assert not take(target, (slice(0, 60), slice(0, 35)), np.ones((60, 35), bool), 0)
    np.testing.assert_array_equal(ground_truth(target, None).boxes, [[30.25, 10, 44, 30], [44.25, 10, 64, 30]])


def test_objects_at_the_image_border():
    target = canvas()
    assert add(target, square(-4, 10))
    np.testing.assert_array_equal(ground_truth(target, None).boxes, [[0, 10, 16, 30]])
    assert not add(target, square(-6, 35))
    assert not add(target, square(-20, 35)) and not add(target, square(80, 35))
    assert add(target, square(62, 42))
    np.testing.assert_array_equal(ground_truth(target, None).boxes[1], [62.25, 42, 80, 60])


def test_what_is_not_annotated_and_what_is_forbidden():
    target = canvas()
    assert add(target, square(30, 10), -1)
    assert ground_truth(target, None).boxes.shape == (0, 4)
    target.whole[1] = 0
    assert not add(target, square(48, 28))  # touches four pixels of it
    truth = ground_truth(target, (np.array([-3.0, 1, 20, 99]), 7))
    np.testing.assert_array_equal(truth.boxes, [[0, 1, 20, 60]])
    assert truth.labels.tolist() == [7] and truth.ignore.tolist() == [True]
