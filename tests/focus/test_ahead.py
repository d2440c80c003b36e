"""Work ahead of whoever asks: in order, bounded, and ended with the generator."""

import threading

import pytest

from autofocus_jax.focus.ahead import ahead


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (16, 1), (2, 5), (4, 100)])
def test_in_order_and_bounded(threads, most):
    taken = []

    def tasks():
        for number in range(30):
            taken.append(number)
            yield lambda number=number: number

    for expected, found in enumerate(ahead(tasks(), threads, most)):
        assert found == expected and len(taken) <= expected + 1 + most
    assert taken == list(range(30))


def test_tasks_run_at_the_same_time():
    together = threading.Barrier(3, timeout=60)
    assert list(ahead([together.wait] * 3, 3, 3)) in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])


def test_an_error_comes_in_its_place_and_ends_the_threads():
    before = threading.active_count()

    def broken():
        raise KeyError("the disk")

    found = ahead([lambda: 1, broken, lambda: 3], 2, 4)
    assert next(found) == 1
    with pytest.raises(KeyError, match="the disk"):
        next(found)
    left = ahead([lambda: 1] * 9, 2, 4)
    next(left)
    left.close()
    assert threading.active_count() == before


def test_nothing_to_do():
    assert list(ahead([], 2, 4)) == []
