"""Signals: they become exceptions where that is wanted, wait for what must not be cut, and leave no handler behind."""

import os
import signal
import threading

import pytest

from autofocus_jax.command import stopping

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def shell():
    """The handlers of a program that a shell started, whatever the tests run under."""
    before = [(number, signal.getsignal(number)) for number, _ in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


def send(number):
    assert callable(signal.getsignal(number)), "this signal would end the tests"
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_each_signal_is_an_interrupt_with_its_own_exit_code(number, code):
    with pytest.raises(KeyboardInterrupt) as caught, stopping.stoppable():
        send(number)
    assert stopping.exit_code(caught.value) == code
    assert stopping.word(caught.value) == ("interrupted" if code == 130 else f"stopped by {number.name}")
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_what_somebody_else_decided_stays():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with stopping.stoppable():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_it_waits_until_the_work_is_whole(number, code):
    done = []

    def work(value):
        send(number)
        send(signal.SIGINT)  # the impatient press again
        done.append(value)

    with stopping.stoppable():
        before = [signal.getsignal(one) for one, _ in SIGNALS]
        with pytest.raises(KeyboardInterrupt) as caught:
            stopping.whole(work)(3)
        assert [signal.getsignal(one) for one, _ in SIGNALS] == before
    assert done == [3] and stopping.exit_code(caught.value) == code


def test_an_error_of_the_work_comes_first_and_the_handlers_are_back():
    def work():
        raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        stopping.whole(work)()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_is_not_lost_where_the_work_fails(number, code):
    def work():
        send(number)
        raise ValueError("full")

    with stopping.stoppable():
        before = [signal.getsignal(one) for one, _ in SIGNALS]
        with pytest.raises(KeyboardInterrupt) as caught:
            stopping.whole(work)()
        assert [signal.getsignal(one) for one, _ in SIGNALS] == before
    assert stopping.exit_code(caught.value) == code and str(caught.value.__context__) == "full"


def test_outside_of_the_main_thread_nothing_changes():
    seen, before = [], [signal.getsignal(number) for number, _ in SIGNALS]

    def elsewhere():
        with stopping.stoppable(), stopping.requests():
            stopping.whole(lambda: seen.append([signal.getsignal(number) for number, _ in SIGNALS]))()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_first_signal_asks_and_the_handlers_return():
    for number, _ in SIGNALS:
        before = signal.getsignal(number)
        with stopping.requests() as request:
            assert not request(1) and request.signal is None
            send(number)
            assert request(2) and request(3) and request.signal == number
            assert signal.getsignal(number) is before
        with pytest.raises(ZeroDivisionError), stopping.requests():
            assert signal.getsignal(number) is not before
            raise ZeroDivisionError
        assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping.requests() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert not request(1) and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_second_signal_ends_the_program(number, code):
    with pytest.raises(KeyboardInterrupt) as caught, stopping.stoppable(), stopping.requests() as request:
        for _ in range(2):
            send(number)
            assert request(1)
    assert stopping.exit_code(caught.value) == code


def test_work_that_may_be_left_undone_gives_way():
    with stopping.requests() as request:
        request.give_way(3)
        send(signal.SIGTERM)
        with pytest.raises(stopping.Stopped) as caught:
            request.give_way(7)
    assert stopping.exit_code(caught.value) == 143
    assert stopping.word(caught.value) == "stopped by SIGTERM after step 7; everything is saved"


def test_several_processes_ask_each_other():
    """After every step, and signals are left to JAX."""
    asked = []
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    with stopping.requests(lambda: asked.append(len(asked)) or len(asked) == 3) as request:
        assert [signal.getsignal(number) for number, _ in SIGNALS] == before
        assert [request(step) for step in (11, 12, 13, 14)] == [False, False, True, True]
    assert len(asked) == 3 and request.signal == signal.SIGTERM
