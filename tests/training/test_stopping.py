"""Signals as requests: the first one asks, the second one does what it always did."""

import os
import signal
import threading

import pytest

from autofocus_jax.training import stopping


@pytest.fixture(autouse=True)
def usual_handlers():
    """Also where the tests run in the background, where a shell makes programs ignore Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping.requests() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert not request(1) and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_the_first_signal_asks(number):
    before = signal.getsignal(number)
    with stopping.requests() as request:
        assert not request(1) and request.signal is None
        os.kill(os.getpid(), number)
        assert request(2) and request(3) and request.signal == number
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_the_second_ctrl_c_interrupts():
    with pytest.raises(KeyboardInterrupt), stopping.requests() as request:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            assert request(1)


def test_handlers_return_when_the_run_ends_or_fails():
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with stopping.requests():
        assert [signal.getsignal(number) for number in stopping.SIGNALS] != before
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
    with pytest.raises(ZeroDivisionError), stopping.requests():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_another_thread_than_the_main_one_catches_nothing():
    answers = []

    def run():
        before = signal.getsignal(signal.SIGTERM)
        with stopping.requests() as request:
            answers.append(signal.getsignal(signal.SIGTERM) == before and not request(1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [True]


def test_several_processes_ask_each_other(monkeypatch):
    """After every step, and SIGTERM is left to JAX."""
    asked = []
    monkeypatch.setattr(stopping.parallel, "asked_to_stop", lambda: asked.append(len(asked)) or len(asked) == 3)
    before = signal.getsignal(signal.SIGTERM)
    with stopping.requests(processes=2) as request:
        assert signal.getsignal(signal.SIGTERM) == before
        assert [request(step) for step in (11, 12, 13, 14)] == [False, False, True, True]
    assert len(asked) == 3 and request.signal == signal.SIGTERM
