"""The decisions of the scheduler, on plain numbers."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from autofocus_jax.focus.schedule import Admit, Done, Receive, Send, State, Waiting, decide

START = State(more=True, held=0, window=4, waiting=(), flying=0, concurrency=3)


def after(**changes):
    return decide(START._replace(**changes))


def test_images_come_in_while_there_is_room_and_no_batch_is_full():
    assert after() == Admit()
    assert after(waiting=[Waiting(1, 2, 0)]) == Admit()
    assert after(held=4, flying=1) == Receive()
    assert after(waiting=[Waiting(2, 2, 0)]) == Send(0)
    assert after(more=False) == Done()


def test_full_batches_go_as_long_as_one_more_than_can_run_is_in_flight():
    full = [Waiting(5, 2, 0)]
    assert [after(waiting=full, flying=flying) for flying in range(5)] == [Send(0)] * 4 + [Receive()]
    assert [after(waiting=full, flying=flying, concurrency=1) for flying in range(3)] == [Send(0)] * 2 + [Receive()]


def test_batches_that_are_not_full_go_only_before_the_detector_idles():
    some = {"more": False, "waiting": [Waiting(1, 2, 0)]}
    assert [after(**some, flying=flying) for flying in range(4)] == [Send(0)] * 2 + [Receive()] * 2
    for concurrency in (1, 2):
        assert [after(**some, flying=flying, concurrency=concurrency) for flying in range(2)] == [Send(0), Receive()]


def test_the_fullest_batch_goes_first_then_the_oldest_image_then_the_first_bucket():
    assert after(more=False, waiting=[Waiting(1, 4, 0), Waiting(1, 2, 7)]) == Send(1)
    assert after(waiting=[Waiting(4, 4, 5), Waiting(9, 2, 3)]) == Send(1)
    assert after(waiting=[Waiting(1, 9, 0), Waiting(4, 4, 3), Waiting(2, 2, 3)]) == Send(1)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=12),  # image -> bucket of its chip, by scale
    st.integers(1, 5), st.integers(1, 4), st.lists(st.integers(1, 4), min_size=4, max_size=4),
)  # fmt: skip
def test_every_image_gets_through_within_the_bounds(images, window, concurrency, batches):
    """The whole loop without threads: nothing is lost, and it never waits for what does not come."""
    left, held, queues, flying, through = list(enumerate(images)), {}, [[] for _ in batches], [], []
    sent = Counter()
    while True:
        places = [place for place, queue in enumerate(queues) if queue]
        waiting = [Waiting(len(queues[place]), batches[place], queues[place][0]) for place in places]
        action = decide(State(bool(left), len(held), window, waiting, len(flying), concurrency))
        match action:
            case Admit():
                number, scales = left.pop(0)
                held[number] = list(scales)
                queues[held[number].pop(0)].append(number)
            case Send(position):
                queue, size = queues[places[position]], batches[places[position]]
                batch, queue[:] = queue[:size], queue[size:]
                flying.append(batch)
                sent.update(batch)
            case Receive():
                for number in flying.pop(0):
                    if held[number]:
                        queues[held[number].pop(0)].append(number)
                    else:
                        del held[number]
                        through.append(number)
            case Done():
                break
        assert len(held) <= window and len(flying) <= concurrency + 1
    assert sorted(through) == list(range(len(images))) and not flying and not any(queues)
    assert sent == Counter({number: len(scales) for number, scales in enumerate(images)})
