"""Workers that die: when a piece is done image by image, and which image is left out."""

import pytest

from autofocus_jax.batch.attempts import Attempts


def test_a_piece_is_done_one_by_one_after_two_deaths():
    watch = Attempts()
    assert [watch.begin(7).one_by_one for _ in range(3)] == [False, False, True]
    assert not watch.begin(8).one_by_one


def test_an_image_is_left_out_after_two_deaths_at_it():
    watch = Attempts()
    for _ in range(3):
        care = watch.begin(7)
    assert care.deadly == ()
    watch.at(7, 0)
    watch.at(7, 1)  # dies
    assert watch.begin(7).deadly == ()
    watch.at(7, 0)
    watch.at(7, 1)  # dies again
    care = watch.begin(7)
    assert care.deadly == (1,) and care.one_by_one
    watch.at(7, 0)
    watch.at(7, 2)  # another one: once is not enough
    assert watch.begin(7).deadly == (1,)


def test_the_end_forgets():
    watch = Attempts()
    for _ in range(3):
        watch.begin(7)
    watch.at(7, 4)
    watch.end(7, None)
    assert watch.begin(7) == (1, False, (), False, None)


def test_what_was_done_is_not_done_again():
    """A task of several pieces is tried anew as a whole."""
    watch = Attempts()
    watch.begin(7)
    watch.end(7, (7, 512))
    assert watch.begin(7).done == (7, 512) and watch.begin(7).done == (7, 512) and watch.begin(8).done is None
    watch.heard(7)
    assert watch.begin(7) == (1, False, (), False, None)


@pytest.mark.parametrize("places", [[], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_a_piece_is_given_up_when_no_image_is_to_blame(places):
    """Its workers die before the first image, or of another one every time."""
    watch, places = Attempts(), iter(places)
    for _ in range(6):
        assert not watch.begin(7).hopeless
        for place in [next(places, None)]:
            if place is not None:
                watch.at(7, place)
    assert watch.begin(7).hopeless
    watch.end(7, None)
    assert not watch.begin(7).hopeless


def test_a_piece_of_many_deadly_images_is_not_given_up():
    watch = Attempts()
    for _ in range(2):
        watch.begin(7)
    for place in range(20):
        for _ in range(2):
            assert not watch.begin(7).hopeless
            watch.at(7, place)
    assert watch.begin(7) == (43, True, tuple(range(20)), False, None)
    for _ in range(6):  # and now of the last one again, though it is left out: reading past it is too much
        watch.at(7, 19)
        care = watch.begin(7)
    assert care.hopeless
