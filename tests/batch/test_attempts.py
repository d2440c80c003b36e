"""Workers that die: when a piece is done image by image, and which image is left out."""

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
    watch.end(7)
    assert watch.begin(7) == (1, False, ())
